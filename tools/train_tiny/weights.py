"""Weights with noise of a quantized file's size, and their optimization."""

import time
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.family import Tensor as Stored
from runtime_check.pytorch.weights import Weights

WEIGHT_NOISE = 0.08  # of a row's root mean square; Q4_K's own error is about that


class TinyWeights(Weights):
    """Weights by checkpoint name, for the functions of `reference`; matrices are read with relative `noise`."""

    def __init__(self, tensors: dict[str, Tensor], noise: float = 0.0) -> None:
        self.tensors, self.noise = tensors, noise

    def __call__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        return self._with_noise(tensor) if tensor.dim() == 2 else tensor

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self._with_noise(F.embedding(ids, self.tensors[name]))

    def _with_noise(self, rows: Tensor) -> Tensor:
        if not self.noise:
            return rows
        return rows + self.noise * rows.detach().pow(2).mean(-1, keepdim=True).sqrt() * torch.randn_like(rows)


def initial_weights(stored: Iterable[Stored]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: norms are 1, biases small, the rest as wide as its fan-in allows."""
    tensors = {}
    for tensor in stored:
        for source in tensor.sources:
            if tensor.role == "norm":
                tensors[source.name] = torch.ones(source.shape)
            elif tensor.role == "bias":
                tensors[source.name] = 0.01 * torch.randn(source.shape)
            else:
                fan_in = source.shape[1] * (source.shape[2] if len(source.shape) > 2 else 1)
                tensors[source.name] = torch.randn(source.shape) / fan_in**0.5
    return tensors


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to(torch.bfloat16) for name, tensor in tensors.items()}


def optimize(
    parameters: list[Tensor], steps: int, peak_rate: float, loss_of_step: Callable[[], Tensor], what: str
) -> None:
    """AdamW with a one-cycle learning rate."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.1)
    started, recent = time.monotonic(), 0.0
    for step in range(steps):
        loss = loss_of_step()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - started
            print(f"{what}: step {step + 1} of {steps}, loss {recent:.3f}, {seconds:.0f} s", flush=True)
