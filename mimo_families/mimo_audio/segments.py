"""Segments of a prompt, and how they are laid out: (1 + channels, T) ids; row 0 is text, the other rows are codes, T is
a multiple of the group size.

A segment is tokenized on its own. Source: github.com/XiaomiMiMo/MiMo-Audio, `InputSegment` and `StreamingInputSegment`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError

from .layout import NO_TEXT, SpeechLMDims

SOSP, EOSP, EMPTY = "<|sosp|>", "<|eosp|>", "<|empty|>"  # around a clip; the text of a group of codes
SOSTM, EOSTM, EOT = "<|sostm|>", "<|eostm|>", "<|eot|>"  # around what the model says; the end of its text
RUN = 5  # tokens, or groups, that alternate in what the model says

Ids = npt.NDArray[np.int32]
Codes = npt.NDArray[Any]  # (frames, channels) whole numbers
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Text:
    """A text."""

    text: str


@dataclass(frozen=True)
class Audio:
    """A clip as codes, (frames, channels), between `<|sosp|>` and `<|eosp|>`."""

    codes: Codes


@dataclass(frozen=True)
class Spoken:
    """What the model says: a text and its codes, (frames, channels), in turns, between `<|sostm|>` and `<|eostm|>`."""

    text: str
    codes: Codes


Segment = Text | Audio | Spoken


def lay_out(segments: Iterable[Segment], encode: Encode, d: SpeechLMDims) -> Ids:
    """The ids of the segments, (1 + channels, T) int32. Raises InputError for codes that are not the model's."""
    parts: list[Ids] = []
    for segment in segments:
        match segment:
            case Text(text):
                parts.append(text_groups(encode(text), d))
            case Audio(codes):
                speech = speech_groups(codes, encode, d)
                parts += [text_groups(encode(SOSP), d), speech, text_groups(encode(EOSP), d)]
            case Spoken(text, codes):
                parts += spoken_groups(encode(text), speech_groups(codes, encode, d), encode, d)
    return np.concatenate(parts, axis=1)


def text_groups(tokens: Sequence[int], d: SpeechLMDims) -> Ids:
    """One group per token: the token, then NO_TEXT; every code is its codebook's zeroemb id, which embeds to zero."""
    ids = np.full((1 + d.channels, len(tokens) * d.group_size), NO_TEXT, np.int32)
    ids[0, :: d.group_size] = tokens
    ids[1:] = np.array(d.speech_zeroemb, np.int32)[:, None]
    return ids


def speech_groups(codes: Codes, encode: Encode, d: SpeechLMDims) -> Ids:
    """One `<|empty|>` per group of code frames; codes are padded to whole groups by repeating the last frame."""
    if codes.ndim != 2 or codes.shape[1] != d.channels or not len(codes):
        raise InputError("codes", f"shape {codes.shape}", expected=f"(frames, {d.channels})")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or (codes > np.array(d.speech_zeroemb)).any():
        raise InputError(
            "codes", "some are not codes of this model", expected=f"whole numbers up to {d.speech_zeroemb}"
        )
    missing = -len(codes) % d.group_size
    frames = np.concatenate([codes, np.repeat(codes[-1:], missing, axis=0)])
    speech = text_groups(encode(EMPTY) * (len(frames) // d.group_size), d)
    speech[1:] = frames.T
    return speech


def spoken_groups(tokens: Sequence[int], speech: Ids, encode: Encode, d: SpeechLMDims) -> list[Ids]:
    """Runs of RUN text tokens and runs of RUN groups of `speech`, in turns, the rest of the longer side at the end;
    `<|eot|>` joins the last run of text."""
    runs = [list(tokens[i : i + RUN]) for i in range(0, len(tokens), RUN)] or [[]]
    runs[-1] += encode(EOT)
    width = RUN * d.group_size
    audio = [speech[:, i : i + width] for i in range(0, speech.shape[1], width)]
    nothing = text_groups([], d)
    pairs = zip_longest((text_groups(run, d) for run in runs), audio, fillvalue=nothing)
    between = [part for pair in pairs for part in pair]
    return [text_groups(encode(SOSTM), d), *between, text_groups(encode(EOSTM), d)]
