"""Build the prompt of recognition: (1 + channels, T) ids (segments.py).

Harness and reference build their prompts here, each with its own text tokenizer.
"""

from collections.abc import Sequence

import numpy as np

from quantize.errors import InputError

from .layout import SpeechLMDims
from .segments import Audio, Codes, Encode, Ids, Segment, Text, lay_out, text_groups

USER, END = "<|im_start|>user\n", "<|im_end|>\n"
ASSISTANT, NO_THINKING = "<|im_start|>assistant\n", "<think>\n\n</think>\n"
TEMPLATE = "Please transcribe this audio file"  # upstream picks one at random; a reproducible run pins this one
LANGUAGE_TAGS = {"english": "<english>", "chinese": "<chinese>", "auto": ""}
REMOVED_FROM_TRANSCRIPT = ("<|empty|>", "<|eot|>", "<|eostm|>", "<english>", "<chinese>")


def build_prompt(codes: Codes, encode: Encode, d: SpeechLMDims, language: str = "english") -> Ids:
    """Build the prompt for `codes`, (frames, channels): (1 + channels, T) int32.

    `encode` tokenizes one segment. Raises InputError if the prompt exceeds the model's context.
    """
    ids = lay_out(segments_of(codes, language), encode, d)
    check_room(ids.shape[1] // d.group_size, d)
    return ids


def segments_of(codes: Codes, language: str) -> list[Segment]:
    """The segments of the prompt for `codes`, (frames, channels)."""
    last = Text(NO_THINKING + LANGUAGE_TAGS[language])
    return [Text(USER), Audio(codes), Text(TEMPLATE), Text(END), Text(ASSISTANT), last]


def with_response(prompt: Ids, response: Sequence[int], d: SpeechLMDims) -> Ids:
    """Append response tokens to a prompt, a group each, as incremental decoding does."""
    return np.concatenate([prompt, text_groups(response, d)], axis=1)


def check_room(n_groups: int, d: SpeechLMDims) -> None:
    """Raise InputError unless a prompt of `n_groups` leaves room for a response."""
    if n_groups >= d.max_position_embeddings:
        raise InputError(
            "audio", f"needs a prompt of {n_groups} positions", expected=f"fewer than {d.max_position_embeddings}",
            todo="use a shorter clip",
        )  # fmt: skip


def spoken(text: str) -> str:
    """A reference text as the model's response: with a leading space."""
    return f" {text.strip()}"


def clean_transcript(text: str) -> str:
    """A decoded response without the model's markers."""
    for marker in REMOVED_FROM_TRANSCRIPT:
        text = text.replace(marker, "")
    return text.strip()
