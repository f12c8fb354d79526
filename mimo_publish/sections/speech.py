"""Speech of a model card: what each file spoke, what it hears in that, and how its heads choose codes."""

from collections.abc import Iterable
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING
from runtime_check.choices import SPEECH
from runtime_check.run.records import HeadResult

from ..card_parts import File, rate_text


class Utterance(NamedTuple):
    """What the file `file` spoke for a task: the text that was to be said, and what is heard."""

    file: str
    task: str
    seconds: float
    text: str
    heard: str
    word_error_rate: str


def utterances_of(files: Iterable[File]) -> list[Utterance]:
    """What every file spoke, in the order of the checks."""
    return [
        Utterance(
            file.name, check.task.name, check.speech.seconds, check.clip.text or NOTHING, check.transcript or NOTHING,
            rate_text(check.words),
        )
        for file in files
        for check in file.checks
        if check.speech and check.speech.reply == SPEECH and check.main.role == file.role
    ]  # fmt: skip


class HeadRow(NamedTuple):
    """A head of the file `file` under teacher forcing for a task."""

    file: str
    task: str
    head: HeadResult


def heads_of(files: Iterable[File]) -> list[HeadRow]:
    """The heads of every file that was compared while it spoke, in the order of the checks."""
    return [
        HeadRow(file.name, check.task.name, head)
        for file in files
        for check in file.checks
        if check.main.role == file.role
        for head in check.heads
    ]
