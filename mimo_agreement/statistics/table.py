"""Answers as a table of files × conditions × clips, which says what counts: pairs that every file has answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mimo_convert.fields import shown
from quantize.errors import InputError

from ..records import Answer, ModelFiles, Pair, SpokenClip
from ..words import unit_of, words_of

Key = tuple[str, str, str]  # SHA-256 of a file, a condition, SHA-256 of a clip
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """`answers` of `files` in `conditions` to `clips`, which stand in the order of their hashes, so that no result
    depends on the order in which answers came. Masks are (conditions, clips)."""

    files: tuple[ModelFiles, ...]
    baseline: int
    conditions: tuple[str, ...]
    clips: tuple[SpokenClip, ...]
    answers: Mapping[Key, Answer]

    def answer(self, file: ModelFiles, condition: str, clip: SpokenClip) -> Answer | None:
        """The answer to a pair, None if there is none."""
        return self.answers.get((file.sha256, condition, clip.sha256))

    def transcript(self, file: ModelFiles, condition: str, clip: SpokenClip) -> str:
        """The transcript of a pair that is answered."""
        return self.answers[file.sha256, condition, clip.sha256].transcript

    def reference(self, condition: str, clip: SpokenClip) -> str:
        """The text of an answered clip, without which its unit could not be told: the baseline's transcript, if its own
        is not known."""
        return clip.text or self.transcript(self.files[self.baseline], condition, clip)

    @cached_property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which pairs have an answer: (files, conditions, clips)."""
        return np.array([
            [[self.answer(file, condition, clip) is not None for clip in self.clips] for condition in self.conditions]
            for file in self.files
        ]).reshape(len(self.files), len(self.conditions), len(self.clips))  # fmt: skip

    @cached_property
    def has_words(self) -> Mask:
        """Which clips have a text with words, once it is normalised: (clips,)."""
        return np.array([bool(clip.text and text_words(clip)) for clip in self.clips], np.bool_)

    @cached_property
    def has_texts(self) -> bool:
        """Whether any clip has a text with words."""
        return bool(self.has_words.any())

    @cached_property
    def counted(self) -> Mask:
        """Which pairs count: those that all files have answered, of clips with a text if any has one."""
        shared: Mask = np.logical_and.reduce(self.answered, axis=0)
        return shared & self.has_words if self.has_texts else shared


def text_words(clip: SpokenClip) -> tuple[str, ...]:
    """The words of a clip's text, or its characters, normalised; empty if it has no text."""
    text = clip.text or ""
    return words_of(text, clip.language, unit_of(clip.language, text))


def table_of(
    files: Sequence[ModelFiles], clips: Sequence[SpokenClip], conditions: Sequence[str],
    answers: Iterable[tuple[Pair, Answer]], baseline: str, seed: int,
) -> Table:  # fmt: skip
    """The table of the answers that are of these files, clips, conditions and seed; others are left out.

    Raises InputError for the same file, clip or condition twice, two answers to one pair (of other settings or
    versions), or a baseline, given by its SHA-256, that is not among the files.
    """
    _only_once("file", [(file.sha256, file.file) for file in files])
    _only_once("clip", [(clip.sha256, clip.name) for clip in clips])
    _only_once("condition", [(condition, condition) for condition in conditions])
    hashes = [file.sha256 for file in files]
    if baseline not in hashes:
        raise InputError("--baseline", f"{shown(baseline)} is not one of the files", expected="the SHA-256 of one")
    companions = {file.sha256: file.companion_sha256 for file in files}
    names, known = {clip.sha256: clip.name for clip in clips}, set(conditions)
    found: dict[Key, Answer] = {}
    for pair, answer in answers:
        if companions.get(pair.lm) != pair.companion or pair.clip not in names or pair.seed != seed:
            continue
        if pair.condition not in known:
            continue
        key = (pair.lm, pair.condition, pair.clip)
        if key in found:
            what = f"has two answers of the file {pair.lm[:12]} in {pair.condition}"
            raise InputError(names[pair.clip], what, expected="answers of the same settings and version")
        found[key] = answer
    in_order = tuple(sorted(clips, key=lambda clip: clip.sha256))
    return Table(tuple(files), hashes.index(baseline), tuple(conditions), in_order, found)


def _only_once(what: str, named: Sequence[tuple[str, str]]) -> None:
    """Raise InputError for a key that stands twice among (key, name)."""
    first: dict[str, str] = {}
    for key, name in named:
        if key in first:
            same = "" if first[key] == name else f", and as {shown(first[key])}"
            raise InputError(name, f"is the same {what} twice{same}", todo="give it once")
        first[key] = name
