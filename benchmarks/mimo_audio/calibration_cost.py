"""What sensitivities and second moments of the 8 B model cost: `python -m benchmarks.mimo_audio.calibration_cost`.

A quarter of the language model's layers, of random weights and the real shapes, on clips of random codes. Seconds are
compared with those of the matrix products alone at the rate of one of 2048 positions, measured before and after; what
is left of the layers is scaled. The table goes into docs/benchmarks.md.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch

from benchmarks.generate import SIZES
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.mimo_audio.calibration import forward_of
from mimo_families.mimo_audio.layout import FAMILY, dimensions
from mimo_families.mimo_audio.prompt import build_prompt
from runtime_check.calibrate.forward import Forward, StepWeights, walk
from runtime_check.calibrate.hessians import HessianFolder
from runtime_check.calibrate.sensitivity.back import DRAWS
from runtime_check.calibrate.sensitivity.kept import Backward
from runtime_check.calibrate.structure import inputs_of
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.text.tokenizer import TextTokenizer

CLIPS, FRAMES, RESPONSE = (
    int(sys.argv.pop()) if sys.argv[-1].isdecimal() else 12,
    400,
    40,
)  # clips of 16 s: 100 groups of codes, and the tokens of the response
QUARTER, LAYERS = SIZES["quarter"]["num_hidden_layers"], 36
RATE_POSITIONS = 2048


class Cost(NamedTuple):
    """Seconds of a part, those of its products at the rate of the same run, the rate, and most memory, in bytes."""

    seconds: float
    products: float
    rate: float
    peak: int


class Watching(StepWeights):
    """Weights that tell of the inputs of products."""

    def __init__(self, weights: CheckpointWeights) -> None:
        super().__init__(weights)
        self.tell: Callable[[str, torch.Tensor], object] = lambda name, x: None

    def linear(self, name: str, x: torch.Tensor, bias: str | None = None) -> torch.Tensor:
        self.tell(name, x)
        return x if name == "lm_head.weight" else super().linear(name, x, bias)


def forwards_of(folder: Path) -> tuple[list[Forward], CheckpointWeights]:
    """Clips of random codes through the checkpoint in `folder`, with random responses."""
    checkpoint = open_checkpoint(folder)
    d, random = dimensions(checkpoint.config), np.random.default_rng(0)
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, FAMILY.text)
    least = min(min(d.speech_vocab), 100)
    forwards = []
    for _ in range(CLIPS):
        prompt = build_prompt(random.integers(0, least, (FRAMES, d.channels)).astype(np.int32), text.encode, d)
        forwards.append(forward_of(prompt, random.integers(0, 1000, RESPONSE).tolist(), text, d))
    return forwards, CheckpointWeights(checkpoint, torch.float32)


def rate() -> float:
    """Floating-point operations a second of a product with 2048 positions."""
    x, w = torch.randn(RATE_POSITIONS, 4096), torch.randn(11008, 4096)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        torch.nn.functional.linear(x, w)
        seconds.append(time.perf_counter() - begin)
    return 2 * x.shape[0] * w.numel() / min(seconds)


def flops_of(forwards: Sequence[Forward], weights: CheckpointWeights) -> list[float]:
    """Floating-point operations of the products of each step, for all clips."""
    tensors = weights.tensors
    return [
        sum(2.0 * one.positions * one.columns * tensors[name].n_rows for one in inputs for name in one.matrices) * CLIPS
        for inputs in inputs_of(forwards[0], tensors)
    ]


def measure(part: str, model: Path, folder: Path) -> Cost:
    """One part of the work, in this process."""
    forwards, weights = forwards_of(model)
    flops = flops_of(forwards, weights)
    before = rate()
    begin, cpu = time.perf_counter(), time.process_time()
    done = PARTS[part](forwards, weights, folder, flops)
    seconds = time.perf_counter() - begin
    print("cpu", time.process_time() - cpu)
    fastest = max(before, rate())
    return Cost(seconds, done / fastest, fastest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def forward_alone(forwards: list[Forward], weights: CheckpointWeights, folder: Path, flops: list[float]) -> float:
    """The way forward, whose states are kept."""
    states, backward = [forward.start for forward in forwards], Backward(folder, forwards, range(CLIPS))
    with torch.no_grad():
        for i in walk(forwards, Watching(weights), states):
            if i + 1 < len(flops):
                backward.keep(i + 1, states)
    return sum(flops[:-1])


def sensitivity(forwards: list[Forward], weights: CheckpointWeights, folder: Path, flops: list[float]) -> float:
    """The way back, with the states that the way forward kept."""
    Backward(folder, forwards, range(CLIPS)).run(weights, 0)
    return sum(flops[:-1]) * (1 + DRAWS) + 2 * flops[-1]


def second_moments(forwards: list[Forward], weights: CheckpointWeights, folder: Path, flops: list[float]) -> float:
    """The way forward with second moments of every input."""
    steps, watching = inputs_of(forwards[0], weights.tensors), Watching(weights)
    made = HessianFolder(folder / "c.hessian", steps, lambda name: (name,), "")
    states, products = [forward.start for forward in forwards], sum(flops[:-1])
    moments = made.begin(0)
    with torch.no_grad():
        for i in walk(forwards, watching, states):
            if moments:
                made.finish(i, moments)
            moments = made.begin(i + 1) if i + 1 < len(steps) else None
            watching.tell = moments.add if moments else lambda name, x: None
    return products + sum(CLIPS * one.positions * one.columns**2 for inputs in steps for one in inputs)


PARTS = {"forward": forward_alone, "sensitivity": sensitivity, "second moments": second_moments}


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="A quarter that benchmarks.generate made already.")
@click.option("--part", type=click.Choice(list(PARTS)), help="One part alone, in this process.")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where states and results are kept.")
@click.option("--threads", type=int, default=2)
def main(model: Path, part: str, folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    print(part, measure(part, model, folder), flush=True)


if __name__ == "__main__":
    main()
