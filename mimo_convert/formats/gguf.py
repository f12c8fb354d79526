"""Read and write GGUF headers (v3, little-endian; ggml/docs/gguf.md).

Headers are written by the `gguf` library and read here: every count, string, shape and offset is checked against the
file's size before it is used, so that a damaged file gives one clear message.
"""

import io
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUFValueType, GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.gguf_writer import TensorInfo, WriterState

from mimo_convert.files import MB, input_errors, open_regular
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import BY_GGML, Type

from .tensor import TensorSlice

ARCHITECTURE = "general.architecture"
ALIGNMENT: int = GGUF_DEFAULT_ALIGNMENT
VERSION = 3
VALUE_TYPE_BYTES, LENGTH_BYTES = 4, 8
MAX_DIMENSIONS = 4  # of ggml
# Of a header that is not damaged; the published models' are under 10 MB, with 151,387 merges and under 1,000 tensors.
MAX_HEADER_BYTES = 64 * MB
MAX_STRINGS, MAX_ENTRIES, MAX_TENSORS, MAX_WEIGHTS = 1 << 21, 1 << 16, 1 << 16, 1 << 48


class CutHeaderError(InputError):
    """The file ends before its header does."""


Numbers = npt.NDArray[Any]  # an array of a metadata entry, as it lies in the file; read-only


class Entry(NamedTuple):
    """A metadata entry; for a list of strings or an array of numbers, `value_type` is the type of the elements."""

    key: str
    value: Any
    value_type: GGUFValueType


def align(offset: int) -> int:
    """Round an offset up to the alignment."""
    return offset + -offset % ALIGNMENT


class Header(NamedTuple):
    """The bytes of a header; `values` maps each key to the offset of its value, for a string to that of its text."""

    data: bytes
    values: Mapping[str, int]


def make_header(
    architecture: str, metadata: Sequence[Entry], tensors: Sequence[tuple[str, tuple[int, ...], Type]]
) -> Header:
    """Lay out everything before the tensor data, padded to the alignment.

    `tensors` are (name, shape as in PyTorch, type) in file order; their data must follow in that order, each aligned.
    """
    writer = _Writer(None, architecture)
    for key, value, value_type in metadata:
        if is_array(value):
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=value_type)
        else:
            writer.add_key_value(key, value, value_type)
    for name, shape, tensor_type in tensors:
        _add_tensor(writer, name, shape, tensor_type)
    buffer = io.BytesIO()
    writer.fout, writer.state = [buffer], WriterState.EMPTY  # into memory: the plan needs the size before the file is
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    header = buffer.getvalue()
    return Header(header.ljust(align(len(header)), b"\0"), writer.values)


class _Writer(GGUFWriter):  # type: ignore[misc]
    """GGUFWriter that also accepts empty arrays, packs an array at once and not value by value, and reports where each
    value lies."""

    def write_kv_data_to_file(self) -> None:
        """As the library's; `values` becomes the offset of each value."""
        [out] = self.fout
        self.values = dict[str, int]()
        for key, value in self.kv_data[0].items():
            out.write(self._pack_val(key, GGUFValueType.STRING, add_vtype=False))
            before = VALUE_TYPE_BYTES + (LENGTH_BYTES if value.type == GGUFValueType.STRING else 0)
            self.values[key] = out.tell() + before
            out.write(self._pack_val(value.value, value.type, add_vtype=True, sub_type=value.sub_type))
        self.state = WriterState.KV_DATA

    def _pack_val(self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: Any = None) -> bytes:
        if vtype == GGUFValueType.ARRAY and not len(val):
            return struct.pack("<IIQ", vtype, sub_type, 0)
        if vtype == GGUFValueType.ARRAY and sub_type == GGUFValueType.STRING:
            texts = [text.encode() if isinstance(text, str) else text for text in val]
            with_lengths = (part for text in texts for part in (_U64.pack(len(text)), text))
            return struct.pack("<IIQ", vtype, sub_type, len(texts)) + b"".join(with_lengths)
        if isinstance(val, np.ndarray) or (vtype == GGUFValueType.ARRAY and sub_type in _WHOLE):
            dtype = _DTYPES[sub_type]
            numbers = val.astype(dtype) if isinstance(val, np.ndarray) else np.array(val, dtype)
            return struct.pack("<IIQ", vtype, sub_type, len(val)) + numbers.tobytes()
        return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))


