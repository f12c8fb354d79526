"""Choose how each matrix is rounded, before a conversion, and keep what was chosen beside the second moments."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mimo_convert import __version__
from mimo_convert.files import read_bytes, write_whole
from mimo_convert.formats.json_file import parse_json
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.listener import phase
from mimo_convert.plan.feedback import Feedback
from mimo_convert.plan.request import Request
from mimo_convert.terminal import show
from quantize.backends import GGML, SIMD
from quantize.errors import InputError
from quantize.feedback.choice import METHODS, Choice, Sampled, choose, spread
from quantize.kernels import Floats, to_float32
from quantize.types import Type

FILE = "choices.json"
MOST_KEPT = 1 << 26  # bytes of the file
SAVED_EVERY = 10.0  # seconds
Kept = dict[str, dict[str, Any]]


class Matrix(NamedTuple):
    """A matrix and what it is quantized to; `name` is that of the second moment of its input."""

    source: TensorSlice
    ggml_type: Type
    backend: str
    importance: Floats
    name: str


def choose_rounding(requests: Iterable[Request], threads: int) -> list[Request]:
    """The requests with the method of every matrix chosen, and a line that counts them. Raises as `with_choices`."""
    chosen = [with_choices(request, threads) for request in requests]
    if counts := summary(chosen):
        show(f"matrices by how they are rounded: {counts}")
    return chosen


def with_choices(request: Request, threads: int) -> Request:
    """Choose the method of every matrix of a request with error feedback: by a spread of its rows, on inputs of clips
    that were not calibrated with. What was chosen before, of the same files, is not chosen again.

    Raises InputError for second moments that are damaged, or of another model.
    """
    feedback = request.options.feedback
    if feedback is None:
        return request
    groups = inputs_of(request, feedback)
    path = feedback.factors.hessians.folder / FILE
    kept = read_kept(path)
    keys = {one[:2]: key_of(one, request, feedback) for group in groups.values() for one in group}
    todo = {name: [one for one in group if keys[one[:2]] not in kept] for name, group in groups.items()}
    saved = time.monotonic()
    with phase("choosing how to round", sum(map(len, groups.values())), unit="") as progress:
        for name, group in groups.items():
            if todo[name]:
                chosen = choose_of(todo[name], request, feedback, threads)
                kept |= {keys[one]: {"method": c.method, "errors": dict(c.errors)} for one, c in chosen.items()}
                if time.monotonic() - saved > SAVED_EVERY:
                    save(path, kept)
                    saved = time.monotonic()
            progress.advance(len(group), name)
    if any(todo.values()):
        save(path, kept)
    every = (one for group in groups.values() for one in group)
    methods = {(one.name, one.ggml_type.name): kept[keys[one[:2]]]["method"] for one in every}
    return replace(request, options=replace(request.options, feedback=replace(feedback, methods=methods)))


def summary(requests: Iterable[Request]) -> str:
    """How many matrices are rounded by each method; empty without error feedback."""
    feedbacks = [request.options.feedback for request in requests]
    counts = Counter(how for feedback in feedbacks if feedback for how in feedback.methods.values())
    return ", ".join(f"{counts[how]} × {how}" for how in METHODS if counts[how])


def inputs_of(request: Request, feedback: Feedback) -> dict[str, list[Matrix]]:
    """The matrices of a request that are rounded by their importance and whose second moments are known, by input."""
    hessians = feedback.factors.hessians
    found: dict[str, dict[tuple[TensorSlice, Type, str], Matrix]] = {}
    for tensor in (tensor for plan in request.plans for tensor in plan.tensors):
        for source, name in zip(tensor.sources, tensor.inputs, strict=False):  # none, of most types
            weights = tensor.importance_of(source)
            if weights is not None and name:
                backend = SIMD if SIMD in tensor.backends else GGML
                one = Matrix(source, tensor.ggml_type, backend, weights, name)
                # A source may be two tensors, as a tied head is, each with a name of its own for its input.
                found.setdefault(hessians.sharing(name)[0], {})[one.source, one.ggml_type, one.name] = one
    return {first: list(group.values()) for first, group in found.items()}


def choose_of(
    group: Sequence[Matrix], request: Request, feedback: Feedback, threads: int
) -> dict[tuple[TensorSlice, Type], Choice]:
    """Choose the methods of matrices that share an input."""
    hessians, first = feedback.factors.hessians, group[0]
    moments = hessians.matrix(first.name)
    if len(moments) != first.source.row:
        what = f"the second moment of {first.name} is not of rows of {first.source.row}"
        raise InputError(hessians.folder, what, todo="give the calibration of this model")
    rows = {source: sampled_rows(source, request) for source in dict.fromkeys(one.source for one in group)}
    matrices = {one[:2]: Sampled(rows[one.source], one.ggml_type, one.backend) for one in group}
    return choose(matrices, moments, hessians.sample(first.name), first.importance, threads)


def sampled_rows(source: TensorSlice, request: Request) -> Floats:
    """A spread of a matrix's rows, (≤ 256, columns) float32."""
    if source.is_stored:
        request.model.shards.fetch(source.file)

    def each() -> Iterator[Floats]:
        for i in spread(source.n_rows):
            yield to_float32(*source.weights(i, source.read(i, 1))).copy()

    return np.concatenate(list(each()))


def key_of(one: Matrix, request: Request, feedback: Feedback) -> str:
    """A key that changes with all that a choice depends on."""
    calibration = request.options.calibration
    of_file = request.model.shards.identity(one.source.file) if one.source.is_stored else one.source.file.name
    about = (
        __version__, METHODS, one.source.name, of_file, one.ggml_type.name, one.backend,
        calibration.sha256 if calibration else "", sorted(feedback.factors.hessians.hashes.items()),
    )  # fmt: skip
    return hashlib.sha256(os.fsencode(repr(about))).hexdigest()


def save(path: Path, kept: Kept) -> None:
    """Keep what was chosen; in a folder that is read-only, nothing is kept, and it is chosen again next time."""
    with suppress(InputError):
        write_whole(path, json.dumps(kept, indent=1).encode())


def read_kept(path: Path) -> Kept:
    """What was chosen before, by key; empty if there is none that can be read."""
    with suppress(InputError, OSError, ValueError, AttributeError, TypeError, KeyError):
        found = parse_json(read_bytes(path, MOST_KEPT))
        return {key: one for key, one in found.items() if one["method"] in METHODS}
    return {}
