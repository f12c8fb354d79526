"""Log-mel features beside a discrete Fourier transform in float64, and beside PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mimo_convert.formats.config import Config
from mimo_families.qwen3_asr import reference
from mimo_families.qwen3_asr.front_end import chunks, log_mel, n_frames, n_tokens, samples, sinusoids
from mimo_families.qwen3_asr.mel import hann_window, mel_filters
from mimo_families.qwen3_asr.sizes import dimensions
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Wave
from tests.qwen3_checkpoint import REAL_AUDIO, REAL_TEXT, config_values

from . import plain

D = dimensions(Config(Path("config.json"), config_values(REAL_TEXT, REAL_AUDIO)))
FILTERS, WINDOW = mel_filters(D.sample_rate, D.n_fft, D.n_mels), hann_window(D.win_length)
NEAR = 1e-4  # of features of size 1: an FFT in float32 is 1.3e-5 from one in float64 on speech


def ours(wave: Wave, rate: int = 16_000) -> Wave:
    return log_mel(samples(wave, rate, D), FILTERS, WINDOW, D)


def theirs(wave: Wave, rate: int = 16_000) -> Wave:
    return reference.log_mel(reference.samples(Clip(Path("clip.wav"), wave, rate, ""), D), D).numpy()


@pytest.mark.parametrize("n", [401, 15_999, 16_000, 20_123])
def test_features_equal_the_specification(jfk: Clip, n: int) -> None:
    wave = jfk.wave[8000 : 8000 + n]
    expected = plain.features(wave).T
    assert expected.shape == (n // 160, 128)
    for found in (ours(wave), theirs(wave)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=NEAR)


def test_filters_are_slaneys() -> None:
    np.testing.assert_allclose(FILTERS, plain.mel_weights(), atol=1e-8)
    np.testing.assert_allclose(reference.mel_filters(D).numpy(), plain.mel_weights(), atol=1e-8)


def test_jfk_has_1100_frames_and_143_tokens(jfk: Clip) -> None:
    found = ours(jfk.wave)
    assert found.shape == (1100, 128)
    np.testing.assert_allclose(found, theirs(jfk.wave), atol=NEAR)
    assert n_tokens(len(found), D) == 143
    assert found.max() - found.min() <= 2


def test_loud_audio_is_scaled_to_its_peak(jfk: Clip) -> None:
    np.testing.assert_allclose(ours(jfk.wave * 8), theirs(jfk.wave * 8), atol=NEAR)
    assert np.abs(samples(jfk.wave * 8, 16_000, D)).max() == 1
    np.testing.assert_array_equal(samples(jfk.wave, 16_000, D), jfk.wave)


def test_other_rates_are_resampled(jfk: Clip) -> None:
    wave = jfk.wave[:30_000]
    np.testing.assert_allclose(ours(wave, 44_100), theirs(wave, 44_100), atol=NEAR)


@pytest.mark.parametrize("n", [1, 159, 399, 400])
def test_a_clip_shorter_than_a_window_is_padded_to_one(n: int) -> None:
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32) * np.float32(0.1)
    found = ours(wave)
    assert found.shape == (2, 128)
    assert n_frames(n, D) == 2
    np.testing.assert_allclose(found, theirs(wave), atol=NEAR)


def test_silence_has_features() -> None:
    # numpy's logarithm has another last bit with AVX-512
    np.testing.assert_allclose(ours(np.zeros(1600, np.float32)), np.full((10, 128), -1.5), rtol=2e-7)


@pytest.mark.parametrize(
    ("frames", "tokens"),
    [(1, 1), (8, 1), (9, 2), (99, 13), (100, 13), (101, 14), (199, 26), (800, 104), (813, 106), (1100, 143)],
)
def test_tokens_are_an_eighth_of_the_frames_of_each_chunk(frames: int, tokens: int) -> None:
    assert n_tokens(frames, D) == tokens


@pytest.mark.parametrize("n", [57, 100, 250])
def test_chunks_equal_pytorch(n: int) -> None:
    mel = np.random.default_rng(n).standard_normal((n, 128)).astype(np.float32)
    found = chunks(mel, D)
    assert found.shape == (1, 57, 128) if n == 57 else found.shape[1:] == (100, 128)
    np.testing.assert_array_equal(found, reference.chunks(torch.from_numpy(mel), D).numpy())


def test_sinusoids_equal_the_specification() -> None:
    np.testing.assert_allclose(sinusoids(13, 1024), plain.positions(13, 1024), atol=2e-6)
    np.testing.assert_allclose(reference.sinusoids(13, 1024).numpy(), plain.positions(13, 1024), atol=2e-6)
