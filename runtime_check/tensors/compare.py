"""Compare a GGUF file with the checkpoint, or other file, it was made from: every tensor, row by row.

Both are read once, a few rows at a time, in the order of the source.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mimo_convert.disk import forget
from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.tensor import TensorSlice, shape_text
from mimo_convert.listener import phase
from mimo_convert.model.family import Layout, Tensor
from mimo_convert.model.gguf_facts import UNKNOWN, parse_backends
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.calibrated import columns_of, importance_of
from mimo_convert.plan.plan import Options, make_plan
from mimo_convert.write.chunks import Chunk, by_place, chunks
from mimo_convert.write.one_pass import FORGET_BYTES, one_pass
from quantize.backends import CONTRACTED, FEEDBACK, GGML, IMATRIX, SIMD
from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, is_float
from quantize.rows import takes_importance
from quantize.types import F32, Type

from .conversion_paths import DIRECT, ConversionPath, conversion_paths, has_good_kernel
from .metadata import metadata_problems
from .recorded_methods import WEIGHTED, feedback_given, recorded_methods
from .records import TensorCheck, TensorResult, tensor_gates
from .rows import (
    OF_GGML,
    OF_IMATRIX,
    OF_OTHERS,
    RowResults,
    Rule,
    Sums,
    evaluate_rows,
    most_telling,
    relative,
    usual_error,
)

BYTES, ERROR = "bytes", "error"
ANOTHER = 0.5  # relative RMSE of a tensor every row of which is wrong, from which on it is likely to be another one
SAME_BYTES = frozenset({SIMD, GGML})
ALIKE = 2.0  # times the errors that two types have for ordinary weights: of one and the same row in both


class Pair(NamedTuple):
    """A tensor of the file and its source."""

    ours: TensorSlice
    source: TensorSlice

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.ours.nbytes + self.source.nbytes


def compare_tensors(
    ours: SourceModel, source: SourceModel, threads: int, calibration: Calibration | None = None
) -> TensorCheck:
    """Compare every tensor, size and token of a GGUF file with its source, or with another file of that source;
    `calibration` is the importance matrix that it was made with.

    Raises InputError for a file that could not be run, is of another family or truncated; for a source that could not
    be converted; and for another importance matrix than the file records.
    """
    begin = time.perf_counter()
    check_imatrix(ours, calibration)
    source.fetch_adapter()
    if ours.family is not source.family:
        expected = f"{source.family.architecture}, as {source.where} is"
        raise InputError(ours.where, f"is of {ours.family.architecture}", expected=expected)
    without = ours.layout.without | source.layout.without
    plan = make_plan(source, F32, Options(without=without, allow_requantize=True))
    layout = source.family.layout_from(source.dims, source.tensors, Layout(without=without))
    tensors = list(source.family.tensors(source.dims, layout))
    problems = [*metadata_problems(ours, source), *layout_problems(ours, source, tensors)]
    pairs = {
        i: Pair(found, planned.sources[0])
        for i, (tensor, planned) in enumerate(zip(tensors, plan.tensors, strict=True))
        if (found := ours.tensors.get(tensor.sources[0].name)) and found.shape == tensor.sources[0].shape
    }
    feedback = feedback_given(ours, calibration, threads)
    given = {IMATRIX} if calibration else set[str]()
    rule, why = choose_rule(ours, source.is_checkpoint, given | ({FEEDBACK} if feedback else set()))
    weights, methods = importances(ours, source, calibration), recorded_methods(ours, source, feedback)

    def paths_of(tensor: Tensor, pair: Pair) -> list[ConversionPath]:
        method = methods.get(tensor.sources[0].name, WEIGHTED)
        by = weights(tensor, pair) if method.is_weighted else None
        return conversion_paths(ours.provenance, tensor, pair.ours.ggml_type, ours.backends, by, method.rounding)

    paths = {i: paths_of(tensors[i], pair) if source.is_checkpoint else [DIRECT] for i, pair in pairs.items()}
    every = (chunk._replace(tensor=i, also=()) for chunk in chunks(plan.tensors) for i in chunk.tensors)
    todo = by_place(chunk for chunk in every if chunk.tensor in pairs)
    tallies = compare_rows(pairs, todo, source, rule, {i: first for i, [first, *_] in paths.items()}, threads)
    for i, [_, *others] in paths.items():
        if tallies[i].n_wrong and rule.by_bytes(pairs[i].ours.ggml_type):
            of_tensor = [chunk for chunk in todo if chunk.tensor == i]
            made = (try_path(pairs[i], of_tensor, source, rule, path, threads) for path in others)
            tallies[i] = next(filter(None, made), tallies[i])
    suspects = [pair.source for pair in pairs.values()]
    results = [
        tallies[i].result(pair, suspects) for i, pair in sorted(pairs.items(), key=lambda item: item[1].ours.begin)
    ]
    gates = tensor_gates(ours.family.role, tuple(problems), tuple(results))
    return TensorCheck(
        file=str(ours.where),
        source=source.name,
        lossless=source.is_checkpoint,
        judged_by=ERROR if why else BYTES,
        judged_why=why or f"{'given the imatrix, ' if calibration else ''}a changed byte of any weight fails",
        passed=all(gate.passed for gate in gates),
        seconds=time.perf_counter() - begin,
        bytes_read=sum(pair.nbytes for pair in pairs.values()),
        findings=tuple(problems),
        tensors=tuple(results),
        gates=gates,
    )


def check_imatrix(ours: SourceModel, calibration: Calibration | None) -> None:
    """Raise InputError for another importance matrix than a file records."""
    if calibration is None:
        return
    recorded = ours.provenance.imatrix
    if IMATRIX not in ours.backends or not recorded:
        what = f"is given for {ours.where}, which records none"
        raise InputError(calibration.where, what, todo="leave it out")
    if calibration.sha256 != recorded:
        expected = f"{recorded}, as {ours.where} records"
        todo = "give the file that it was made with"
        raise InputError(calibration.where, f"has the sha256 {calibration.sha256}", expected=expected, todo=todo)


def importances(
    ours: SourceModel, source: SourceModel, calibration: Calibration | None
) -> Callable[[Tensor, Pair], Floats | None]:
    """The importance of the columns of a tensor by which it was quantized; None of all without a calibration. Raises
    InputError if that is of another model."""
    columns = columns_of(source, calibration)

    def of(tensor: Tensor, pair: Pair) -> Floats | None:
        is_weighted = columns and takes_importance(pair.ours.ggml_type)
        return importance_of(columns.get(tensor.sources[0].name))[0] if is_weighted else None

    return of


def choose_rule(ours: SourceModel, is_exact: bool, given: Set[str] = frozenset()) -> tuple[Rule, str]:
    """Choose how rows are compared; returns also why blocks are compared by error rather than by bytes, empty if by
    bytes.

    Blocks of SIMD kernels or ggml are reproducible to the byte from the checkpoint's values on every machine; those of
    an importance matrix or error feedback given what these were made with, which `given` names.
    """
    types = {tensor.ggml_type for tensor in ours.tensors.values() if not is_float(tensor.ggml_type)}
    between = {
        name for file in ours.provenance.intermediates if file.quantizer for name in parse_backends(file.quantizer)
    }
    makers = between | (ours.backends - given if types else set())
    floats = is_exact and between <= SAME_BYTES
    rule = Rule(
        exact=is_exact,
        floats=floats,
        blocks=floats and makers <= SAME_BYTES,
        limits=OF_IMATRIX if {IMATRIX, FEEDBACK} & makers else OF_OTHERS if UNKNOWN in makers else OF_GGML,
    )
    return rule, "" if rule.blocks and all(map(has_good_kernel, types)) else why_by_error(is_exact, makers, types)


def why_by_error(is_exact: bool, makers: Set[str], types: Iterable[Type]) -> str:
    """Why blocks are not compared by bytes."""
    if not is_exact:
        return "the source is a GGUF file, not a checkpoint"
    if UNKNOWN in makers:
        return "the file does not record its quantization backend, which may have used an imatrix"
    if IMATRIX in makers:
        return "it was quantized with an imatrix, and --imatrix does not give that"
    if FEEDBACK in makers:
        return "it was quantized with error feedback, and the second moments are not beside the imatrix"
    if CONTRACTED in makers:
        return "it was quantized by a ggml that contracts a × b + c, whose blocks differ by a rounding"
    names = ", ".join(sorted(ggml_type.name for ggml_type in types if not has_good_kernel(ggml_type)))
    return f"there is no SIMD kernel of {names} here to reproduce the blocks"


def try_path(
    pair: Pair, todo: Sequence[Chunk], source: SourceModel, rule: Rule, path: ConversionPath, threads: int
) -> "Tally | None":
    """Compare a tensor by another conversion path; None unless every row is reproduced."""
    tally = Tally()

    def work(chunk: Chunk, rows: Bytes) -> RowResults:
        return evaluate_rows(chunk, rows, pair.ours, rule, path)

    with closing(one_pass(work, todo, source.shards, threads)) as evaluated:
        for chunk, rows in evaluated:
            if not rows.equal.all():
                return None
            tally.add(chunk, rows)
    return tally


def layout_problems(ours: SourceModel, source: SourceModel, tensors: Sequence[Tensor]) -> Iterator[str]:
    """Find tensors of the source that the file lacks or has in another shape, and extra tensors.

    Optional parts that the file was written without are not missing.
    """
    expected = {tensor.sources[0].name: tensor.sources[0].shape for tensor in tensors}
    for name, shape in expected.items():
        found = ours.tensors.get(name)
        if found is None:
            yield f"tensor {name} of the source is missing"
        elif found.shape != shape:
            yield f"tensor {found.name} has shape {shape_text(found.shape)}, the source's is {shape_text(shape)}"
    extra = [tensor.name for name, tensor in ours.tensors.items() if name not in expected]
    for part in sorted(source.layout.without - ours.layout.without):
        of_part = [name for name in extra if source.family.part_of(name) == part]
        words = source.family.parts[part].words
        yield f"{len(of_part)} tensors of {words} were not compared: the source has none"
        extra = [name for name in extra if name not in of_part]
    yield from (f"tensor {name} is not in the source" for name in extra)


def compare_rows(
    pairs: Mapping[int, Pair], todo: Sequence[Chunk], source: SourceModel, rule: Rule,
    paths: Mapping[int, ConversionPath], threads: int,
) -> dict[int, "Tally"]:  # fmt: skip
    """Evaluate the rows of all pairs, each tensor by its conversion path, in one pass over both files."""

    def work(chunk: Chunk, rows: Bytes) -> RowResults:
        return evaluate_rows(chunk, rows, pairs[chunk.tensor].ours, rule, paths[chunk.tensor])

    tallies = {i: Tally() for i in pairs}
    unforgotten = 0
    with (
        phase("comparing rows", sum(pair.nbytes for pair in pairs.values())) as progress,
        closing(one_pass(work, todo, source.shards, threads)) as evaluated,
    ):
        for chunk, rows in evaluated:
            tallies[chunk.tensor].add(chunk, rows)
            ours = pairs[chunk.tensor].ours
            nbytes = chunk.n * ours.row_bytes
            progress.advance(nbytes + chunk.n * chunk.source.row_bytes, ours.name)
            unforgotten += nbytes
            if unforgotten >= FORGET_BYTES:
                forget(ours.file, ours.begin + (chunk.first + chunk.n) * ours.row_bytes)
                unforgotten = 0
    return tallies


class Worst(NamedTuple):
    """A row, ordered by how bad it is."""

    is_wrong: bool
    ratio: float
    rel_rmse: float
    before: int  # minus its number: of equal ones, the first
    expected: float


NONE = Worst(False, -1.0, 0.0, 0, 0.0)


@dataclass
class Tally:
    """The comparison of a tensor, accumulated by chunks in any order."""

    sums: dict[int, list[float]] = field(default_factory=dict)  # by chunk: those of Sums, and the expected error
    n_equal: int = 0
    n_wrong: int = 0
    problems: dict[int, str] = field(default_factory=dict)
    worst: Worst = NONE

    def add(self, chunk: Chunk, rows: RowResults) -> None:
        """Add the results of a chunk."""
        self.sums[chunk.first] = [float(of_rows.sum()) for of_rows in (*rows.sums, rows.expected)]
        self.n_equal += int(rows.equal.sum())
        self.n_wrong += int(rows.wrong.sum())
        self.problems |= rows.problems
        self.worst = max(self.worst, worst(rows))

    def result(self, pair: Pair, suspects: Sequence[TensorSlice]) -> TensorResult:
        """The result of the whole tensor; `suspects` are the tensors it may have been confused with."""
        *sums, expected = np.sum([self.sums[first] for first in sorted(self.sums)], axis=0)
        whole = Sums(*sums)
        rel_rmse = float(relative(whole.error, whole.source))
        return TensorResult(
            name=pair.ours.name,
            type=pair.ours.ggml_type.name,
            rows=pair.ours.n_rows,
            rel_rmse=rel_rmse,
            expected_rel_rmse=float(relative(expected, whole.source)),
            cosine=cosine(whole),
            equal_rows=self.n_equal,
            worst_row=-self.worst.before,
            worst_rel_rmse=self.worst.rel_rmse,
            worst_expected=self.worst.expected,
            findings=tuple(self.in_words(pair, suspects, whole, rel_rmse)),
        )

    def in_words(self, pair: Pair, suspects: Sequence[TensorSlice], whole: Sums, rel_rmse: float) -> Iterator[str]:
        """Findings: a diagnosis if every row is wrong, else the first wrong rows."""
        every = self.n_wrong == pair.ours.n_rows
        suspicion = suspect(pair, suspects, whole, rel_rmse) if every else ""
        if suspicion:
            yield f"{suspicion} (relative RMSE {rel_rmse:.3g})"
            return
        first = most_telling(self.problems)
        yield from (f"row {row} {self.problems[row]}" for row in first)
        if self.n_wrong > len(first):
            yield f"… and {self.n_wrong - len(first):,} more rows"


def worst(rows: RowResults) -> Worst:
    """The worst row of a chunk."""
    rel_rmse, expected = (relative(error, rows.sums.source) for error in (rows.sums.error, rows.expected))
    ratio = relative(rows.sums.error, rows.expected)
    row = int(np.lexsort((-np.arange(len(ratio)), rel_rmse, ratio, rows.wrong))[-1])
    return Worst(
        bool(rows.wrong[row]), float(ratio[row]), float(rel_rmse[row]), -rows.first - row, float(expected[row])
    )


def cosine(sums: Sums) -> float:
    """Cosine similarity of all weights of two tensors, ⟨a, b⟩ / (‖a‖ ‖b‖): 1 if both are zero, 0 if one is, or not
    finite."""
    if sums.source == 0 and sums.ours == 0:
        return 1.0
    with np.errstate(all="ignore"):
        found = float(sums.product / np.sqrt(sums.source * sums.ours))
    return min(found, 1.0) if np.isfinite(found) else 0.0


def suspect(pair: Pair, suspects: Sequence[TensorSlice], whole: Sums, rel_rmse: float) -> str:
    """Diagnose a tensor of which every row is wrong; empty if there is no likely cause."""
    if not np.isfinite(whole.ours):
        return ""
    if whole.ours == 0:
        return "is all zeros"
    row = pair.ours.read_float32(0, 1)

    def is_row(other: Floats) -> bool:
        error, of = (np.sum(np.square(x, dtype=np.float64)) for x in (row - other, row))
        return bool(
            relative(error, of) <= ALIKE * (usual_error(pair.ours.ggml_type) + usual_error(pair.source.ggml_type))
        )

    for tensor in suspects:
        if tensor is not pair.source and tensor.row == pair.source.row and is_row(tensor.read_float32(0, 1)):
            return f"begins with the rows of {tensor.name}" if pair.ours.n_rows > 1 else f"is {tensor.name}"
    if pair.ours.shape == (pair.ours.row, pair.ours.row):
        column = [pair.source.read_float32(i, 1)[:, :1] for i in range(pair.source.n_rows)]
        if is_row(np.concatenate(column, axis=1)):
            return "is transposed"
    return "has no row that is right: it is another tensor's, or shifted" if rel_rmse > ANOTHER else ""
