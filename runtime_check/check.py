"""One check: run the files on a clip, compare every stage with the reference, and say what was found."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

import jiwer
import numpy as np

from mimo_convert.gguf_file import GGUFFile
from mimo_convert.model_file import is_fused, quantizer_text, quantizers_of_file
from quantize.errors import InputError

from .activations import CODES, Activations
from .bundled import JFK_SHA256, JFK_TEXT
from .compare import Comparison, compare
from .transcribe import Clip, Harness, read_prompt

HASH_BLOCK = 1 << 24


@dataclass(frozen=True)
class FileFacts:
    """A GGUF file as the report shows it; `type` is the type that most weights of its matrices have.

    `quantizer` is what made its blocks; empty where there are none, or the file does not say.
    """

    path: Path
    size: int
    sha256: str
    type: str
    bits_per_weight: float
    tensor_types: dict[str, int]
    layout: str
    quantizer: str


@dataclass(frozen=True)
class Check:
    """The result. `comparison` is None without a reference; `word_error_rate` where no text is expected."""

    speech_lm: FileFacts | None
    audio_tokenizer: FileFacts
    clip: Clip
    run: Activations
    reference: Activations | None
    comparison: Comparison | None
    expected_text: str | None
    word_error_rate: float | None

    @property
    def passed(self) -> bool | None:
        """Whether every gate was reached; None if there was no reference to compare with."""
        return None if self.comparison is None else self.comparison.passed


def check(
    lm_path: Path | None,
    tokenizer_path: Path,
    clip: Clip,
    reference: Activations | None,
    *,
    language: str,
    max_new_tokens: int,
    threads: int,
    expected_text: str | None = None,
    keep_stages: bool = False,
) -> Check:
    """Run the files on `clip` and compare. Raises InputError for files, or a reference, that do not belong together.

    Without a reference the run holds every stage only if `keep_stages`.
    """
    if reference is not None:
        check_reference(reference, clip, language, whole=lm_path is not None)
    harness = Harness(lm_path, tokenizer_path, threads)
    run = harness.run(clip, language, max_new_tokens, keep_stages=keep_stages or reference is not None)
    lm = file_facts(harness.lm.file) if harness.lm else None
    tokenizer = file_facts(harness.tokenizer.file)

    comparison = None
    if reference is not None:
        ours = dict(run.stages)
        check_stages(reference, run)
        codes = reference.stages[CODES]
        same = codes.dtype == ours[CODES].dtype and np.array_equal(codes, ours[CODES])
        if harness.lm and not same:  # later stages without the noise of earlier ones: the same codes on both sides
            ours |= read_prompt(harness.lm, codes, language, 1, keep_stages=True)[1]
        hashes = run.origin.vocabulary_sha256, reference.origin.vocabulary_sha256
        vocabulary_equal = hashes[0] == hashes[1] if lm else None
        comparison = compare(ours, reference.stages, lm.type if lm else "", tokenizer.type, vocabulary_equal)

    if expected_text is None and clip.sha256 == JFK_SHA256:
        expected_text = JFK_TEXT
    errors = None if expected_text is None or lm is None else word_error_rate(expected_text, run.transcript)
    return Check(lm, tokenizer, clip, run, reference, comparison, expected_text, errors)


def check_reference(reference: Activations, clip: Clip, language: str, *, whole: bool) -> None:
    """Whether `reference` was made from this clip, in this language, with a speech LM if one is to be compared."""
    origin = reference.origin
    if origin.audio_sha256 != clip.sha256:
        raise InputError(
            clip.path, "is not the sound that the reference was made from", expected=origin.audio,
            todo="give that file as --audio, or make a reference with `mimo-check reference`",
        )  # fmt: skip
    if whole and "prompt_ids" not in reference.stages:
        raise InputError("reference", "was made from an audio tokenizer alone", expected="one of both models")
    if whole and origin.language != language:
        raise InputError(
            "--language", f"{language}, the reference was made with {origin.language}", todo="give that one"
        )


def check_stages(reference: Activations, run: Activations) -> None:
    """Whether `reference` holds every stage of `run`, so that nothing passes because it was not compared."""
    missing = [name for name in run.stages if name != "greedy_ids" and name not in reference.stages]
    if missing:
        raise InputError(
            "reference", f"lacks the stages {', '.join(missing)}", todo="make it again with `mimo-check reference`"
        )


def file_facts(file: GGUFFile) -> FileFacts:
    """What a report says of a file; reads it once, for the hash."""
    tensors = file.tensors.values()
    matrices: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.shape) == 2 and tensor.name.endswith(".weight"):  # codebooks are named otherwise, and always F32
            matrices[tensor.type.name] += prod(tensor.shape)
    digest = hashlib.sha256()
    with file.path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
    return FileFacts(
        path=file.path,
        size=file.size,
        sha256=digest.hexdigest(),
        type=matrices.most_common(1)[0][0],
        bits_per_weight=sum(t.nbytes for t in tensors) * 8 / sum(prod(t.shape) for t in tensors),
        tensor_types=dict(Counter(t.type.name for t in tensors).most_common()),
        layout="fused" if is_fused(file) else "separate",
        quantizer=quantizer_text(quantizers_of_file(file)),
    )


def word_error_rate(expected: str, transcript: str) -> float:
    """Words wrong, missing or too many, by the words expected; case and punctuation do not count."""
    words = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces(), jiwer.Strip(),
         jiwer.ReduceToListOfListOfWords()]
    )  # fmt: skip
    return float(jiwer.wer(expected, transcript, reference_transform=words, hypothesis_transform=words))
