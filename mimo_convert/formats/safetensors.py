"""The header of a safetensors file (https://github.com/huggingface/safetensors, "Format"), validated completely.

Every count is bounded before it is used, and every offset verified before a byte of a tensor is read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from mimo_convert.files import MB, input_errors
from mimo_convert.formats.json_file import parse_json
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import BF16, F16, F32, Type

from .tensor import TensorSlice, shape_text

AGAIN = "download it again"
MAX_HEADER_BYTES = 32 * MB  # published shards have less than 1 MB; the format itself allows 100 MB
MAX_TENSORS = 1 << 18
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 48  # of a dimension
METADATA, ALIGNMENT = "__metadata__", 8  # of a header's bytes, which spaces fill up
WEIGHT_TYPES = {"F32": F32, "F16": F16, "BF16": BF16}
OTHER_DTYPES = {"F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
OTHER_DTYPES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
# The dtypes of safetensors; those that hold no weights have no number in ggml.
DTYPES = WEIGHT_TYPES | {name: Type(name, -1, -1, 1, nbytes) for name, nbytes in OTHER_DTYPES.items()}


@dataclass(frozen=True)
class SafetensorsHeader:
    """The tensors of a file, in the order of the header, and its `__metadata__`."""

    tensors: tuple[TensorSlice, ...]
    metadata: Mapping[str, str]


def read_header(path: Path, size: int, file: BinaryIO) -> SafetensorsHeader:
    """Parse the header of `path`, a file of `size` bytes that is open at its beginning.

    Raises InputError unless it is bounded JSON whose tensors lie end to end, from its own end to the file's.
    """
    with input_errors(path, "cannot be read"):
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise InputError(path, f"truncated: {size} bytes, header says {length}", todo=AGAIN)
        if length > MAX_HEADER_BYTES:
            raise InputError(path, f"has a header of {length:,} bytes", expected=f"at most {MAX_HEADER_BYTES:,}")
        raw = file.read(length)
    entries, metadata = _parse(path, raw)
    if len(entries) > MAX_TENSORS:
        raise InputError(path, f"has {len(entries):,} tensors", expected=f"at most {MAX_TENSORS:,}")
    tensors = [_read_entry(path, name, entry) for name, entry in entries.items()]
    _check_places(path, tensors, size - 8 - length)
    return SafetensorsHeader(tuple(replace(info, begin=8 + length + begin) for info, begin, _ in tensors), metadata)


def float_header(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> bytes:
    """The bytes before those of F32 tensors, which follow one another in the order of their names: what the library
    writes, which takes all of them at once."""
    entries: dict[str, Any] = {METADATA: metadata}
    end = 0
    for name in sorted(shapes):
        begin, end = end, end + prod(shapes[name]) * F32.block_bytes
        entries[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": (begin, end)}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parse(path: Path, raw: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        if not raw.startswith(b"{"):
            raise ValueError("it does not begin with {")
        header: dict[str, Any] = parse_json(raw)
    except ValueError as error:
        raise InputError(path, f"header is not JSON ({error})", todo=AGAIN) from error
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(path, f"header entry {METADATA} is malformed", expected="texts by name", todo=AGAIN)
    return header, metadata


def _read_entry(path: Path, name: str, entry: Any) -> tuple[TensorSlice, int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not isinstance(dtype, str):
            raise ValueError
        if not all(type(n) is int and 0 <= n < MAX_SIZE for n in (*shape, begin, end)) or prod(shape) >= MAX_SIZE:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"header entry of tensor {quoted(name)} is malformed", todo=AGAIN) from error
    if dtype not in DTYPES:
        what = f"tensor {quoted(name)} has unsupported dtype {quoted(dtype)}"
        raise InputError(path, what, expected=" or ".join(WEIGHT_TYPES))
    return TensorSlice(name, path, DTYPES[dtype], tuple(shape), 0), begin, end


def _check_places(path: Path, tensors: list[tuple[TensorSlice, int, int]], data: int) -> None:
    """Raise InputError unless the tensors fill `data` bytes without a gap or an overlap."""
    end = 0
    for info, begin, stop in _by_place(tensors):
        name = quoted(info.name)
        if begin != end:
            kind = "overlaps the one before" if begin < end else "leaves a gap before it"
            raise InputError(path, f"tensor {name} {kind}: begins at {begin}", expected=f"{end}")
        if stop - begin != info.nbytes:
            expected = f"{info.nbytes} for {info.ggml_type.name.upper()} {shape_text(info.shape)}"
            raise InputError(path, f"tensor {name} has {stop - begin} bytes", expected=expected)
        end = stop
    if end > data:
        raise InputError(path, f"truncated: tensors reach to {end} of {data} bytes", todo=AGAIN)
    if end < data:
        raise InputError(path, f"{data - end} bytes that belong to no tensor", todo=AGAIN)


def _by_place(tensors: list[tuple[TensorSlice, int, int]]) -> Iterator[tuple[TensorSlice, int, int]]:
    yield from sorted(tensors, key=lambda entry: entry[1:])
