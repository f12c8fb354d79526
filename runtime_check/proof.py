"""What both command lines do: find the sounds and the reference, then check one pair of files after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantize.errors import InputError

from . import repack
from .activations import Activations
from .check import Check, Pair, check, open_pair
from .references import Reference, choose_language, find_reference
from .sounds import Sound, find_sounds
from .transcribe import Clip, Harness, Work


@dataclass(frozen=True)
class Inputs:
    """What every check of a run shares."""

    sounds: Sequence[Sound]
    reference: Reference | None
    language: str | None = None
    repack: str = repack.AUTO
    max_new_tokens: int | None = None
    keep_stages: bool = False

    @property
    def work(self) -> Work:
        """How much each pair of files has to do."""
        return Work(sum(sound.seconds for sound in self.sounds), len(self.sounds), self.reference is not None)


def prepare(
    reference: str | None, tokenizer: str | None, audio: Sequence[Path], text: str | None = None, dtype: str = "f32"
) -> Inputs:
    """Everything but the files, found and opened before anything long begins. Raises InputError if something is wrong.

    `reference` names a stored one or a checkpoint, with its audio tokenizer's checkpoint `tokenizer`.
    """
    sounds = find_sounds(audio, text)
    if not reference:
        return Inputs(sounds, None)
    found = find_reference(reference, tokenizer, [sound.sha256 for sound in sounds], dtype)
    for sound in sounds:
        if found.origin and found.origin.audio_sha256 != sound.sha256:
            raise InputError(
                sound.path, "is not the sound that the reference was made from", expected=found.origin.audio,
                todo="give that file as --audio, or make a reference with `mimo-check reference`",
            )  # fmt: skip
    return Inputs(sounds, found)


def prove(inputs: Inputs, pairs: Sequence[tuple[Path | None, Path]], threads: int) -> Iterator[Check]:
    """Check each pair of a speech LM (None: the audio tokenizer alone) and an audio tokenizer on every sound.

    A sound's reference is computed once: the others are checked on the answer of the first pair.
    """
    references: dict[str, Activations] = {}
    for lm, tokenizer in pairs:
        harness = Harness(lm, tokenizer, threads, inputs.repack, inputs.work)
        for sound in inputs.sounds:  # one that is too long is known before anything is run
            harness.check_length(sound.path, sound.seconds)
        pair = open_pair(harness)
        for sound in inputs.sounds:
            yield prove_clip(inputs, pair, sound.read(), references if len(pairs) > 1 else {})


def prove_clip(inputs: Inputs, pair: Pair, clip: Clip, references: dict[str, Activations]) -> Check:
    """Check one pair on one clip; `references` are those that are known already, by the hash of their clip."""
    found = inputs.reference
    language = choose_language(inputs.language, found, clip)

    def reference(answer: Sequence[int] | None) -> Activations:
        assert found is not None
        if clip.sha256 not in references:
            references[clip.sha256] = found.activations(clip, language, answer)
        return references[clip.sha256]

    return check(
        pair, clip, reference if found else None,
        language=language, max_new_tokens=inputs.max_new_tokens, keep_stages=inputs.keep_stages,
    )  # fmt: skip
