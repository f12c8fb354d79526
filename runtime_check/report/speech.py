"""What was spoken, or written in reply, as text for every report."""

from collections.abc import Iterator
from typing import NamedTuple

from runtime_check.choices import SPEECH, TEXT
from runtime_check.run.records import Check, SpeechFacts


class Words(NamedTuple):
    """What the words of a check are called: what was done, its transcript, and the text that it is compared with."""

    done: str
    transcript: str
    reference: str


TRANSCRIBED = Words("transcribed", "transcript", "spoken")
WORDS = {SPEECH: Words("spoken", "heard", "to be said"), TEXT: Words("replied", "reply", "")}


def words_of(check: Check) -> Words:
    """What the words of a check are called."""
    return WORDS[check.speech.reply] if check.speech else TRANSCRIBED


def speech_text(speech: SpeechFacts) -> str:
    """How something was generated: `24 groups behind a prompt of 19, up to a stop token; seed 0, temperature 0.6`."""
    return "; ".join(_parts(speech))


def _parts(speech: SpeechFacts) -> Iterator[str]:
    end = "up to a stop token" if speech.ended else "without a stop token"
    yield f"{speech.groups} groups behind a prompt of {speech.prompt_groups}, {end}"
    yield ", ".join(
        [f"seed {speech.seed}", *(f"{name.replace('_', ' ')} {x:g}" for name, x in speech.sampling.items())]
    )
    if speech.dropped_forbidden:
        yield f"{speech.dropped_forbidden} draws for which filters had left only forbidden ids"
