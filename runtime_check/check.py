"""One check: run the files on a clip, compare every stage with the reference, and say what was found."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from mimo_convert.disk import sha256_of
from mimo_convert.gguf_file import GGUFFile
from mimo_convert.model_file import (
    is_asr_only,
    is_fused,
    quantizer_text,
    quantizers_of_file,
    recorded_rules,
    type_of_file,
)
from mimo_convert.models import family_named
from mimo_convert.provenance import Provenance, provenance_of
from quantize.errors import InputError

from .activations import ANSWER, CACHED_LOGITS, CODES, GREEDY, PROMPT, Activations, Stages, is_of_tokenizer
from .compare import Comparison, compare
from .differences import Words, count_words
from .speech_lm import SpeechLM
from .transcribe import Clip, Harness

ABOUT = ("license", "languages", "tags")  # general.* keys that a model card repeats

# The reference for an answer, token ids (None: the clip is not answered).
MakeReference = Callable[[Sequence[int] | None], Activations]


@dataclass(frozen=True)
class FileFacts:
    """A GGUF file as the report shows it; `type` is the type that most weights of its matrices have.

    `quantizer` is what made its blocks; empty where there are none, or the file does not say. So is what else it says
    of how it was made: `outtype` and `rules` are what its types follow from.
    """

    path: Path
    size: int
    sha256: str
    architecture: str
    type: str
    outtype: str
    rules: tuple[str, ...]
    bits_per_weight: float
    tensor_types: dict[str, int]
    layout: str
    asr_only: bool
    quantizer: str
    provenance: Provenance
    about: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """The result. `comparison` is None without a reference; `words` where it is not known what is said.

    `pieces` is each token of the answer that was followed as text.
    """

    speech_lm: FileFacts | None
    audio_tokenizer: FileFacts
    clip: Clip
    run: Activations
    reference: Activations | None
    comparison: Comparison | None
    words: Words | None
    pieces: Sequence[str] = ()

    @property
    def passed(self) -> bool | None:
        """Whether every gate was reached; None if there was no reference to compare with."""
        return None if self.comparison is None else self.comparison.passed


@dataclass(frozen=True)
class Pair:
    """Files ready to run, and what a report says of them."""

    harness: Harness
    speech_lm: FileFacts | None
    audio_tokenizer: FileFacts


def open_pair(harness: Harness) -> Pair:
    """The harness's files with their facts; reads each once, for its hash."""
    return Pair(harness, file_facts(harness.lm.file) if harness.lm else None, file_facts(harness.tokenizer.file))


def check(
    pair: Pair,
    clip: Clip,
    reference: MakeReference | None,
    *,
    language: str,
    max_new_tokens: int | None = None,
    keep_stages: bool = False,
) -> Check:
    """Run the files on `clip` and compare. Raises InputError for a reference that does not belong to them.

    Without a reference the run holds every stage only if `keep_stages`.
    """
    harness, lm, tokenizer = pair.harness, pair.speech_lm, pair.audio_tokenizer
    stages_of_run = keep_stages and reference is None
    run = harness.run(clip, language, max_new_tokens or clip.longest_answer, keep_stages=stages_of_run)
    words = None if clip.text is None or lm is None else count_words(clip.text, run.transcript)
    if reference is None:
        return Check(lm, tokenizer, clip, run, None, None, words)

    begin = time.perf_counter()
    theirs = reference(answer_to_follow(harness, run, clip))
    run.timings["reference_s"] = time.perf_counter() - begin
    check_reference(theirs, language, harness.lm)
    ours, pieces = {name: x for name, x in run.stages.items() if is_of_tokenizer(name)}, []
    transcripts = None
    if harness.lm:  # later stages without the noise of earlier ones: the same codes and answer on both sides
        answer = theirs.stages[ANSWER].tolist()
        ours |= harness.follow(run, theirs.stages[CODES], answer, language)
        pieces = harness.lm.text.pieces(answer)
        transcripts = harness.lm.text.transcript(theirs.stages[GREEDY].tolist()), theirs.transcript
    check_stages(theirs, ours)
    hashes = run.origin.vocabulary_sha256, theirs.origin.vocabulary_sha256
    vocabulary_equal = hashes[0] == hashes[1] if lm else None
    comparison = compare(
        ours, theirs.stages, lm.type if lm else "", tokenizer.type, vocabulary_equal, transcripts, theirs.origin.dtype
    )
    if keep_stages:
        run = replace(run, stages=run.stages | ours)
    return Check(lm, tokenizer, clip, run, theirs, comparison, words, pieces)


