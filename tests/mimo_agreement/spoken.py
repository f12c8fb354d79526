"""Tiny files of two types with their audio tokenizer, and short clips cut out of JFK, for runs that are real."""

import json
from pathlib import Path

import pytest
import soundfile

from mimo_api import ConvertOptions, convert
from runtime_check.audio.jfk import JFK
from tests.system.once import once

SECONDS = 1.5  # of a clip: its transcript does not matter, only that it is the same everywhere
CLIPS = 7  # babble takes six others
BETTER, SMALLER, TOKENIZER = "mimo-asr-q8_0.gguf", "mimo-asr-q2_k.gguf", "mimo-tokenizer-q8_0.gguf"


def tiny_files(factory: pytest.TempPathFactory) -> Path:
    """A folder with BETTER, SMALLER and TOKENIZER. Shared: copy a file before changing it."""

    def make(out: Path) -> None:
        convert(ConvertOptions("tiny", types=["q8_0", "q2_k"], out=out, checked=False))

    return once(factory, "agreement-tiny", make)


def cut_clips(folder: Path, n: int = CLIPS) -> Path:
    """A manifest of `n` clips in a folder, the longer ones last, each with a text."""
    folder.mkdir(parents=True, exist_ok=True)
    wave, rate = soundfile.read(JFK, dtype="float32")
    lines = []
    for i in range(n):
        begin = i * rate
        soundfile.write(folder / f"{i}.wav", wave[begin : begin + int((SECONDS + i / 10) * rate)], rate)
        lines.append(json.dumps({"audio": f"{i}.wav", "text": f"my fellow Americans {i}", "recording": f"r{i}"}))
    manifest = folder / "clips.jsonl"
    manifest.write_text("\n".join(lines))
    return manifest
