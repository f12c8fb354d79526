"""Ways to change a checkpoint, mostly for the worse."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Any], Any]


def edit_json(path: Path, change: Change) -> None:
    """Change a JSON file: `change` gets its content, and changes it or returns another."""
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(values) or values), encoding="utf-8")


def shard_of(folder: Path, tensor: str) -> Path:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return folder / json.loads(index.read_text())["weight_map"][tensor]
    return folder / "model.safetensors"


def edit_tensor(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """Replace a tensor by `change` of it, or take it out where that is None; the index follows."""
    shard = shard_of(folder, name)
    tensors = load_file(shard)
    new = change(tensors.pop(name))
    if new is not None:
        tensors[name] = new
    elif (index := folder / "model.safetensors.index.json").exists():
        edit_json(index, lambda values: values["weight_map"].pop(name) and None)
    save_file(tensors, shard)


def set_weight(folder: Path, name: str, row: int, value: float) -> None:
    """One weight of a row becomes `value`."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1, tensor.shape[-1])[row, 1] = value
        return tensor

    edit_tensor(folder, name, change)


def add_tensor(folder: Path, name: str, beside: str) -> None:
    """A tensor nobody expects, in the shard that holds `beside`."""
    shard = shard_of(folder, beside)
    save_file(load_file(shard) | {name: torch.zeros(4)}, shard)
    if (index := folder / "model.safetensors.index.json").exists():
        edit_json(index, lambda values: values["weight_map"].update({name: shard.name}))


def edit_header(shard: Path, change: Change) -> None:
    """Change a shard's header, and nothing of its data."""
    data = shard.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    raw = json.dumps(change(header) or header).encode()
    shard.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


def cut(path: Path, keep: float | int) -> None:
    """Keep the first bytes of a file: so many, or this share of them; negative: all but so many."""
    size = path.stat().st_size
    n = int(size * keep) if isinstance(keep, float) else keep if keep >= 0 else size + keep
    with path.open("r+b") as file:
        file.truncate(n)