def answer_to_follow(harness: Harness, run: Activations, clip: Clip) -> Sequence[int] | None:
    """The answer that a reference is to be asked about: the file's own if it came to an end, else what is said."""
    if not harness.lm:
        return None
    text, answer = harness.lm.text, run.stages[GREEDY].tolist()
    ended = answer[-1] in text.stops
    return answer if ended or clip.text is None else text.answer(clip.text)


def check_reference(reference: Activations, language: str, lm: SpeechLM | None) -> None:
    """Whether `reference` was made in this language, with a speech LM, whose ids `lm` has, if one is to be compared."""
    whole = lm is not None
    if whole and PROMPT not in reference.stages:
        raise InputError("reference", "was made from an audio tokenizer alone", expected="one of both models")
    missing = [name for name in ((CODES, GREEDY, ANSWER) if whole else (CODES,)) if name not in reference.stages]
    if missing:
        raise lacking(missing)
    if whole and reference.origin.language != language:
        raise InputError(
            "--language", f"{language}, the reference was made with {reference.origin.language}", todo="give that one"
        )

    for name in (GREEDY, ANSWER) if lm else ():
        if lm and reference.stages[name].max() >= lm.d.vocab_size:
            what = f"stage {name} holds token {reference.stages[name].max()}"
            raise InputError("reference", what, expected=f"ids below {lm.d.vocab_size}, the file's vocab_size")


def check_stages(reference: Activations, ours: Stages) -> None:
    """Whether `reference` holds every stage of ours, so that nothing passes because it was not compared."""
    missing = [name for name in ours if name != CACHED_LOGITS and name not in reference.stages]
    if missing:
        raise lacking(missing)


def lacking(stages: Sequence[str]) -> InputError:
    """What is wrong with a reference that some other version, or something else, has made."""
    return InputError(
        "reference", f"lacks the stages {', '.join(stages)}", todo="make it again with `mimo-check reference`"
    )


def file_facts(file: GGUFFile) -> FileFacts:
    """What a report says of a file; reads it once, for the hash."""
    tensors, outtype, family = file.tensors.values(), type_of_file(file), family_named(file.architecture)
    assert family is not None  # it was opened as one
    matrices: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.shape) == 2 and tensor.name.endswith(".weight"):  # codebooks are named otherwise, and always F32
            matrices[tensor.type.name] += prod(tensor.shape)
    return FileFacts(
        path=file.path,
        size=file.size,
        sha256=sha256_of(file.path),
        architecture=file.architecture,
        type=matrices.most_common(1)[0][0],
        outtype=outtype.name if outtype else "",
        rules=tuple(map(str, recorded_rules(file)[0])),
        bits_per_weight=sum(t.nbytes for t in tensors) * 8 / sum(prod(t.shape) for t in tensors),
        tensor_types=dict(Counter(t.type.name for t in tensors).most_common()),
        layout="fused" if is_fused(file) else "separate",
        asr_only=is_asr_only(file, family),
        quantizer=quantizer_text(quantizers_of_file(file)),
        provenance=provenance_of(file),
        about={name: texts_of(file.metadata.get(f"general.{name}")) for name in ABOUT},
    )


def texts_of(value: Any) -> str | list[str] | None:
    """A metadata value that is a text, or a list of texts; None for any other."""
    if isinstance(value, str):
        return value
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
