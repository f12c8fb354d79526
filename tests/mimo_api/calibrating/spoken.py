"""Clips to calibrate with, in packs of a few seconds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from runtime_check.audio.jfk import JFK
from runtime_check.calibrate.per_clip import packs
from tests.mimo_families.qwen3_asr.tiny_clips import known_clips

PACK_SECONDS = 7.0


def write_clips(folder: Path, n: int, seconds: int) -> Path:
    """A manifest of clips in a folder: of English sentences that the model knows, at `n` levels, so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for clip in known_clips():
        if clip.language == "English" and clip.path != JFK and "passage" not in clip.path.name:
            wave, rate = soundfile.read(clip.path, dtype="float32")
            for i in range(n):
                name = f"{clip.path.stem}-{i}.wav"
                soundfile.write(folder / name, wave[: seconds * rate] * (1 - i / (n + 1)), rate)
                lines.append({"audio": name, "text": clip.text, "recording": f"{i}-{clip.path.stem}"})
    (folder / "clips.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder / "clips.jsonl"


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the clips. Shared: copy its folder before changing it."""
    return write_clips(tmp_path_factory.mktemp("calibrated-clips"), n=6, seconds=3)


@pytest.fixture(autouse=True, scope="package")
def small_packs() -> Iterator[None]:
    """Packs are of a few clips, here alone: other tests of this process know how long they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "PACK_SECONDS", PACK_SECONDS)
        yield
