"""The only room that lays out or reads a GGUF file (v3, little-endian; ggml/docs/gguf.md).

Headers are written by the `gguf` library. They are read here: every count, string, shape and offset is checked against
the file's size before it is used, so that a damaged file is one clear line and never a crash.
"""

import io
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUFValueType, GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.gguf_writer import TensorInfo, WriterState

from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import BY_GGML, Type

from .files import MB, input_errors, open_regular
from .stored import StoredTensor

ARCHITECTURE = "general.architecture"
ALIGNMENT: int = GGUF_DEFAULT_ALIGNMENT
VERSION = 3
MAX_DIMENSIONS = 4  # of ggml
# Of a header that is not damaged; the published models' are under 10 MB, with 151,387 merges and under 1,000 tensors.
MAX_HEADER_BYTES = 64 * MB
MAX_STRINGS, MAX_ENTRIES, MAX_TENSORS, MAX_WEIGHTS = 1 << 21, 1 << 16, 1 << 16, 1 << 48


class CutHeaderError(InputError):
    """The file ends before its header does."""


Numbers = npt.NDArray[Any]  # an array of a metadata entry, as it lies in the file; read-only


class Entry(NamedTuple):
    """A metadata entry; `type` is the element's type where `value` is a list of texts, or an array of numbers."""

    key: str
    value: Any
    type: GGUFValueType


def align(offset: int) -> int:
    """The next multiple of the alignment."""
    return offset + -offset % ALIGNMENT


def header_bytes(
    architecture: str, metadata: Sequence[Entry], tensors: Sequence[tuple[str, tuple[int, ...], Type]]
) -> bytes:
    """Everything before the tensor data, padded to the alignment.

    `tensors` are (name, shape as in PyTorch, type) in file order; their data must follow in that order, each aligned.
    """
    writer = _Writer(None, architecture)
    for key, value, type in metadata:
        if is_array(value):
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=type)
        else:
            writer.add_key_value(key, value, type)
    for name, shape, tensor_type in tensors:
        _add_tensor(writer, name, shape, tensor_type)
    buffer = io.BytesIO()
    writer.fout, writer.state = [buffer], WriterState.EMPTY  # into memory: the plan needs the size before the file is
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    header = buffer.getvalue()
    return header.ljust(align(len(header)), b"\0")


class _Writer(GGUFWriter):  # type: ignore[misc]
    """The library's writer refuses empty arrays, which other tools write, and packs numbers one by one."""

    def _pack_val(self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: Any = None) -> bytes:
        if vtype == GGUFValueType.ARRAY and not len(val):
            return struct.pack("<IIQ", vtype, sub_type, 0)
        if isinstance(val, np.ndarray):
            return struct.pack("<IIQ", vtype, sub_type, len(val)) + val.astype(_DTYPES[sub_type]).tobytes()
        return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))


def _add_tensor(writer: GGUFWriter, name: str, shape: tuple[int, ...], type: Type) -> None:
    writer.tensors[-1][name] = TensorInfo(shape, GGMLQuantizationType(type.ggml), type.nbytes(prod(shape)))


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file whose whole header was found sound.

    `value_types` are the metadata's, of an array its elements'. Arrays of numbers are numpy's, those of texts lists.
    """

    path: Path
    metadata: Mapping[str, Any]
    value_types: Mapping[str, GGUFValueType]
    tensors: Mapping[str, StoredTensor]
    size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get(ARCHITECTURE, ""))

    @property
    def entries(self) -> list[Entry]:
        """The metadata as `header_bytes` takes it: all but the architecture."""
        return [Entry(k, v, self.value_types[k]) for k, v in self.metadata.items() if k != ARCHITECTURE]


def read_gguf(path: Path) -> GGUFFile:
    """Parse and check a GGUF file's header. Raises InputError for whatever is not a complete, well-formed file."""
    with open_regular(path, expected="a GGUF file") as file, input_errors(path, "cannot be read"):
        size = os.fstat(file.fileno()).st_size
        return _Reader(path, size, file.read(min(size, 1 << 20))).parse(file)


def is_array(value: Any) -> bool:
    """Whether a metadata value is an array, of texts or of numbers."""
    return isinstance(value, (list, np.ndarray))


_SCALARS = {
    GGUFValueType.UINT8: "<B", GGUFValueType.INT8: "<b", GGUFValueType.UINT16: "<H", GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I", GGUFValueType.INT32: "<i", GGUFValueType.FLOAT32: "<f", GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q", GGUFValueType.INT64: "<q", GGUFValueType.FLOAT64: "<d",
}  # fmt: skip
_DTYPES = {type: np.dtype(code) for type, code in _SCALARS.items()}
_STRUCTS = {type: struct.Struct(code) for type, code in _SCALARS.items()}


def _is_number(value: Any, number: int) -> bool:
    return not is_array(value) and bool(value == number)


def shown(value: Any) -> str:
    """What a key says, in a sentence."""
    if value is None:
        return "is missing"
    return f"holds {len(value):,} values" if is_array(value) else f"is {quoted(repr(value))}"


