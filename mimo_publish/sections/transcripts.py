"""Transcripts of a model card: the hypothesis of each file on each clip, aligned with the reference text."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING
from runtime_check.report.records import file_name
from runtime_check.run.records import Check
from runtime_check.text.words import Span, WordErrors, align_words

from ..card_parts import File, rate_text


class Hypothesis(NamedTuple):
    """A transcript of a clip and the files that gave it; `spans` is its alignment with the reference, empty if none."""

    files: list[str]
    text: str
    spans: list[Span]
    words: WordErrors | None

    @property
    def word_error_rate(self) -> str:
        return rate_text(self.words)


class Transcripts(NamedTuple):
    """A clip with its hypotheses; `reference` is the reference text, None if it is not known."""

    name: str
    seconds: float
    language: str
    reference: str | None
    hypotheses: list[Hypothesis]

    def word_error_rate(self, name: str) -> str:
        """The word error rate of the file `name`, as text."""
        return next((one.word_error_rate for one in self.hypotheses if name in one.files), NOTHING)


def transcripts_of(files: Iterable[File]) -> list[Transcripts]:
    """The transcripts of every clip, in the order of the checks; clips are told apart by path and sha256. What files
    spoke themselves, or replied, is none of them."""
    runs: dict[tuple[str, str], list[tuple[File, Check]]] = {}
    for file in files:
        for check in (check for check in file.checks if not check.speech):
            runs.setdefault((check.clip.file, check.clip.sha256), []).append((file, check))
    return [_transcripts(of_one) for of_one in runs.values()]


def _transcripts(runs: Sequence[tuple[File, Check]]) -> Transcripts:
    check = runs[0][1]
    by_text: dict[str, list[str]] = {}
    words: dict[str, WordErrors | None] = {}
    for file, run in runs:
        if file.responds and run.main.role == file.role:
            by_text.setdefault(run.transcript or "", []).append(file.name)
            words[run.transcript or ""] = run.words
    reference = check.clip.text
    hypotheses = [
        Hypothesis(names, text, align_words(reference, text) if reference else [], words[text])
        for text, names in by_text.items()
    ]
    return Transcripts(file_name(check.clip.file), check.clip.seconds, check.task.language, reference, hypotheses)
