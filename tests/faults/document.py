"""The table of all defects, as docs/defects.md shows it."""

from pathlib import Path

from benchmarks.document import insert

from .calibrations import calibration_table
from .defect import Defect
from .mimo.decoder import DECODER
from .mimo.harness import HARNESS
from .mimo.metadata import METADATA
from .mimo.speaking import SPEECH
from .mimo.structure import LAYOUT, STRUCTURE
from .mimo.vocabulary import VOCABULARY
from .mimo.wave import WAVE
from .mimo.weights import BLOCKS, ENCODER, WEIGHTS
from .qwen3_asr import QWEN3_ASR
from .qwen3_pair import QWEN3_PAIR

DOCUMENT = Path(__file__).parents[2] / "docs" / "defects.md"


def defects() -> list[Defect]:
    """All of them."""
    of_files = [*VOCABULARY, *METADATA, *STRUCTURE, *LAYOUT, *WEIGHTS, *BLOCKS, *ENCODER, *DECODER]
    return [*of_files, *HARNESS, *WAVE, *SPEECH, *QWEN3_ASR, *QWEN3_PAIR]


PIPE = r"\|"
CAUGHT_BY = ("static", "opening", "checkpoint", "run", "against")


def row(defect: Defect) -> str:
    """A line of the table: commands that say the same stand together."""
    by_text: dict[str, list[str]] = {}
    for name in CAUGHT_BY:
        if text := getattr(defect, name):
            by_text.setdefault(text, []).append(name)
    caught = "<br>".join(", ".join(names) for names in by_text.values())
    said = "<br>".join(f"`` {text} ``".replace("|", PIPE) for text in by_text)
    on = f"{defect.on}, the harness" if defect.replace else defect.on
    return f"| {defect.name.replace('|', PIPE)} | {on} | {caught} | {said} |"


def table() -> list[str]:
    """The whole table, as the document has it."""
    return ["| defect | on | detected by | message |", "| --- | --- | --- | --- |", *map(row, defects())]


def document() -> str:
    """The document with the tables as they are now."""
    text = insert(DOCUMENT.read_text(encoding="utf-8"), "defects", table())
    return insert(text, "calibrations", calibration_table())
