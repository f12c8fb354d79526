from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_convert.formats.config import Config
from mimo_families.mimo_tokenizer import front_end as audio
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from mimo_families.mimo_tokenizer import reference
from quantize.errors import InputError
from runtime_check.audio import wave as wave_module
from runtime_check.audio.decode import read_audio
from runtime_check.audio.jfk import JFK
from runtime_check.audio.wave import Wave, resample
from runtime_check.pytorch.audio import resample as torch_resample
from tests.synthetic import TOKENIZER_CONFIG

D = mimo_tokenizer.dimensions(Config(Path("config.json"), TOKENIZER_CONFIG))


@pytest.fixture(scope="module")
def jfk() -> tuple[Wave, int]:
    return read_audio(JFK)


def test_jfk_has_1101_frames_of_128_mels(jfk: tuple[Wave, int]) -> None:
    wave = resample(*jfk, 24000)
    assert len(wave) == 264_000
    assert audio.log_mel(wave, D).shape == (1101, 128)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_format_decodes_to_the_mean_of_its_channels(tmp_path: Path, suffix: str) -> None:
    t = np.arange(48_000) / 24_000
    left, right = 0.5 * np.sin(440 * 2 * np.pi * t), 0.25 * np.sin(440 * 2 * np.pi * t)
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.stack([left, right], axis=1), 24_000)
    wave, rate = read_audio(path)
    assert (wave.ndim, wave.dtype, rate) == (1, np.float32, 24_000)
    middle = slice(8_000, 40_000)
    assert np.abs(wave[middle]).max() == pytest.approx(0.375, abs=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "cannot be decoded as audio"),
        (b"RIFF but not really", "cannot be decoded as audio"),
        ("no samples", "holds no samples"),
        ("NaN", "holds samples that are not finite, or out of range"),
        ("1e38", "holds samples that are not finite, or out of range"),
        ("rate", "has a sampling rate of 800 Hz; expected 1000 to 768000"),
    ],
)
def test_bad_sound_is_one_clear_error(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "clip.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        samples = {"no samples": [], "rate": [0.0]}[content] if content in ("no samples", "rate") else [float(content)]
        soundfile.write(path, np.array(samples, np.float32), 800 if content == "rate" else 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match=message) as error:
        read_audio(path)
    assert str(path) in str(error.value)


@given(rate=st.sampled_from([8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]), n=st.integers(1, 3000))
@settings(deadline=None, max_examples=40)
def test_resampler_equals_pytorch(rate: int, n: int) -> None:
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    ours = resample(wave, rate, 24_000)
    theirs = torch_resample(torch.from_numpy(wave), rate, 24_000).numpy()
    assert len(ours) == -(-n * 24_000 // rate)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_resampled_tone_keeps_its_pitch_and_loudness() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)
    np.testing.assert_allclose(resample(tone, 16_000, 24_000)[100:-100], expected[100:-100], atol=2e-3)


def test_long_clips_resample_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    whole = resample(wave, 16_000, 24_000)
    monkeypatch.setattr(wave_module, "BLOCK", 1000)
    np.testing.assert_array_equal(resample(wave, 16_000, 24_000), whole)


def test_rates_without_a_common_divisor_resample_all_the_same() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(44_101) / 44_101).astype(np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)
    np.testing.assert_allclose(resample(tone, 44_101, 24_000)[100:-100], expected[100:-100], atol=2e-3)
    with pytest.raises(InputError, match="audio: has a sampling rate of 44101 Hz"):
        torch_resample(torch.from_numpy(tone), 44_101, 24_000)


def test_log_mel_equals_pytorch(jfk: tuple[Wave, int]) -> None:
    wave = resample(*jfk, 24_000)
    np.testing.assert_array_equal(audio.mel_filters(D), reference.mel_filters(D).numpy())
    ours, theirs = audio.log_mel(wave, D), reference.log_mel(torch.from_numpy(wave), D).numpy()
    # compared as magnitudes: in the logarithm of a quiet bin the FFT's own last bits are all there is
    np.testing.assert_allclose(np.exp(ours), np.exp(theirs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (100, [960]),  # a clip shorter than a window is padded to one
        (720_000, [720_000]),
        (720_000 + 959, [720_959]),  # a last chunk shorter than a window joins the one before
        (720_000 + 960, [720_000, 960]),
        (2 * 720_000 + 5_000, [720_000, 720_000, 5_000]),
    ],
)
def test_chunks_are_thirty_seconds(samples: int, expected: list[int]) -> None:
    wave = np.arange(samples, dtype=np.float32)
    parts = audio.chunks(wave, D)
    assert [len(part) for part in parts] == expected
    np.testing.assert_array_equal(np.concatenate(parts)[:samples], wave)
    assert [len(part) for part in reference.chunks(torch.from_numpy(wave), D)] == expected
