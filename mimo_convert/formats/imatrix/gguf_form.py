"""Calibration files as GGUF: importance matrices that llama.cpp and CrispASR read, with what else is known.

One GGUF file has both forms, which ignore each other's entries. llama.cpp's (llama.cpp#9400) has the tensors
`<weight>.in_sum2`, Σ x² by column, `<weight>.in_sum`, Σ x, and `<weight>.counts`, the number of positions; CrispASR's
the tensor `<weight>`, Σ x² again, and the key `count.<weight>`. `<weight>.fisher` and the keys
`mimo_convert.calibration.*` are this project's own.
"""

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType

from mimo_convert.files import write_whole
from mimo_convert.formats.calibration import (
    CALIBRATION,
    PARTS,
    Calibration,
    CalibrationClip,
    ColumnSums,
)
from mimo_convert.formats.gguf import Entry, GGUFFile, align, is_array, make_header, parse_header, shown
from quantize.errors import InputError
from quantize.kernels import Floats
from quantize.quoting import quoted
from quantize.types import F32

from .sums import checked_numbers, checked_sums

MAX_COUNT = 1 << 53
MAKE = "mimo-calibrate writes one"  # what to do without an importance matrix

ARCHITECTURE = "crispasr-imatrix"  # llama.cpp does not ask for one
TYPE, TYPE_IMATRIX = "general.type", "imatrix"
VERSION, VERSION_1 = "imatrix.version", 1
DATASETS, CHUNK_COUNT, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
COUNT = "count."  # CrispASR's prefix
SQUARES, SUMS, COUNTS, FISHER = ".in_sum2", ".in_sum", ".counts", ".fisher"

OWN = "mimo_convert.calibration."
MODEL, OF_ARCHITECTURE, TOKENS, SYNTHETIC = (
    f"{OWN}{name}" for name in ("model", "architecture", "tokens", "synthetic")
)
CLIPS, HESSIANS, DIGEST = f"{OWN}clips", f"{OWN}hessians", f"{OWN}sha256"

STRING, U32, U64, BOOL = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.UINT64, GGUFValueType.BOOL


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration file, atomically; every name of `columns` and `fisher` is written as it is given.

    Raises InputError if the file cannot be written.
    """
    tensors = dict(sorted(_tensors_of(calibration)))
    rows = [(name, data.shape, F32) for name, data in tensors.items()]
    entries = [*_entries_of(calibration), Entry(DIGEST, digest(tensors), STRING)]
    header = make_header(ARCHITECTURE, entries, rows).data
    data = (values.tobytes().ljust(align(values.nbytes), b"\0") for values in tensors.values())
    write_whole(path, header + b"".join(data))


def _tensors_of(calibration: Calibration) -> Iterator[tuple[str, Floats]]:
    """The tensors of a file by name, float32."""
    for name, of in calibration.columns.items():
        squares = np.ascontiguousarray(of.squares, np.float32)
        yield name, squares
        yield f"{name}{SQUARES}", squares.reshape(1, -1)
        yield f"{name}{COUNTS}", np.array([[of.count]], np.float32)
        if len(of.sums):
            yield f"{name}{SUMS}", np.ascontiguousarray(of.sums, np.float32).reshape(1, -1)
    for name, fisher in calibration.fisher.items():
        yield f"{name}{FISHER}", np.ascontiguousarray(fisher, np.float32)


def _entries_of(calibration: Calibration) -> Iterator[Entry]:
    """The metadata of a file; llama.cpp refuses one without the three keys of its own."""
    yield Entry(TYPE, TYPE_IMATRIX, STRING)
    yield Entry(VERSION, VERSION_1, U32)
    yield Entry(DATASETS, datasets_of(calibration), STRING)
    yield Entry(CHUNK_COUNT, chunks_of(calibration), U32)
    yield Entry(CHUNK_SIZE, 1, U32)
    yield Entry(OF_ARCHITECTURE, calibration.architecture, STRING)
    yield Entry(MODEL, calibration.model, STRING)
    yield Entry(TOKENS, calibration.tokens, U64)
    yield Entry(SYNTHETIC, calibration.is_synthetic, BOOL)
    yield Entry(CLIPS, [f"{clip.sha256}  {clip.part}  {clip.name}" for clip in calibration.clips], STRING)
    yield Entry(HESSIANS, [f"{hashed}  {name}" for name, hashed in calibration.hessians.items()], STRING)
    for name, of in sorted(calibration.columns.items()):
        yield Entry(f"{COUNT}{name}", of.count, U64)


def digest(tensors: Mapping[str, Floats]) -> str:
    """A hash over every tensor with its name: sums that were put under another name are another file's."""
    found = sha256()
    for name, values in sorted(tensors.items()):
        found.update(f"{name}\0{values.size}\0".encode() + values.tobytes())
    return found.hexdigest()


