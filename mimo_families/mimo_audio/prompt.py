"""Build the prompt: (1 + channels, T) ids; row 0 is text, the other rows are codes, T is a multiple of the group size.

Harness and reference build their prompts here, each with its own text tokenizer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError

from .layout import SpeechLMDims
from .stages import NO_TEXT

TEMPLATE = "Please transcribe this audio file"  # upstream picks one at random; a reproducible run pins this one
LANGUAGE_TAGS = {"english": "<english>", "chinese": "<chinese>", "auto": ""}
REMOVED_FROM_TRANSCRIPT = ("<|empty|>", "<|eot|>", "<|eostm|>", "<english>", "<chinese>")

Ids = npt.NDArray[np.int32]
Encode = Callable[[str], list[int]]


def build_prompt(codes: npt.NDArray[Any], encode: Encode, d: SpeechLMDims, language: str = "english") -> Ids:
    """Build the prompt for `codes`, (frames, channels): (1 + channels, T) int32.

    `encode` tokenizes one segment; segments are tokenized separately. Codes are padded to whole groups by repeating the
    last frame. Raises InputError if the prompt exceeds the model's context.
    """
    text = [
        _text_groups(encode("<|im_start|>user\n"), d),
        _audio_groups(codes, encode, d),
        _text_groups(encode(TEMPLATE), d),
        _text_groups(encode("<|im_end|>\n"), d),
        _text_groups(encode("<|im_start|>assistant\n"), d),
        _text_groups(encode("<think>\n\n</think>\n" + LANGUAGE_TAGS[language]), d),
    ]
    ids = np.concatenate(text, axis=1)
    check_room(ids.shape[1] // d.group_size, d)
    return ids


def with_response(prompt: Ids, response: Sequence[int], d: SpeechLMDims) -> Ids:
    """Append response tokens to a prompt, a group each, as incremental decoding does."""
    return np.concatenate([prompt, _text_groups(response, d)], axis=1)


def check_room(n_groups: int, d: SpeechLMDims) -> None:
    """Raise InputError unless a prompt of `n_groups` leaves room for a response."""
    if n_groups >= d.max_position_embeddings:
        raise InputError(
            "audio", f"needs a prompt of {n_groups} positions", expected=f"fewer than {d.max_position_embeddings}",
            todo="use a shorter clip",
        )  # fmt: skip


def _text_groups(tokens: Sequence[int], d: SpeechLMDims) -> Ids:
    """One group per token: the token, then NO_TEXT; every code is its codebook's zeroemb id, which embeds to zero."""
    ids = np.full((1 + d.channels, len(tokens) * d.group_size), NO_TEXT, np.int32)
    ids[0, :: d.group_size] = tokens
    ids[1:] = np.array(d.speech_zeroemb, np.int32)[:, None]
    return ids


def _audio_groups(codes: npt.NDArray[Any], encode: Encode, d: SpeechLMDims) -> Ids:
    """`<|sosp|>`, one `<|empty|>` per group of code frames, `<|eosp|>`."""
    if codes.ndim != 2 or codes.shape[1] != d.channels or not len(codes):
        raise InputError("codes", f"shape {codes.shape}", expected=f"(frames, {d.channels})")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or (codes > np.array(d.speech_zeroemb)).any():
        raise InputError(
            "codes", "some are not codes of this model", expected=f"whole numbers up to {d.speech_zeroemb}"
        )
    missing = -len(codes) % d.group_size
    frames = np.concatenate([codes, np.repeat(codes[-1:], missing, axis=0)])
    empty = encode("<|empty|>") * (len(frames) // d.group_size)
    speech = _text_groups(empty, d)
    speech[1:] = frames.T
    sosp, eosp = (_text_groups(encode(token), d) for token in ("<|sosp|>", "<|eosp|>"))
    return np.concatenate([sosp, speech, eosp], axis=1)


def spoken(text: str) -> str:
    """A reference text as the model's response: with a leading space."""
    return f" {text.strip()}"


def clean_transcript(text: str) -> str:
    """A decoded response without the model's markers."""
    for marker in REMOVED_FROM_TRANSCRIPT:
        text = text.replace(marker, "")
    return text.strip()
