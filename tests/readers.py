"""Readers of checkpoints and GGUF files that are not ours: safetensors, the `gguf` library, ggml."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ggml
import gguf
import torch
from safetensors.torch import load_file


class Stored(NamedTuple):
    """A tensor as it lies in a file: ggml's name of its type, shape as in PyTorch, offset in the data, bytes."""

    type: str
    shape: tuple[int, ...]
    offset: int
    data: bytes


def checkpoint_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by the safetensors library."""
    return {name: t for shard in sorted(folder.glob("*.safetensors")) for name, t in load_file(shard).items()}


def gguf_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a file, by the `gguf` library."""
    reader = gguf.GGUFReader(path)
    return {
        t.name: Stored(
            t.tensor_type.name.lower(), tuple(int(n) for n in reversed(t.shape)),
            int(t.data_offset) - reader.data_offset, t.data.tobytes(),
        )
        for t in reader.tensors
    }  # fmt: skip


def gguf_metadata(path: Path) -> dict[str, Any]:
    """Every metadata entry of a file, by the `gguf` library, without the header's own counts."""
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


@contextmanager
def header_by_ggml(path: Path) -> Iterator[tuple[Any, Any]]:
    """The header of a file as ggml reads it, and its context with the tensors' shapes."""
    tensors = ctypes.c_void_p()
    header = ggml.gguf_init_from_file(bytes(path), ggml.gguf_init_params(no_alloc=True, ctx=ctypes.pointer(tensors)))
    assert header is not None, f"ggml refuses {path}"
    try:
        yield header, tensors
    finally:
        ggml.gguf_free(header)
        ggml.ggml_free(tensors)


def ggml_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a file, its shape without leading ones, by ggml, which is quicker than the `gguf` library."""
    contents, found = path.read_bytes(), {}
    with header_by_ggml(path) as (header, tensors):
        begin = ggml.gguf_get_data_offset(header)
        for i in range(ggml.gguf_get_n_tensors(header)):
            name, offset = ggml.gguf_get_tensor_name(header, i), ggml.gguf_get_tensor_offset(header, i)
            tensor = ggml.ggml_get_tensor(tensors, name)
            shape = tuple(int(n) for n in reversed(tensor.contents.ne[: ggml.ggml_n_dims(tensor)]))
            data = contents[begin + offset : begin + offset + ggml.gguf_get_tensor_size(header, i)]
            type_name = ggml.ggml_type_name(ggml.gguf_get_tensor_type(header, i)).decode().lower()
            found[name.decode()] = Stored(type_name, shape, offset, data)
    return found
