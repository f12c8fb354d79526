"""Files that are made already: an earlier run of the same command completed them under their final names.

A file is recognized by its size and its header, which records base model, shards, options and version. What it was made
from is then compared: the shards of a checkpoint by their sha256; a GGUF file, of whose bytes nothing is recorded, by
rows of every tensor that are converted again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mimo_convert.formats.gguf import ARCHITECTURE, GGUFFile, is_array, parse_header, read_gguf, shown
from mimo_convert.model.gguf_facts import (
    FILE_TYPE,
    QUANTIZER,
    RECIPE,
    RECIPE_NAME,
    VARIANT,
    checked_dimensions,
    type_of_file,
)
from mimo_convert.model.provenance import (
    ADAPTER,
    ADAPTER_MODEL,
    ADAPTER_NAME,
    ADAPTER_OMITTED,
    BASE,
    FEEDBACK,
    IMATRIX,
    SHARDS,
    VERSION,
    hashes_of_text,
)
from mimo_convert.plan.mix import TARGET
from mimo_convert.plan.plan import Plan, PlannedTensor
from mimo_convert.plan.request import Request
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import F16, F32

from .chunks import Chunk
from .part_file import PartFile, Tell
from .rows import OverflowingWeightError, convert_rows
from .shard_hashes import ShardHashes

EXISTS, FORCE = "already exists", "--force replaces it"
MADE = "already made by this command; not written again"
LONGEST = 120  # characters of a value in a message
SLOW = 1 << 30  # bytes to hash from which on a line says so
Accept = Callable[[Path], None]

# Metadata that tells one file of a name from another, that which says most first, and what a message calls it.
TOLD = {
    ARCHITECTURE: "architecture", VERSION: "mimo-convert version", f"{BASE}.0.repo_url": "base model",
    f"{BASE}.0.name": "name", f"{BASE}.0.version": "revision", ADAPTER_NAME: "adapter",
    ADAPTER_MODEL: "adapter's model", ADAPTER: "adapter's files", ADAPTER_OMITTED: "omitted adapter", SHARDS: "shards",
    FILE_TYPE: "type", TARGET: "target", RECIPE: "rules", RECIPE_NAME: "recipe", VARIANT: "variant",
    IMATRIX: "imatrix", FEEDBACK: "error feedback", QUANTIZER: "quantizer",
}  # fmt: skip


QKV = {False: "separate Q, K and V", True: "fused QKV (--fuse-qkv)"}


class Difference(NamedTuple):
    """What a file has, and what its plan has."""

    found: str
    expected: str = ""


def find_made(request: Request, parts: Sequence[PartFile], tell: Tell, accept: Accept) -> None:
    """Mark the files that are made already as finalized, with a line about each.

    `accept` is called for each, and may raise InputError. Raises InputError for a file that is in the way because it is
    another one.
    """
    there = [part for part in parts if not part.finalized and part.path.is_file()]
    for part in there:
        if differs := difference(part.path, part.plan):
            raise in_the_way(part.path, differs)
    if there:
        (compare_shards if request.model.is_checkpoint else compare_rows)(request, there, tell)
    for part in there:
        accept(part.path)
        part.supersede()
        tell(f"{part.path}: {MADE}")


def in_the_way(path: Path, differs: Difference) -> InputError:
    """The error for a file that exists and is not the planned one."""
    return InputError(path, f"{EXISTS}, {differs.found}", expected=differs.expected, todo=FORCE)


def with_promotions(request: Request, paths: Sequence[Path]) -> Request:
    """The request with the tensors promoted to F32 that a file made of it has promoted; unchanged if there is none.

    Which tensors hold weights beyond F16's range is known only after all were read, and recorded nowhere else.
    """
    absmax: dict[str, float] = {}
    for path, plan in zip(paths, request.plans, strict=True):
        if path.is_file() and difference(path, plan):
            absmax |= dict.fromkeys(in_f32(path, plan), F16.overflow)
    if not absmax:
        return request
    informed = replace(request, absmax=absmax)
    of_informed = zip(paths, informed.plans, strict=True)
    return informed if any(path.is_file() and not difference(path, plan) for path, plan in of_informed) else request


def in_f32(path: Path, plan: Plan) -> list[str]:
    """The tensors that a file has in F32, and its plan in a type with F16's range; none of a file that is damaged."""
    try:
        there = read_gguf(path).tensors
    except InputError:
        return []
    ranged = [tensor.name for tensor in plan.tensors if tensor.ggml_type.overflow == F16.overflow]
    return [name for name in ranged if name in there and there[name].ggml_type is F32]


# ── by size and header ───────────────────────────────────────────────────────────────────────────────────────────


def difference(path: Path, plan: Plan) -> Difference | None:
    """How a file differs from its plan in size and header, but for hashes of shards that are yet to be read; None if it
    does not."""
    size, header = begin_of(path, len(plan.header))
    if size == plan.size and without_hashes(header, plan) == without_hashes(plan.header, plan):
        return None
    try:
        found = read_gguf(path)
    except InputError as error:
        return Difference(f"and was not made by this command: {error.what}")
    planned = parse_header(path, plan.header, plan.size)
    return next(differences(found, planned, plan), Difference("with another header"))


