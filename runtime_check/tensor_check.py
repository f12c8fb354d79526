"""A GGUF file and the checkpoint, or other file, it was made from → every tensor compared, row by row.

Both are read once, a few rows at a time, in the order in which the source's lie on the disk.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mimo_convert.convert import advance, progress_bar
from mimo_convert.disk import forget
from mimo_convert.model_file import UNKNOWN, quantizers_of_text
from mimo_convert.models import Tensor
from mimo_convert.one_pass import FORGET_BYTES, one_pass
from mimo_convert.plan import Options, make_plan
from mimo_convert.request import Chunk, by_place, chunks
from mimo_convert.stored import StoredTensor, shape_text
from mimo_convert.stored_model import StoredModel, model_of_file
from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, is_float
from quantize.quantizer import CONTRACTED, GGML, SIMD
from quantize.types import F32, Type

from .metadata_check import metadata_problems
from .row_check import OF_GGML, OF_OTHERS, JudgedRows, Rule, Sums, judge_rows, most_telling, relative, usual_error
from .ways import DIRECT, Way, has_good_kernel, ways_of

BYTES, ERROR = "bytes", "error"
ANOTHER = 0.5  # relative RMSE of a tensor every row of which is wrong, from which on it is likely to be another one
SAME_BYTES = frozenset({SIMD, GGML})
ALIKE = 2.0  # times the errors that two types have for ordinary weights: of one and the same row in both


@dataclass(frozen=True)
class TensorResult:
    """A tensor of the file, or the rows of a fused one that are one of the source: how far it is from its source.

    `name` and `type` are as in the file. `rel_rmse` is √(Σ (ours - source)² / Σ source²), infinite where there is
    nothing to relate an error to; `expected_rel_rmse` is that of the source converted to this type here and now, and
    `equal_rows` are the rows that have the very bytes that this gives by the way the file says. `worst_row` is the one
    whose error is the largest multiple of its expected one. `problems` are what is wrong, the first rows of it, in
    words.
    """

    name: str
    type: str
    rows: int
    rel_rmse: float
    expected_rel_rmse: float
    cosine: float
    equal_rows: int
    worst_row: int
    worst_rel_rmse: float
    worst_expected: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class TensorCheck:
    """The result. `lossless`: the source is a checkpoint. `judged_by`: whether blocks were judged by their `bytes`, any
    of which that is changed fails, or by their `error`, and `why`. `problems` are those of the whole: metadata that
    differs, tensors that are missing, too many or of another shape."""

    file: Path
    source: str
    lossless: bool
    judged_by: str
    why: str
    tensors: tuple[TensorResult, ...]
    problems: tuple[str, ...]
    bytes_read: int
    seconds: float

    @property
    def reasons(self) -> list[str]:
        """Everything that is wrong, each with the key or tensor it is about."""
        return [
            *self.problems,
            *(f"tensor {tensor.name}: {problem}" for tensor in self.tensors for problem in tensor.problems),
        ]

    @property
    def passed(self) -> bool:
        return not self.reasons


class Pair(NamedTuple):
    """A tensor of the file and its source."""

    ours: StoredTensor
    source: StoredTensor

    @property
    def nbytes(self) -> int:
        return self.ours.nbytes + self.source.nbytes


def check_against(file: Path, source: StoredModel, threads: int) -> TensorCheck:
    """Compare every tensor, size and token of a GGUF file with what it was made from, or with another file of that.

    Raises InputError for a file that could not be run, of another family than the source, or cut short; and for a
    source that nothing could be converted from.
    """
    begin = time.perf_counter()
    ours = model_of_file(file)
    if ours.family is not source.family:
        raise InputError(file, f"is of {ours.family.gguf}", expected=f"{source.family.gguf}, as {source.where} is")
    asr_only = ours.asr_only or source.asr_only
    plan = make_plan(source, F32, Options(asr_only=asr_only, allow_requantize=True))
    tensors = list(source.family.tensors(source.dims, False, asr_only))
    problems = [*metadata_problems(ours, source), *layout_problems(ours, source, tensors)]
    pairs = {
        i: Pair(found, planned.sources[0])
        for i, (tensor, planned) in enumerate(zip(tensors, plan.tensors, strict=True))
        if (found := ours.tensors.get(tensor.sources[0].name)) and found.shape == tensor.shape
    }
    rule, why = choose_rule(ours, source.is_checkpoint)
    ways = {
        i: ways_of(ours.provenance, tensors[i], pair.ours.type, ours.quantizers) if source.is_checkpoint else [DIRECT]
        for i, pair in pairs.items()
    }
    todo = by_place(chunk for chunk in chunks(plan.tensors) if chunk.tensor in pairs)
    tallies = compare_rows(pairs, todo, source, rule, {i: first for i, [first, *_] in ways.items()}, threads)
    for i, [_, *others] in ways.items():
        if tallies[i].n_wrong and rule.by_bytes(pairs[i].ours.type):
            of_tensor = [chunk for chunk in todo if chunk.tensor == i]
            made = (made_so(pairs[i], of_tensor, source, rule, way, threads) for way in others)
            tallies[i] = next(filter(None, made), tallies[i])
    suspects = [pair.source for pair in pairs.values()]
    results = [
        tallies[i].result(pair, suspects) for i, pair in sorted(pairs.items(), key=lambda item: item[1].ours.begin)
    ]
    return TensorCheck(
        file=file,
        source=source.name,
        lossless=source.is_checkpoint,
        judged_by=ERROR if why else BYTES,
        why=why or "a changed byte of any weight fails",
        tensors=tuple(results),
        problems=tuple(problems),
        bytes_read=sum(pair.nbytes for pair in pairs.values()),
        seconds=time.perf_counter() - begin,
    )


def choose_rule(ours: StoredModel, is_exact: bool) -> tuple[Rule, str]:
    """How the rows of a file are judged; and why blocks are judged by their error, empty if they are not.

    A file that says which of our code, or ggml's, made its blocks, and those of files between, was made of the
    checkpoint's values alone, by arithmetic that gives the same bytes on every machine.
    """
    types = {tensor.type for tensor in ours.tensors.values() if not is_float(tensor.type)}
    between = {
        name for file in ours.provenance.intermediates if file.quantizer for name in quantizers_of_text(file.quantizer)
    }
    makers = between | (ours.quantizers if types else set())
    floats = is_exact and between <= SAME_BYTES
    rule = Rule(
        exact=is_exact,
        floats=floats,
        blocks=floats and makers <= SAME_BYTES,
        limits=OF_OTHERS if UNKNOWN in makers else OF_GGML,
    )
    return rule, "" if rule.blocks and all(map(has_good_kernel, types)) else why_by_error(is_exact, makers, types)


def why_by_error(is_exact: bool, makers: Set[str], types: Iterable[Type]) -> str:
    """Why blocks are not judged by their bytes."""
    if not is_exact:
        return "the source is itself a file, and no checkpoint"
    if UNKNOWN in makers:
        return "the file does not say what quantized it; there is room for an imatrix"
    if CONTRACTED in makers:
        return "a ggml that contracts quantized it, whose blocks differ by a rounding"
    names = ", ".join(sorted(type.name for type in types if not has_good_kernel(type)))
    return f"there are no kernels here that could make {names} again"


def made_so(
    pair: Pair, todo: Sequence[Chunk], source: StoredModel, rule: Rule, way: Way, threads: int
) -> "Tally | None":
    """What is found of a tensor every row of which was made by another way; None if one was not."""
    tally = Tally()

    def work(chunk: Chunk, rows: Bytes) -> JudgedRows:
        return judge_rows(chunk, rows, pair.ours, rule, way)

    with closing(one_pass(work, todo, source.shards, threads)) as judged:
        for chunk, rows in judged:
            if not rows.equal.all():
                return None
            tally.add(chunk, rows)
    return tally


def layout_problems(ours: StoredModel, source: StoredModel, tensors: Sequence[Tensor]) -> Iterator[str]:
    """A line for each of the source's tensors that the file lacks or has in another shape, and for those too many.

    A file for recognition alone may do without what is for speech generation.
    """
    expected = {tensor.sources[0].name: tensor.sources[0].shape for tensor in tensors}
    for name, shape in expected.items():
        found = ours.tensors.get(name)
        if found is None:
            yield f"tensor {name} of the source is missing"
        elif found.shape != shape:
            yield f"tensor {found.name} has shape {shape_text(found.shape)}, the source's is {shape_text(shape)}"
    extra = [tensor.name for name, tensor in ours.tensors.items() if name not in expected]
    if source.asr_only and not ours.asr_only:
        generation = re.compile(source.family.speech_generation)
        n = sum(generation.fullmatch(name) is not None for name in extra)
        yield f"{n} tensors of speech generation were not compared: the source has none"
        extra = [name for name in extra if not generation.fullmatch(name)]
    yield from (f"tensor {name} is not in the source" for name in extra)


def compare_rows(
    pairs: Mapping[int, Pair], todo: Sequence[Chunk], source: StoredModel, rule: Rule, ways: Mapping[int, Way],
    threads: int,
) -> dict[int, "Tally"]:  # fmt: skip
    """The rows of all pairs judged, each made by its way, in one pass over both files."""

    def work(chunk: Chunk, rows: Bytes) -> JudgedRows:
        return judge_rows(chunk, rows, pairs[chunk.tensor].ours, rule, ways[chunk.tensor])

    tallies = {i: Tally() for i in pairs}
    unforgotten = 0
    with (
        progress_bar(sum(pair.nbytes for pair in pairs.values())) as progress,
        closing(one_pass(work, todo, source.shards, threads)) as judged,
    ):
        for chunk, rows in judged:
            tallies[chunk.tensor].add(chunk, rows)
            ours = pairs[chunk.tensor].ours
            nbytes = chunk.n * ours.row_bytes
            advance(progress, ours.name, nbytes + chunk.n * chunk.source.row_bytes)
            unforgotten += nbytes
            if unforgotten >= FORGET_BYTES:
                forget(ours.file, ours.begin + (chunk.first + chunk.n) * ours.row_bytes)
                unforgotten = 0
    return tallies


class Worst(NamedTuple):
    """A row, in the order of how bad it is."""

    is_wrong: bool
    ratio: float
    rel_rmse: float
    before: int  # minus its number: of equal ones, the first
    expected: float


NONE = Worst(False, -1.0, 0.0, 0, 0.0)


@dataclass
class Tally:
    """What was found of a tensor so far, by chunks, which end in any order."""

    sums: dict[int, list[float]] = field(default_factory=dict)  # by chunk: those of Sums, and the expected error
    n_equal: int = 0
    n_wrong: int = 0
    problems: dict[int, str] = field(default_factory=dict)
    worst: Worst = NONE

    def add(self, chunk: Chunk, rows: JudgedRows) -> None:
        self.sums[chunk.first] = [float(of_rows.sum()) for of_rows in (*rows.sums, rows.expected)]
        self.n_equal += int(rows.equal.sum())
        self.n_wrong += int(rows.wrong.sum())
        self.problems |= rows.problems
        self.worst = max(self.worst, worst(rows))

    def result(self, pair: Pair, suspects: Sequence[StoredTensor]) -> TensorResult:
        """What was found of the whole tensor; `suspects` are those that it might be, if it is not its source."""
        *sums, expected = np.sum([self.sums[first] for first in sorted(self.sums)], axis=0)
        whole = Sums(*sums)
        rel_rmse = float(relative(whole.error, whole.source))
        return TensorResult(
            name=pair.ours.name,
            type=pair.ours.type.name,
            rows=pair.ours.n_rows,
            rel_rmse=rel_rmse,
            expected_rel_rmse=float(relative(expected, whole.source)),
            cosine=cosine(whole),
            equal_rows=self.n_equal,
            worst_row=-self.worst.before,
            worst_rel_rmse=self.worst.rel_rmse,
            worst_expected=self.worst.expected,
            problems=tuple(self.in_words(pair, suspects, whole, rel_rmse)),
        )

    def in_words(self, pair: Pair, suspects: Sequence[StoredTensor], whole: Sums, rel_rmse: float) -> Iterator[str]:
        """What is wrong: if every row is, what it might be; else the first of them."""
        every = self.n_wrong == pair.ours.n_rows
        suspicion = suspect(pair, suspects, whole, rel_rmse) if every else ""
        if suspicion:
            yield f"{suspicion} (relative RMSE {rel_rmse:.3g})"
            return
        first = most_telling(self.problems)
        yield from (f"row {row} {self.problems[row]}" for row in first)
        if self.n_wrong > len(first):
            yield f"… and {self.n_wrong - len(first):,} more rows"


def worst(rows: JudgedRows) -> Worst:
    """The worst row of a chunk."""
    rel_rmse, expected = (relative(error, rows.sums.source) for error in (rows.sums.error, rows.expected))
    ratio = relative(rows.sums.error, rows.expected)
    row = int(np.lexsort((-np.arange(len(ratio)), rel_rmse, ratio, rows.wrong))[-1])
    return Worst(
        bool(rows.wrong[row]), float(ratio[row]), float(rel_rmse[row]), -rows.first - row, float(expected[row])
    )


def cosine(sums: Sums) -> float:
    """Of all weights of two tensors; 0 if one is all zeros or not finite, 1 if both are zeros."""
    if sums.source == 0 and sums.ours == 0:
        return 1.0
    with np.errstate(all="ignore"):
        found = float(sums.product / np.sqrt(sums.source * sums.ours))
    return min(found, 1.0) if np.isfinite(found) else 0.0


def suspect(pair: Pair, suspects: Sequence[StoredTensor], whole: Sums, rel_rmse: float) -> str:
    """What a tensor seems to be, every row of which is wrong; empty if nothing is suspected."""
    if not np.isfinite(whole.ours):
        return ""
    if whole.ours == 0:
        return "is all zeros"
    row = pair.ours.read_float32(0, 1)

    def is_row(other: Floats) -> bool:
        error, of = (np.sum(np.square(x, dtype=np.float64)) for x in (row - other, row))
        return bool(relative(error, of) <= ALIKE * (usual_error(pair.ours.type) + usual_error(pair.source.type)))

    for tensor in suspects:
        if tensor is not pair.source and tensor.row == pair.source.row and is_row(tensor.read_float32(0, 1)):
            return f"begins with the rows of {tensor.name}" if pair.ours.n_rows > 1 else f"is {tensor.name}"
    if pair.ours.shape == (pair.ours.row, pair.ours.row):
        column = [pair.source.read_float32(i, 1)[:, :1] for i in range(pair.source.n_rows)]
        if is_row(np.concatenate(column, axis=1)):
            return "is transposed"
    return "has no row that is right: it is another tensor's, or shifted" if rel_rmse > ANOTHER else ""