_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class _Reader:
    """A cursor over the header's bytes; whatever reaches past the end is an InputError."""

    def __init__(self, path: Path, size: int, head: bytes) -> None:
        self.path, self.size, self.data, self.at = path, size, head, 0

    def parse(self, file: BinaryIO) -> GGUFFile:
        if self.size < 24 or _U32.unpack_from(self.data)[0] != GGUF_MAGIC:
            raise InputError(self.path, "not a GGUF file", expected="a file that begins with the bytes GGUF")
        self.file = file
        self.at = 4
        version = self.number(_U32)
        if version != VERSION:
            raise InputError(self.path, f"GGUF version {version}", expected=f"{VERSION}, little-endian")
        n_tensors, n_entries = self.number(_U64), self.number(_U64)
        for n, what, most in ((n_tensors, "tensors", MAX_TENSORS), (n_entries, "metadata entries", MAX_ENTRIES)):
            if n > most:
                raise InputError(self.path, f"damaged: its header claims {n} {what}", expected=f"at most {most}")
        metadata: dict[str, Any] = {}
        value_types: dict[str, GGUFValueType] = {}
        for _ in range(n_entries):
            key = self.string()
            if key in metadata:
                raise InputError(self.path, f"key {quoted(key)} stands twice")
            metadata[key], value_types[key] = self.value(key, self.number(_U32))
        if not _is_number(metadata.get("general.alignment", ALIGNMENT), ALIGNMENT):
            what = f"key general.alignment {shown(metadata['general.alignment'])}"
            raise InputError(self.path, what, expected=f"{ALIGNMENT}")
        rows = [self.tensor_row() for _ in range(n_tensors)]
        return GGUFFile(self.path, metadata, value_types, self.place(rows), self.size)

    def need(self, n: int) -> int:
        """Make `n` bytes from the cursor available, move behind them, and return where they begin."""
        begin, end = self.at, self.at + n
        if end > self.size:
            raise CutHeaderError(
                self.path, f"cut short: {self.size} bytes, its header reaches beyond", todo="copy or convert it again"
            )
        if end > MAX_HEADER_BYTES:
            raise InputError(self.path, f"damaged: its header claims {end} bytes", todo="copy or convert it again")
        if end > len(self.data):
            self.data += self.file.read(max(end - len(self.data), len(self.data)))
        self.at = end
        return begin

    def number(self, kind: struct.Struct) -> Any:
        begin = self.need(kind.size)
        return kind.unpack_from(self.data, begin)[0]

    def string(self) -> str:
        length = self.number(_U64)
        begin = self.need(length)
        try:
            return self.data[begin : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(self.path, f"a string at byte {begin} is not UTF-8") from error

    def value(self, key: str, type: int) -> tuple[Any, GGUFValueType]:
        """A value, and its type, or that of its elements."""
        if type in _STRUCTS:
            return self.number(_STRUCTS[GGUFValueType(type)]), GGUFValueType(type)
        if type == GGUFValueType.STRING:
            return self.string(), GGUFValueType.STRING
        if type == GGUFValueType.ARRAY:
            element, length = self.number(_U32), self.number(_U64)
            if element in _STRUCTS:
                dtype = _DTYPES[GGUFValueType(element)]
                begin = self.need(length * dtype.itemsize)
                return np.frombuffer(self.data[begin : self.at], dtype), GGUFValueType(element)
            if element == GGUFValueType.STRING:
                if length > MAX_STRINGS:
                    what = f"damaged: key {quoted(key)} claims {length} texts"
                    raise InputError(self.path, what, expected=f"at most {MAX_STRINGS}")
                return [self.string() for _ in range(length)], GGUFValueType.STRING
            type = element
        raise InputError(self.path, f"key {quoted(key)} has the unknown value type {type}")

    def tensor_row(self) -> tuple[str, Type, tuple[int, ...], int]:
        name = self.string()
        n_dimensions = self.number(_U32)
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise InputError(self.path, f"tensor {quoted(name)} has {n_dimensions} dimensions", expected="1 to 4")
        shape = tuple(reversed([self.number(_U64) for _ in range(n_dimensions)]))
        if prod(shape) >= MAX_WEIGHTS or not all(shape):
            raise InputError(self.path, f"tensor {quoted(name)} has shape {shape}", expected="1 to 2^48 weights")
        number, offset = self.number(_U32), self.number(_U64)
        if number not in BY_GGML:
            known = ", ".join(t.name for t in BY_GGML.values())
            raise InputError(self.path, f"tensor {quoted(name)} has ggml type {number}", expected=f"one of {known}")
        type = BY_GGML[number]
        if shape[-1] % type.block:
            raise InputError(
                self.path,
                f"tensor {quoted(name)} has rows of {shape[-1]}",
                expected=f"a multiple of {type.block} for {type.name}",
            )
        return name, type, shape, offset

    def place(self, rows: list[tuple[str, Type, tuple[int, ...], int]]) -> dict[str, StoredTensor]:
        """The tensors by name, after their data was found to lie end to end, aligned, and within the file."""
        data_begin, expected = align(self.at), 0
        tensors: dict[str, StoredTensor] = {}
        for name, type, shape, offset in rows:
            if name in tensors:
                raise InputError(self.path, f"tensor {quoted(name)} stands twice")
            if offset != expected:
                raise InputError(self.path, f"tensor {quoted(name)} lies at offset {offset}", expected=f"{expected}")
            tensor = tensors[name] = StoredTensor(name, self.path, type, shape, data_begin + offset)
            if tensor.begin + tensor.nbytes > self.size:
                raise InputError(
                    self.path,
                    f"cut short in tensor {quoted(name)}: {self.size} bytes",
                    expected=f"at least {tensor.begin + tensor.nbytes}",
                    todo="copy or convert it again",
                )
            expected = align(offset + tensor.nbytes)
        return tensors
