"""Checkpoints as folders."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mimo_convert.model.checkpoint import open_checkpoint
from runtime_check.pytorch.weights import CheckpointWeights

from .configs import ASR_CONFIG, TOKENIZER_CONFIG


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_asr(tensors: dict[str, Tensor], folder: Path, **config: Any) -> None:
    """`config`: what its config.json says in place of ASR_CONFIG."""
    write_json(folder / "config.json", ASR_CONFIG | config)
    save_shards(tensors, folder)


def save_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Two shards with half of the tensors each, and their index."""
    names = sorted(tensors)
    files = {
        f"model-0000{part}-of-00002.safetensors": shard
        for part, shard in ((1, names[: len(names) // 2]), (2, names[len(names) // 2 :]))
    }
    for file, shard in files.items():
        save_file({name: tensors[name] for name in shard}, folder / file, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for file, shard in files.items() for name in shard},
    }
    write_json(folder / "model.safetensors.index.json", index)


def save_audio_tokenizer(tensors: dict[str, Tensor], folder: Path) -> None:
    """With the codebooks' `inited` flags, training buffers that a conversion leaves out."""
    write_json(folder / "config.json", TOKENIZER_CONFIG)
    codebooks = [name for name in tensors if "_codebook" in name]
    flags = {name.replace(".embed", ".inited"): torch.ones(1, dtype=torch.bfloat16) for name in codebooks}
    save_file(tensors | flags, folder / "model.safetensors", {"format": "pt"})


def read_weights(folder: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(str(folder))
    read = CheckpointWeights(checkpoint, torch.float32)
    return {name: read(name) for name in checkpoint.tensors}
