"""Weights of the smallest file: what is off in recognition must be so in each."""

import numpy as np
import torch
from torch import Tensor

from quantize.recipes import choose_type
from quantize.types import TYPES
from runtime_check.tensors.conversion_paths import round_trip

LEAST = TYPES["q2_k"]


def in_two_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a Q2_K file has them: vectors as they are."""
    return {name: quantized(x) if x.dim() == 2 else x for name, x in tensors.items()}


def quantized(rows: Tensor) -> Tensor:
    """(n, row) → what a Q2_K file holds of it."""
    ggml_type, _ = choose_type("matrix", rows.shape[1], LEAST)
    return torch.from_numpy(round_trip(np.ascontiguousarray(rows.detach().float().numpy()), ggml_type).copy())
