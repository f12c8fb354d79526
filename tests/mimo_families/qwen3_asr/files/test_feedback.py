"""Error feedback, from clips to a file: of a head that is its embedding, and of clips that nobody speaks in."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mimo_commands.calibrate import main as mimo_calibrate
from mimo_commands.check import main as mimo_check
from mimo_convert.plan.feedback import feedback_of_text
from quantize.feedback.choice import PLAIN
from quantize.feedback.library import variants
from runtime_check.audio.wave import Wave
from tests.readers import gguf_metadata, gguf_tensors

from ..tiny_clips import converted, known_clips

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")

FILE = "qwen3-asr-q4_k.gguf"
SELECTED = "clips for selection have a level that hardly changes, as noise has: nothing is chosen by them"


def calibrated(folder: Path, clips: Iterable[tuple[Wave, int, str]]) -> tuple[Path, str]:
    """A calibration with second moments, of waves with their rates and texts, and what was said; a file is made of
    it."""
    manifest, calibration = folder / "clips.jsonl", folder / "speech.gguf"
    with manifest.open("w") as lines:
        for i, (wave, rate, text) in enumerate(clips):
            soundfile.write(folder / f"{i}.wav", np.clip(wave, -1, 1), rate)
            lines.write(json.dumps({"audio": f"{i}.wav", "text": text}) + "\n")
    options = ["--audio", str(manifest), "--language", "english", "--hessian", "-o", str(calibration)]
    result = CliRunner().invoke(mimo_calibrate, ["tiny-qwen3", *options])
    assert result.exit_code == 0, result.output
    converted(folder, "--outtype", "q4_k", "--imatrix", str(calibration), "--feedback")
    return calibration, result.stderr


def methods_of(file: Path) -> dict[str, str]:
    return feedback_of_text(str(gguf_metadata(file)["mimo_convert.feedback"]))


def spoken() -> Iterator[tuple[Wave, int, str]]:
    random = np.random.default_rng(0)
    for i, clip in enumerate(3 * [clip for clip in known_clips() if clip.language == "English"][1:]):
        wave, rate = soundfile.read(clip.path, dtype="float32")
        noise = random.standard_normal(len(wave), np.float32)
        yield wave + np.float32(0.001 * (i + 1)) * noise, rate, clip.text


def noise() -> Iterator[tuple[Wave, int, str]]:
    """White noise, each as loud as speech, with a text that somebody made up."""
    random = np.random.default_rng(0)
    for _ in range(8):
        yield np.float32(0.1) * random.standard_normal(48_000, np.float32), 16_000, "and so my fellow americans"


def test_both_tensors_of_a_tied_head_are_as_the_file_records_and_its_check_finds(tmp_path: Path) -> None:
    calibration, said = calibrated(tmp_path, spoken())
    assert SELECTED not in said
    methods, tensors = methods_of(tmp_path / FILE), gguf_tensors(tmp_path / FILE)
    embedding, head = "token_embd.weight", "output.weight"
    assert methods[embedding] == methods[head] != PLAIN
    assert bytes(tensors[embedding].data) == bytes(tensors[head].data)
    checkpoint = ("--checkpoint", "tiny-qwen3", "--imatrix", str(calibration))
    checked = CliRunner().invoke(mimo_check, [str(tmp_path / FILE), *checkpoint])
    assert checked.exit_code == 0, checked.output


def test_of_clips_of_noise_alone_everything_stays_plain(tmp_path: Path) -> None:
    _, said = calibrated(tmp_path, noise())
    assert f"2 of 2 {SELECTED}" in said
    methods = methods_of(tmp_path / FILE)
    assert len(methods) == 16
    assert set(methods.values()) == {PLAIN}
