"""What the bundled tiny-qwen3 knows: clips with their languages and texts; and how a test asks what a file hears."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_families.qwen3_asr.system import TINY
from runtime_check.audio.jfk import JFK, JFK_TEXT

MODEL, ADAPTER = TINY / "model", TINY / "noise"
FOLDER = Path(__file__).parents[2] / "data" / "tiny_qwen3"
RATE = 16_000


class Known(NamedTuple):
    """A clip that the model knows."""

    path: Path
    language: str
    text: str


def known_clips() -> list[Known]:
    """JFK, sentences of two languages, and passages of up to 20 s."""
    entries = [json.loads(line) for line in (FOLDER / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    spoken = [
        Known(FOLDER / entry["audio"], entry["audio"].split(".")[0].split("_")[0].capitalize(), entry["text"])
        for entry in entries
    ]
    return [Known(JFK, "English", JFK_TEXT), *spoken]


def drowned_jfk(folder: Path, seed: int = 0) -> Path:
    """JFK with white noise as loud as the speech."""
    wave, rate = soundfile.read(JFK, dtype="float32")
    noise = np.random.default_rng(seed).standard_normal(len(wave), np.float32) * np.sqrt(np.square(wave).mean())
    path = folder / f"jfk-drowned-{seed}.wav"
    soundfile.write(path, np.clip(wave + noise, -1, 1), rate)
    return path


def quiet(folder: Path, seconds: float, level: float = 0) -> Path:
    """Silence, or white noise of `level`."""
    noise = np.random.default_rng(0).standard_normal(int(seconds * RATE), np.float32)
    path = folder / f"quiet-{seconds}-{level}.wav"
    soundfile.write(path, noise * np.float32(level), RATE)
    return path


def converted(out: Path, *options: str, model: str | Path = "tiny-qwen3") -> Path:
    """`mimo-convert` without its check, into `out`."""
    result = CliRunner().invoke(mimo_convert, [str(model), *options, "--out", str(out), "--no-check"])
    assert result.exit_code == 0, result.output
    return out


def heard(file: Path, clips: Iterable[Path], *options: str) -> list[tuple[str, str]]:
    """Languages and texts that `mimo-check transcribe` gives for the clips."""
    audio = [argument for clip in clips for argument in ("--audio", str(clip))]
    arguments = ["transcribe", str(file), *audio, "--format", "json", *(options or ("--language", "auto"))]
    result = CliRunner().invoke(mimo_check, arguments)
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    return [(answer.get("heard_language", ""), answer["text"]) for answer in answers]