def datasets_of(calibration: Calibration) -> list[str]:
    """What a calibration was collected from: the clips of its calibration part, or another program's datasets."""
    clips = [f"{clip.sha256}  {clip.name}" for clip in calibration.clips if clip.part == CALIBRATION]
    return [*calibration.datasets, *clips]


def chunks_of(calibration: Calibration) -> int:
    """The number of chunks: one for each position, unless another program counted its own."""
    return calibration.chunks or max((of.count for of in calibration.columns.values()), default=0)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse(path: Path, data: bytes, expected: str) -> Calibration:
    """The calibration in the bytes of a GGUF file. Raises InputError, which says that it should be as `expected`, for a
    file of something else, and for a damaged one."""
    file = parse_header(path, data, len(data))
    check_kind(file, expected)
    meta = file.metadata
    tensors = dict(_numbers(file, data))
    if (made := _text(file, DIGEST)) and made != digest(tensors):
        what = "its tensors are not those that mimo-calibrate wrote: some were altered, or exchanged"
        raise InputError(path, what, todo="copy it again, or calibrate anew")
    columns = dict(_columns(file, tensors))
    fisher = {
        name.removesuffix(FISHER): checked_numbers(path, name, values, least=0)
        for name, values in tensors.items()
        if name.endswith(FISHER)
    }
    has_clips = bool(_texts(file, CLIPS))
    return Calibration(
        path,
        sha256(data).hexdigest(),
        _text(file, OF_ARCHITECTURE),
        columns,
        fisher,
        clips=tuple(_clip(path, line) for line in _texts(file, CLIPS)),
        datasets=() if has_clips else tuple(_texts(file, DATASETS)),
        tokens=_whole(file, TOKENS),
        hessians=dict(_hash(path, line) for line in _texts(file, HESSIANS)),
        is_synthetic=meta.get(SYNTHETIC) is True,
        model=_text(file, MODEL),
        chunks=_whole(file, CHUNK_COUNT),
    )


def check_kind(file: GGUFFile, expected: str) -> None:
    """Raise InputError, which says that it should be as `expected`, for the header of a model, or of something else."""
    is_imatrix = file.metadata.get(TYPE) == TYPE_IMATRIX or file.architecture == ARCHITECTURE
    if not is_imatrix and not _weights(file, file.tensors):
        what = f"a GGUF file of {file.architecture or 'no architecture'}"
        raise InputError(file.path, f"is {'a model: ' if file.tensors else ''}{what}", expected=expected, todo=MAKE)


