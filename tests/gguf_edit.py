"""Ways to change a GGUF file, by the tools of others: the `gguf` library and ggml."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ggml
import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType

from tests.readers import header_by_ggml


class Key(NamedTuple):
    """A metadata entry; `element` is the type of a list's elements."""

    name: str
    value: Any
    type: GGUFValueType
    element: GGUFValueType | None = None


def rewrite(
    source: Path,
    target: Path,
    *,
    architecture: str = "",
    keys: Callable[[Key], Key | None] = lambda key: key,
    add: Sequence[Key] = (),
    tensors: Callable[[str], bool] = lambda name: True,
    extra: str = "",
) -> Path:
    """The file anew, by the `gguf` library: another architecture, each key as `keys` returns it (None: not at all) and
    those of `add`, the tensors that `tensors` says, and one named `extra` that nobody expects."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, architecture or reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        key = keys(Key(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None))
        if key:
            writer.add_key_value(key.name, key.value, key.type, sub_type=key.element)
    for key in add:
        writer.add_key_value(key.name, key.value, key.type, sub_type=key.element)
    for tensor in reader.tensors:
        if tensors(tensor.name):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    if extra:
        writer.add_tensor(extra, np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def add_empty_arrays(source: Path, target: Path) -> Path:
    """The file with two keys of empty arrays, `x.no_strings` and `x.no_numbers`: ggml writes such, `gguf` not."""
    with header_by_ggml(source) as (context, _):
        data = ggml.gguf_get_data_offset(context)
        ggml.gguf_set_arr_str(context, b"x.no_strings", (ctypes.c_char_p * 0)(), 0)
        ggml.gguf_set_arr_data(context, b"x.no_numbers", int(GGUFValueType.FLOAT32), None, 0)
        assert ggml.gguf_write_to_file(context, bytes(target), True)
    with target.open("ab") as file:
        file.write(source.read_bytes()[data:])
    return target


def array_by_ggml(path: Path, key: str) -> tuple[int, GGUFValueType]:
    """How many elements an array of a file has, and their type, by ggml."""
    with header_by_ggml(path) as (context, _):
        id = ggml.gguf_find_key(context, key.encode())
        assert id >= 0, f"{key} is not there"
        return ggml.gguf_get_arr_n(context, id), GGUFValueType(ggml.gguf_get_arr_type(context, id))


def patch(path: Path, tensor: str, at: int, data: npt.NDArray[Any]) -> None:
    """Bytes of a tensor, from its byte `at` on, become those of `data`."""
    begin = next(int(t.data_offset) for t in gguf.GGUFReader(path).tensors if t.name == tensor)
    with path.open("r+b") as file:
        file.seek(begin + at)
        file.write(data.tobytes())
