"""Readers of checkpoints and GGUF files that are not ours: safetensors, the `gguf` library, ggml.

The `gguf` library takes long for a file, so what it reads is kept, by the file's contents.
"""

import hashlib
from functools import lru_cache
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


class Read(NamedTuple):
    """What the `gguf` library reads of a file."""

    tensors: dict[str, Stored]
    metadata: dict[str, Any]


def gguf_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a file, by the `gguf` library."""
    return dict(_read(path, hashlib.sha256(path.read_bytes()).digest()).tensors)


def gguf_metadata(path: Path) -> dict[str, Any]:
    """Every metadata entry of a file, by the `gguf` library, without the header's own counts."""
    return dict(_read(path, hashlib.sha256(path.read_bytes()).digest()).metadata)


@lru_cache(maxsize=16)
def _read(path: Path, contents: bytes) -> Read:
    reader = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tensors = {
        t.name: Stored(
            t.tensor_type.name.lower(), tuple(int(n) for n in reversed(t.shape)),
            int(t.data_offset) - reader.data_offset, t.data.tobytes(),
        )
        for t in reader.tensors
    }  # fmt: skip
    return Read(tensors, metadata)


def ggml_tensors(path: Path) -> dict[str, tuple[str, int, int]]:
    """Type, offset and bytes of every tensor of a file, by ggml."""
    context = ggml.gguf_init_from_file(bytes(path), ggml.gguf_init_params(no_alloc=True, ctx=None))
    assert context is not None, f"ggml refuses {path}"
    try:
        return {
            ggml.gguf_get_tensor_name(context, i).decode(): (
                ggml.ggml_type_name(ggml.gguf_get_tensor_type(context, i)).decode().lower(),
                ggml.gguf_get_tensor_offset(context, i),
                ggml.gguf_get_tensor_size(context, i),
            )
            for i in range(ggml.gguf_get_n_tensors(context))
        }
    finally:
        ggml.gguf_free(context)
