"""Parse a response: `language NAME<asr_text>TEXT`, or TEXT alone where the prompt named the language.

Source: the qwen-asr package, with its guards against repetitions.
"""

import re
from typing import NamedTuple

from runtime_check.run.system import AUTO_LANGUAGE, Task

from .prompt import LANGUAGES, TAG

LONGEST_RUN = 20  # of equal characters that stay as they are
COPIES = 20  # of a pattern, from which on one of them is kept
RUN = re.compile(rf"(.)\1{{{LONGEST_RUN},}}", re.DOTALL)
REPEATED = re.compile(rf"(.{{1,20}}?)\1{{{COPIES - 1},}}", re.DOTALL)
SHORTEST = 2 * COPIES  # characters from a repetition to the end
NAMES_LANGUAGE, NO_LANGUAGE = "language ", "language none"


class Transcript(NamedTuple):
    """The language that a response names, empty if it names none, and its text."""

    language: str
    text: str


def parse(response: str, task: Task) -> Transcript:
    """Parse a response without special tokens, as that to `task`."""
    response = collapse(response.strip())
    if not response:
        return Transcript("", "")
    if task.language != AUTO_LANGUAGE:
        return Transcript(LANGUAGES[task.language], response)
    head, tag, text = response.partition(TAG)
    if not tag:
        return Transcript("", response)
    return Transcript("" if NO_LANGUAGE in head.lower() else language_in(head), text.strip())


def language_in(head: str) -> str:
    """The language in the first line of `head` that names one, capitalised; empty if none does."""
    lines = (line.strip() for line in head.splitlines())
    named = (line[len(NAMES_LANGUAGE) :].strip() for line in lines if line.lower().startswith(NAMES_LANGUAGE))
    return next(named, "").capitalize()


def collapse(text: str) -> str:
    """Collapse repetitions that do not end by themselves: runs of more than LONGEST_RUN equal characters, then COPIES
    or more copies of up to 20 characters."""
    text = RUN.sub(r"\1", text)
    last = len(text) - SHORTEST  # a repetition that begins later is too short to be one
    return REPEATED.sub(lambda found: found[1] if found.start() <= last else found[0], text)