def _add_tensor(writer: GGUFWriter, name: str, shape: tuple[int, ...], ggml_type: Type) -> None:
    writer.tensors[-1][name] = TensorInfo(shape, GGMLQuantizationType(ggml_type.ggml), ggml_type.nbytes(prod(shape)))


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file whose header was validated.

    `value_types` are the types of the metadata, for an array that of its elements. Arrays of numbers are numpy arrays,
    arrays of strings are lists.
    """

    path: Path
    metadata: Mapping[str, Any]
    value_types: Mapping[str, GGUFValueType]
    tensors: Mapping[str, TensorSlice]
    size: int

    @property
    def header_bytes(self) -> int:
        """Bytes before the tensor data; the whole file if it has no tensors."""
        return min((tensor.begin for tensor in self.tensors.values()), default=self.size)

    @property
    def architecture(self) -> str:
        """The value of general.architecture; empty if missing."""
        return str(self.metadata.get(ARCHITECTURE, ""))

    @property
    def entries(self) -> list[Entry]:
        """The metadata as `make_header` takes it: all but the architecture."""
        return [Entry(k, v, self.value_types[k]) for k, v in self.metadata.items() if k != ARCHITECTURE]


def read_gguf(path: Path) -> GGUFFile:
    """Parse and validate a GGUF file's header. Raises InputError unless the file is complete and well-formed."""
    with open_regular(path, expected="a GGUF file") as file, input_errors(path, "cannot be read"):
        size = os.fstat(file.fileno()).st_size
        return _Reader(path, size, file.read(min(size, 1 << 20))).parse(file)


def parse_header(path: Path, header: bytes, size: int) -> GGUFFile:
    """Parse a header that is in memory, of a file `path` of `size` bytes. Raises InputError if it is malformed."""
    return _Reader(path, size, header).parse(io.BytesIO())


def is_array(value: Any) -> bool:
    """Whether a metadata value is an array, of strings or of numbers."""
    return isinstance(value, (list, np.ndarray))


_SCALARS = {
    GGUFValueType.UINT8: "<B", GGUFValueType.INT8: "<b", GGUFValueType.UINT16: "<H", GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I", GGUFValueType.INT32: "<i", GGUFValueType.FLOAT32: "<f", GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q", GGUFValueType.INT64: "<q", GGUFValueType.FLOAT64: "<d",
}  # fmt: skip
_DTYPES = {value_type: np.dtype(code) for value_type, code in _SCALARS.items()}
_WHOLE = {value_type for value_type, dtype in _DTYPES.items() if dtype.kind in "iu"}
_STRUCTS = {value_type: struct.Struct(code) for value_type, code in _SCALARS.items()}


def _is_number(value: Any, number: int) -> bool:
    return not is_array(value) and bool(value == number)


def shown(value: Any) -> str:
    """A metadata value as the predicate of a message."""
    if value is None:
        return "is missing"
    return f"holds {len(value):,} values" if is_array(value) else f"is {quoted(repr(value))}"