def begin_of(path: Path, n: int) -> tuple[int, bytes]:
    """The size of a file, and its first `n` bytes."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size, file.read(n)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error


def without_hashes(header: bytes, plan: Plan) -> bytes:
    """A header without the hashes that are yet to be read."""
    begin, end = plan.place_of_hashes
    return header[:begin] + header[end:]


def differences(found: GGUFFile, planned: GGUFFile, plan: Plan) -> Iterator[Difference]:
    """The differences of two headers, that which says most first."""
    awaited = {SHARDS} if plan.place_of_hashes.end else set()
    others = [key for key in {**planned.metadata, **found.metadata} if key not in TOLD]
    for key in (*TOLD, *others):
        ours, theirs = planned.metadata.get(key), found.metadata.get(key)
        if key not in awaited and not is_same(ours, theirs):
            words = f"with the {TOLD[key]}" if key in TOLD else f"with the key {quoted(key)}"
            yield Difference(f"{words} {text_of(key, theirs, found)}", text_of(key, ours, planned))
        if key == QUANTIZER:  # the last of TOLD: behind it is what no option decides
            yield from difference_of_layout(found, plan)
            yield from differences_of_tensors(found, planned)
    if found.size != planned.size:
        yield Difference(f"with {found.size:,} bytes", f"{planned.size:,}")


def difference_of_layout(found: GGUFFile, plan: Plan) -> Iterator[Difference]:
    """The difference of two headers in the layout of Q, K and V."""
    with suppress(InputError):
        is_fused = checked_dimensions(found, plan.family)[1].fuse_qkv
        if is_fused != plan.fuse_qkv:
            yield Difference(f"with {QKV[is_fused]}", f"{QKV[plan.fuse_qkv]}")


def differences_of_tensors(found: GGUFFile, planned: GGUFFile) -> Iterator[Difference]:
    """The differences of two headers in names, types and shapes of tensors."""
    for name, tensor in planned.tensors.items():
        there = found.tensors.get(name)
        if there is None:
            yield Difference(f"without tensor {name}", "one with it")
        elif (there.ggml_type, there.shape) != (tensor.ggml_type, tensor.shape):
            yield Difference(
                f"with tensor {name} of type {there.ggml_type.name} and shape {there.shape}",
                f"{tensor.ggml_type.name} and {tensor.shape}",
            )
    for name in found.tensors:
        if name not in planned.tensors:
            yield Difference(f"with tensor {quoted(name)}", "one without it")


def text_of(key: str, value: Any, file: GGUFFile) -> str:
    """A metadata value as part of a message."""
    if value is None:
        return "(none)"
    if key == FILE_TYPE:
        declared = type_of_file(file)
        return declared.name if declared else str(value)
    return quoted(", ".join(value.splitlines()), LONGEST) if isinstance(value, str) else f"that {shown(value)}"


def is_same(one: Any, other: Any) -> bool:
    """Whether two metadata values are equal."""
    if is_array(one) and is_array(other):
        return len(one) == len(other) and bool(np.all(np.asarray(one) == np.asarray(other)))
    return not is_array(one) and not is_array(other) and bool(one == other)


# ── by what it was made from ─────────────────────────────────────────────────────────────────────────────────────


def compare_shards(request: Request, parts: Sequence[PartFile], tell: Tell) -> None:
    """Raise InputError for a file that records the sha256 of other shards than those of the request."""
    shards, files = request.model.shards, request.files
    known = {file: shards.published_sha256(file) for file in files}
    if sum(shards.size(file) for file, sha256 in known.items() if not sha256) >= SLOW:
        tell(f"{request.model.where}: hashing the shards, to see whether {parts[0].path} was made of them")
    with ShardHashes(shards) as hashes:
        known |= {file: hashes.sha256(file) for file, sha256 in known.items() if not sha256}
    for part in parts:
        begin, end = part.plan.place_of_hashes
        recorded = hashes_of_text(begin_of(part.path, end)[1][begin:].decode(errors="replace"))
        for file, sha256 in known.items():
            found = recorded.get(file.name, "(none)")
            if found != sha256:
                raise in_the_way(part.path, Difference(f"made of a {file.name} with the sha256 {found}", sha256))


def compare_rows(request: Request, parts: Sequence[PartFile], tell: Tell) -> None:
    """Raise InputError for a file that has other rows than those of the request, by a sample of every tensor."""
    for part in parts:
        for tensor, chunk in sample(part.plan):
            if not is_in(part, tensor, chunk):
                row = chunk.n_before // chunk.source.row
                differs = Difference(f"with other weights in tensor {tensor.name}, row {row}")
                raise in_the_way(part.path, differs)


def sample(plan: Plan) -> Iterator[tuple[PlannedTensor, Chunk]]:
    """The first, the middle and the last row of every source of every tensor, as chunks."""
    for number, tensor in enumerate(plan.tensors):
        before = 0
        for source in tensor.sources:
            for first in sorted({0, source.n_rows // 2, source.n_rows - 1}):
                yield tensor, Chunk(0, number, source, first, 1, before + first * source.row)
            before += source.n_rows * source.row


def is_in(part: PartFile, tensor: PlannedTensor, chunk: Chunk) -> bool:
    """Whether a file has the rows of a chunk, converted, in their place."""
    try:
        [rows] = convert_rows(chunk, chunk.source.read(chunk.first, chunk.n), [tensor])
    except OverflowingWeightError:
        return False
    with part.path.open("rb") as file:
        file.seek(len(part.plan.header) + tensor.offset + tensor.ggml_type.nbytes(chunk.n_before))
        return file.read(rows.nbytes) == rows.tobytes()
