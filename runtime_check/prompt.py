"""Codes and a template become the prompt: (9, T) ids, row 0 text, rows 1..8 codes, T a multiple of the group size.

Both sides build their prompt here, each with its own text tokenizer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_convert.models.mimo_asr import SpeechLMDims
from quantize.errors import InputError

TEMPLATE = "Please transcribe this audio file"  # upstream picks one at random; a reproducible run pins this one
LANGUAGE_TAGS = {"english": "<english>", "chinese": "<chinese>", "auto": ""}
NO_TEXT = -100  # row 0 at the positions of a group that carry no text id
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
REMOVED_FROM_TRANSCRIPT = ("<|empty|>", "<|eot|>", "<|eostm|>", "<english>", "<chinese>")

Ids = npt.NDArray[np.int32]
Encode = Callable[[str], list[int]]


def build_prompt(codes: npt.NDArray[Any], encode: Encode, d: SpeechLMDims, language: str = "english") -> Ids:
    """The prompt for `codes` of shape (frames, channels): int32 (1 + channels, T).

    `encode` turns one segment into token ids; each segment is tokenized on its own. Codes are padded to whole groups by
    repeating the last frame. Raises InputError if the prompt exceeds the model's context.
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


def with_answer(prompt: Ids, answer: Sequence[int], d: SpeechLMDims) -> Ids:
    """The prompt and the tokens of an answer behind it, a group each: what a decoder with a cache has read by then."""
    return np.concatenate([prompt, _text_groups(answer, d)], axis=1)


def check_room(n_groups: int, d: SpeechLMDims, where: object = "audio", seconds: float = 0) -> None:
    """Whether a prompt of so many groups leaves room for an answer. Raises InputError.

    `seconds` is how much sound there is room for, where that is known.
    """
    if n_groups >= d.max_position_embeddings:
        most = f"at most about {seconds:.0f} s of sound" if seconds >= 1 else "a shorter clip"
        raise InputError(
            where, f"needs a prompt of {n_groups} positions", expected=f"fewer than {d.max_position_embeddings}",
            todo=f"use {most}",
        )  # fmt: skip


def _text_groups(tokens: Sequence[int], d: SpeechLMDims) -> Ids:
    """One group a token: the token, then NO_TEXT; every channel at its zeroemb id, which adds nothing."""
    ids = np.full((1 + d.channels, len(tokens) * d.group_size), NO_TEXT, np.int32)
    ids[0, :: d.group_size] = tokens
    ids[1:] = np.array(d.speech_zeroemb, np.int32)[:, None]
    return ids


def _audio_groups(codes: npt.NDArray[Any], encode: Encode, d: SpeechLMDims) -> Ids:
    """`<|sosp|>`, one `<|empty|>` for each group of code frames, `<|eosp|>`."""
    if codes.ndim != 2 or codes.shape[1] != d.channels or not len(codes):
        raise InputError("codes", f"shape {codes.shape}", expected=f"(frames, {d.channels})")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or (codes > np.array(d.speech_zeroemb)).any():
        raise InputError("codes", "some are no codes of this model", expected=f"whole numbers up to {d.speech_zeroemb}")
    missing = -len(codes) % d.group_size
    frames = np.concatenate([codes, np.repeat(codes[-1:], missing, axis=0)])
    empty = encode("<|empty|>") * (len(frames) // d.group_size)
    speech = _text_groups(empty, d)
    speech[1:] = frames.T
    sosp, eosp = (_text_groups(encode(token), d) for token in ("<|sosp|>", "<|eosp|>"))
    return np.concatenate([sosp, speech, eosp], axis=1)


def clean_transcript(text: str) -> str:
    """A decoded answer, whose stop token is already dropped, without the model's own markers."""
    for marker in REMOVED_FROM_TRANSCRIPT:
        text = text.replace(marker, "")
    return text.strip()