_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class _Reader:
    """A cursor over the header's bytes. Raises InputError for whatever reaches past the end."""

    def __init__(self, path: Path, size: int, head: bytes) -> None:
        self.path, self.size, self.data, self.at = path, size, head, 0

    def parse(self, file: BinaryIO) -> GGUFFile:
        """Parse the whole header. Raises InputError."""
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
                raise InputError(self.path, f"duplicate key {quoted(key)}")
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
                self.path, f"truncated: {self.size} bytes, its header reaches beyond", todo="copy or convert it again"
            )
        if end > MAX_HEADER_BYTES:
            raise InputError(self.path, f"damaged: its header claims {end} bytes", todo="copy or convert it again")
        if end > len(self.data):
            self.data += self.file.read(max(end - len(self.data), len(self.data)))
        self.at = end
        return begin

    def number(self, kind: struct.Struct) -> Any:
        """The number at the cursor."""
        begin = self.need(kind.size)
        return kind.unpack_from(self.data, begin)[0]

    def string(self) -> str:
        """The string at the cursor. Raises InputError unless it is UTF-8."""
        length = self.number(_U64)
        begin = self.need(length)
        try:
            return self.data[begin : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(self.path, f"a string at byte {begin} is not UTF-8") from error

    def strings(self, n: int) -> list[str]:
        """The next `n` strings; those whose bytes are at hand are taken at once."""
        texts: list[str] = []
        length_at = _U64.unpack_from
        while len(texts) < n:
            texts.append(self.string())  # with its bytes come those of others; or it tells what is wrong
            data, at = self.data, self.at
            with suppress(UnicodeDecodeError):
                while len(texts) < n and at + 8 <= len(data):
                    end = at + 8 + length_at(data, at)[0]
                    if end > len(data):
                        break
                    texts.append(data[at + 8 : end].decode())
                    at = end
            self.at = at
        return texts

    def value(self, key: str, value_type: int) -> tuple[Any, GGUFValueType]:
        """A value with its type, or the type of its elements."""
        if value_type in _STRUCTS:
            return self.number(_STRUCTS[GGUFValueType(value_type)]), GGUFValueType(value_type)
        if value_type == GGUFValueType.STRING:
            return self.string(), GGUFValueType.STRING
        if value_type == GGUFValueType.ARRAY:
            element, length = self.number(_U32), self.number(_U64)
            if element in _STRUCTS:
                dtype = _DTYPES[GGUFValueType(element)]
                begin = self.need(length * dtype.itemsize)
                return np.frombuffer(self.data[begin : self.at], dtype), GGUFValueType(element)
            if element == GGUFValueType.STRING:
                if length > MAX_STRINGS:
                    what = f"damaged: key {quoted(key)} claims {length} texts"
                    raise InputError(self.path, what, expected=f"at most {MAX_STRINGS}")
                return self.strings(length), GGUFValueType.STRING
            value_type = element
        raise InputError(self.path, f"key {quoted(key)} has the unknown value type {value_type}")

    def tensor_row(self) -> tuple[str, Type, tuple[int, ...], int]:
        """Name, type, shape (as in PyTorch) and offset of the tensor at the cursor. Raises InputError."""
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
        ggml_type = BY_GGML[number]
        if shape[-1] % ggml_type.block:
            raise InputError(
                self.path,
                f"tensor {quoted(name)} has rows of {shape[-1]}",
                expected=f"a multiple of {ggml_type.block} for {ggml_type.name}",
            )
        return name, ggml_type, shape, offset

    def place(self, rows: list[tuple[str, Type, tuple[int, ...], int]]) -> dict[str, TensorSlice]:
        """The tensors by name. Raises InputError unless their data lies end to end, aligned, within the file."""
        data_begin, expected = align(self.at), 0
        tensors: dict[str, TensorSlice] = {}
        for name, ggml_type, shape, offset in rows:
            if name in tensors:
                raise InputError(self.path, f"duplicate tensor {quoted(name)}")
            if offset != expected:
                raise InputError(self.path, f"tensor {quoted(name)} lies at offset {offset}", expected=f"{expected}")
            tensor = tensors[name] = TensorSlice(name, self.path, ggml_type, shape, data_begin + offset)
            if tensor.begin + tensor.nbytes > self.size:
                raise InputError(
                    self.path,
                    f"truncated in tensor {quoted(name)}: {self.size} bytes",
                    expected=f"at least {tensor.begin + tensor.nbytes}",
                    todo="copy or convert it again",
                )
            expected = align(offset + tensor.nbytes)
        return tensors
