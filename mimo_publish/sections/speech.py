"""Speech of a model card: what each file spoke, and what it hears in that."""

from collections.abc import Iterable
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING
from runtime_check.choices import SPEECH

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
