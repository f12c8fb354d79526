"""Speech by espeak-ng: what is planned, and how rooms and noise change it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from quantize.errors import InputError
from runtime_check.audio.manifests import find_clips
from runtime_check.calibrate.synthetic import (
    PEAK,
    SENTENCES,
    VOICES,
    Spoken,
    check_can_speak,
    in_room,
    plan,
    write_clips,
)

INSTALLED = shutil.which("espeak-ng") is not None
DRY = Spoken(0, "en-us", "words", 155, None, 0.0)


@pytest.mark.parametrize("language", list(SENTENCES))
def test_a_plan_has_every_voice_and_depends_on_the_seed_alone(language: str) -> None:
    planned = plan(language, 15, 0)
    assert {one.voice for one in planned} == set(VOICES[language])
    assert len({one.text for one in planned}) > 0.9 * len(planned)
    assert planned == plan(language, 15, 0) != plan(language, 15, 1)
    assert {one.noise is None for one in planned} == {one.room == 0 for one in planned} == {True, False}


@pytest.mark.parametrize("ratio", [5.0, 20.0])
def test_noise_is_as_loud_as_asked_for(ratio: float) -> None:
    wave = np.sin(np.arange(22050) / 5).astype(np.float32)
    noisy = in_room(wave, 22050, DRY._replace(noise=ratio), np.random.default_rng(0)).astype(np.float64)
    scale = noisy @ wave / (wave @ wave.astype(np.float64))
    rest = noisy - scale * wave
    assert 10 * np.log10((scale * wave).var() / rest.var()) == pytest.approx(ratio, abs=0.5)
    assert np.abs(noisy).max() == pytest.approx(PEAK)


def test_a_room_lets_a_click_decay_by_60_db() -> None:
    click = np.zeros(22050, np.float32)
    click[0] = 1
    heard = in_room(click, 22050, DRY._replace(room=0.5), np.random.default_rng(0))
    loudness = [float(np.sqrt(np.mean(heard[i : i + 500] ** 2))) for i in (200, 10500)]
    assert 20 * np.log10(loudness[1] / loudness[0]) == pytest.approx(-56, abs=3)
    assert not heard[11100:].any() or np.abs(heard[11100:]).max() < 1e-6


def test_a_language_without_sentences_and_a_missing_program_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there are no sentences in welsh; expected english or chinese"):
        check_can_speak("welsh")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"espeak-ng, which would read sentences, is not installed; give recordings"):
        check_can_speak("english")


@pytest.mark.skipif(not INSTALLED, reason="espeak-ng is not installed")
def test_clips_are_written_with_a_manifest_that_says_synthetic(tmp_path: Path) -> None:
    planned = plan("english", 0.1, 3)[:2]
    manifest = write_clips(tmp_path / "speech", planned, 3)
    files = find_clips([manifest])
    assert [(file.speaker, file.text) for file in files] == [(one.voice, one.text) for one in planned]
    assert all(file.is_synthetic and file.seconds > 3 and file.text for file in files)
    first = json.loads(manifest.read_text().split("\n")[0])
    assert set(first) == {"audio", "text", "speaker", "synthetic"}
    again = find_clips([write_clips(tmp_path / "again", planned, 3)])
    assert [file.sha256 for file in again] == [file.sha256 for file in files]
