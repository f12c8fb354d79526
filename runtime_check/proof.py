"""What both command lines do: find the clip and the reference, then check one pair of files after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantize.errors import InputError

from .check import Check, check
from .references import Reference, choose_language, find_reference
from .transcribe import Clip, read_clip

MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class Inputs:
    """What every check of a run shares."""

    clip: Clip
    reference: Reference | None
    language: str


def prepare(reference: str | None, tokenizer: str | None, audio: Path, language: str | None = None) -> Inputs:
    """Everything but the files, found and opened before anything long begins. Raises InputError if something is wrong.

    `reference` names a stored one or a checkpoint, with its audio tokenizer's checkpoint `tokenizer`.
    """
    clip = read_clip(audio)
    found = find_reference(reference, tokenizer, clip) if reference else None
    return Inputs(clip, found, choose_language(language, found, clip))


def prove(
    inputs: Inputs, pairs: Sequence[tuple[Path | None, Path]], threads: int, max_new_tokens: int = MAX_NEW_TOKENS,
    expected_text: str | None = None, keep_stages: bool = False,
) -> list[Check]:  # fmt: skip
    """Check each pair of a speech LM (None: the audio tokenizer alone) and an audio tokenizer."""
    if expected_text is not None and not any(c.isalnum() for c in expected_text):
        raise InputError("--text", f"{expected_text!r} has no words")
    clip, language = inputs.clip, inputs.language
    reference = inputs.reference.activations(clip, language) if inputs.reference else None
    return [
        check(
            lm, tokenizer, clip, reference,
            language=language, max_new_tokens=max_new_tokens, threads=threads, expected_text=expected_text,
            keep_stages=keep_stages,
        )
        for lm, tokenizer in pairs
    ]  # fmt: skip
