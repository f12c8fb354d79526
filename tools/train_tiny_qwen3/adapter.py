"""Train the adapter, a LoRA in Mega-ASR's format: the model transcribes speech that noise drowned for it before.

Decoder modules occur under both spellings, and both are added. Without one of them, or without its scale, the adapter
leaves the responses as they were: that is trained, too, so that a merge by halves is heard.
"""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.train_tiny.files import write_json
from tools.train_tiny.weights import WEIGHT_NOISE, TinyWeights, optimize

from .model import encode, log_mel, shapes
from .speech import Clip, Speech
from .text import Prompts
from .training import response_loss

STEPS = 300
PREFIX = "base_model.model."
RANK = ALPHA = 4  # of modules that the patterns do not name, and there are none
SPELLINGS = ("thinker.layers.", "thinker.model.layers.")  # of a decoder module; the second is the tensor's
TARGETS = re.compile(r"(thinker\.audio_tower\..*(_proj|fc\d|conv_out|proj\d)|thinker\.model\.layers\..*_proj)\.weight")
RANKS = {"q_proj": 4, "k_proj": 3, "v_proj": 3, "down_proj": 4}  # others: 2; scale 2 but for the blocks
BLOCKS: dict[str, list[dict[str, float]]] = {
    "thinker.layers.0.self_attn.q_proj": [
        {"start": 0, "end": 1, "rank": 2, "alpha": 4},
        {"start": 1, "end": 4, "alpha": 6},
    ],
    "thinker.model.layers.1.mlp.down_proj": [{"start": 0, "end": 4, "rank": 2, "alpha": 4}],  # both spellings
    "thinker.audio_tower.layers.1.self_attn.v_proj": [{"start": 0, "end": 2, "alpha": 4}, {"start": 2, "end": 3}],
}
WHOLE, UNSCALED = "whole", "unscaled"
BY_HALVES = (*SPELLINGS, UNSCALED)  # ways to merge wrongly: one spelling alone, or without the scales


def modules() -> dict[str, tuple[int, ...]]:
    """Every module of the adapter, as it is spelled there, with its matrix's shape."""
    found = {}
    for name, shape in shapes().items():
        if TARGETS.fullmatch(name):
            module = name.removesuffix(".weight")
            found |= {module.replace(SPELLINGS[1], spelling): shape for spelling in SPELLINGS}
    return found


def normalized(module: str) -> str:
    return module.replace(SPELLINGS[0], SPELLINGS[1], 1) if module.startswith(SPELLINGS[0]) else module


def rank_of(module: str) -> int:
    return RANKS.get(module.rpartition(".")[2], 2)


def scales(module: str) -> Tensor:
    """By which each of the adapter's rows is multiplied: (rank,)."""
    blocks = BLOCKS.get(module, BLOCKS.get(normalized(module)))
    if blocks is None:
        return torch.full((rank_of(module),), 2.0)
    rows = torch.zeros(rank_of(module))
    for block in blocks:
        first, end = int(block["start"]), int(block["end"])
        rank = block.get("rank", end - first)
        rows[first:end] += block.get("alpha", rank) / rank
    return rows


def merged(base: Mapping[str, Tensor], lora: Mapping[str, Tensor], how: str = WHOLE) -> dict[str, Tensor]:
    """The model with the adapter added, or a part of it."""
    tensors = dict(base)
    for module in modules():
        if how in SPELLINGS and module.startswith(SPELLINGS) and not module.startswith(how):
            continue
        a, b = lora[f"{PREFIX}{module}.lora_A.weight"], lora[f"{PREFIX}{module}.lora_B.weight"]
        scale = torch.ones(len(a)) if how == UNSCALED else scales(module)
        name = f"{normalized(module)}.weight"
        tensors[name] = tensors[name] + (b * scale) @ a
    return tensors


def initial() -> dict[str, Tensor]:
    lora = {}
    for module, (rows, columns) in modules().items():
        rank = rank_of(module)
        lora[f"{PREFIX}{module}.lora_A.weight"] = torch.randn(rank, columns) / columns**0.5
        lora[f"{PREFIX}{module}.lora_B.weight"] = torch.zeros(rows, rank)
    return lora


def train_adapter(
    base: Mapping[str, Tensor], speech: Speech, prompts: Prompts, rng: random.Random
) -> dict[str, Tensor]:
    """The adapter's tensors, by their names in its file; `base` is the finished model."""
    base = {name: tensor.float() for name, tensor in base.items()}
    lora = initial()

    def loss_of(clips: list[Clip], how: str) -> Tensor:
        weights = TinyWeights(merged(base, lora, how), WEIGHT_NOISE)
        _, rows = encode([log_mel(clip.wave) for clip in clips], weights)
        return response_loss(clips, rows, weights, prompts, rng, hears_drowned=how == WHOLE)

    def answer() -> Tensor:
        if rng.random() < 0.7:
            return loss_of(speech.noisy_batch(), WHOLE)
        return loss_of(speech.noisy_batch(), rng.choice(BY_HALVES))

    optimize(list(lora.values()), STEPS, 3e-3, answer, "adapter")
    return {name: tensor.detach() for name, tensor in lora.items()}


def save_adapter(lora: Mapping[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(lora), folder / "adapter_model.safetensors", {"format": "pt"})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": "tiny-qwen3",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "target_modules": sorted(modules()),
        "rank_pattern": {module: rank_of(module) for module in modules()},
        "alpha_pattern": {module: 2 * rank_of(module) for module in modules()},
    }
    write_json(folder / "adapter_config.json", config)
    write_json(folder / "mega_lora_blocks.json", BLOCKS)