def _numbers(file: GGUFFile, data: bytes) -> Iterator[tuple[str, Floats]]:
    """The tensors of a file by name, in their shapes. Raises InputError for another type."""
    for name, tensor in file.tensors.items():
        if tensor.ggml_type is not F32:
            raise InputError(file.path, f"tensor {quoted(name)} is {tensor.ggml_type.name}", expected="f32")
        values = np.frombuffer(data, "<f4", tensor.nbytes // 4, tensor.begin)
        yield name, values.reshape(tensor.shape)


def _columns(file: GGUFFile, tensors: Mapping[str, Floats]) -> Iterator[tuple[str, ColumnSums]]:
    """The sums of each weight: in llama.cpp's form, else in CrispASR's. Raises InputError if both differ, or half of
    one is missing."""
    path = file.path
    for name in sorted(_weights(file, tensors)):
        own, squares, counts = (tensors.get(f"{name}{suffix}") for suffix in ("", SQUARES, COUNTS))
        if (squares is None) != (counts is None):
            missing = SQUARES if squares is None else COUNTS
            raise InputError(path, f"has sums of {quoted(name)}, and no tensor {quoted(name + missing)}")
        if squares is None or counts is None:
            assert own is not None
            yield name, checked_sums(path, name, own, None, _whole(file, f"{COUNT}{name}"))
            continue
        if own is not None and own.tobytes() != squares.tobytes():
            raise InputError(path, f"tensors {quoted(name)} and {quoted(name + SQUARES)} differ", expected="equal sums")
        if counts.size != 1:
            raise InputError(path, f"has {counts.size} counts of {quoted(name)}", expected="1: a matrix, not experts")
        [count] = checked_numbers(path, f"{name}{COUNTS}", counts.ravel(), least=0).tolist()
        exact = _whole(file, f"{COUNT}{name}") or round(count)
        if np.float32(exact) != np.float32(round(count)) or exact >= MAX_COUNT:
            raise InputError(path, f"has the count {count:g} of {quoted(name)}", expected=f"{exact}, as CrispASR reads")
        yield name, checked_sums(path, name, squares, tensors.get(f"{name}{SUMS}"), exact)


def _weights(file: GGUFFile, tensors: Collection[str]) -> set[str]:
    """The names of weights of which a file with these tensors has anything but Fisher information."""
    of_llama_cpp = {name.removesuffix(end) for name in tensors for end in (SQUARES, COUNTS) if name.endswith(end)}
    return of_llama_cpp | {name for name in tensors if f"{COUNT}{name}" in file.metadata}


def _text(file: GGUFFile, key: str) -> str:
    """A text of the metadata; empty if it is missing. Raises InputError for another value."""
    found = file.metadata.get(key, "")
    if not isinstance(found, str):
        raise InputError(file.path, f"key {key} {shown(found)}", expected="a text")
    return found


def _texts(file: GGUFFile, key: str) -> list[str]:
    """A list of texts of the metadata; empty if it is missing. Raises InputError for another value."""
    found: Any = file.metadata.get(key, [])
    if not is_array(found) or not all(isinstance(text, str) for text in found):
        raise InputError(file.path, f"key {key} {shown(found)}", expected="a list of texts")
    return list(found)


def _whole(file: GGUFFile, key: str) -> int:
    """A number from 0 of the metadata; 0 if it is missing. Raises InputError for another value."""
    found = file.metadata.get(key, 0)
    if type(found) is not int or not 0 <= found < MAX_COUNT:
        raise InputError(file.path, f"key {quoted(key)} {shown(found)}", expected="a number from 0")
    return found


def _clip(path: Path, line: str) -> CalibrationClip:
    """A clip from `sha256  part  name`. Raises InputError for another line."""
    hashed, part, name = (*line.split("  ", 2), "", "")[:3]
    if len(hashed) != 64 or part not in PARTS or not name:
        what = f"key {CLIPS} holds {quoted(repr(line))}"
        raise InputError(path, what, expected=f"sha256, one of {', '.join(PARTS)}, and a file's name")
    return CalibrationClip(name, hashed, part)


def _hash(path: Path, line: str) -> tuple[str, str]:
    """A file's name and hash from `sha256  name`. Raises InputError for another line."""
    hashed, _, name = line.partition("  ")
    if len(hashed) != 64 or not name:
        raise InputError(path, f"key {HESSIANS} holds {quoted(repr(line))}", expected="sha256 and a file's name")
    return name, hashed
