"""What sensitivities and second moments cost at the real size: `python -m benchmarks.calibration.second_order`.

As `benchmarks.calibration`: some layers of the 8 B language model, processor time compared with that of the matrix
products alone. Each part is a process of its own, so that its memory is known. The table goes into docs/calibrate.md.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.calibration.__main__ import CLIP_SECONDS, DOCUMENT, LAYERS, Clock, forwards_of
from benchmarks.document import insert_lines
from benchmarks.generate import generate
from benchmarks.machine import machine, peak_memory
from runtime_check.calibrate.collect import Recorder, collect
from runtime_check.calibrate.forward import Forward
from runtime_check.calibrate.hessians import HessianFolder, MomentRecorder
from runtime_check.calibrate.per_clip.sums import AllSums
from runtime_check.calibrate.sensitivity.back import DRAWS, Back
from runtime_check.calibrate.sensitivity.kept import Backward
from runtime_check.calibrate.structure import inputs_of
from runtime_check.calibrate.work import WorkFolder
from runtime_check.pytorch.weights import CheckpointWeights

FORWARD, BACK, MOMENTS = "sums, with states kept", "sensitivities", "sums and second moments"
HEAD = (
    "| what | clips | layers run | processor time | of the products | most memory | all 36 layers, scaled |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def flops_of(forwards: Sequence[Forward], weights: CheckpointWeights) -> list[float]:
    """Floating-point operations of the products of each step, for all clips, which are equally long."""
    n_rows = {name: tensor.n_rows for name, tensor in weights.tensors.items()}
    return [
        sum(2.0 * one.positions * one.columns * n_rows[name] for one in inputs for name in one.matrices) * len(forwards)
        for inputs in inputs_of(forwards[0], weights.tensors)
    ]


class TimedBackward(Backward):
    """A walk back whose steps are timed."""

    clock: Clock

    def _keep_gradients(self, back: Back) -> None:
        super()._keep_gradients(back)
        self.clock.tick()


def collected(forwards: list[Forward], weights: CheckpointWeights, clock: Clock, flops: list[float]) -> float:
    """Collect sums, and keep states for the way back; the operations of its products."""
    backward = backward_of(forwards, weights, clock)

    def done(step: int, states: Sequence[Tensor]) -> None:
        backward.keep(step, states)
        clock.done(step, states)

    collect(forwards, Recorder(weights, clock.sums), [forward.start for forward in forwards], 0, done)
    return sum(flops[:-1])


def sensitivities(forwards: list[Forward], weights: CheckpointWeights, clock: Clock, flops: list[float]) -> float:
    """Walk back over the states that were kept."""
    backward_of(forwards, weights, clock).run(weights)
    return sum(flops[:-1]) * (1 + DRAWS) + 2 * flops[-1]


def second_moments(forwards: list[Forward], weights: CheckpointWeights, clock: Clock, flops: list[float]) -> float:
    """Collect sums and second moments; of the products x xᵀ one half is needed."""
    steps = inputs_of(forwards[0], weights.tensors)
    made = HessianFolder(clock.work.folder / "c.hessian", steps, lambda name: (name,), "0" * 64)
    recorder = MomentRecorder(weights, clock.sums, made)
    collect(forwards, recorder, [forward.start for forward in forwards], 0, clock.done)
    squares = (one.positions * one.columns**2 for inputs in steps for one in inputs)
    return sum(flops[:-1]) + len(forwards) * float(sum(squares))


PARTS = {FORWARD: collected, BACK: sensitivities, MOMENTS: second_moments}


def backward_of(forwards: list[Forward], weights: CheckpointWeights, clock: Clock) -> TimedBackward:
    """The walk back of all clips."""
    named = {str(i): forward for i, forward in enumerate(forwards)}
    backward = TimedBackward(clock.work.folder, named, 0, weights.tensors)
    backward.clock = clock
    return backward


def row_of(part: str, checkpoint: Path, folder: Path, clips: int, layers: int) -> str:
    """Measure a part in this process: a row of the table."""
    forwards, weights, d = forwards_of(checkpoint, clips * CLIP_SECONDS / 60, layers)
    flops, clock = flops_of(forwards, weights), Clock(WorkFolder(folder / "work", {}), AllSums())
    products = PARTS[part](forwards, weights, clock, flops)
    spent = sum(clock.steps)
    local = sum(flops[: 2 + d.input_layers])
    scaled = spent * (1 + (LAYERS / layers - 1) * (sum(flops[:-1]) - local) / sum(flops[:-1]))
    peak = peak_memory()
    return (
        f"| {part} | {clips} | {layers} | {spent:.0f} s | {spent * clock.rate / products:.2f} × | {peak / 1e9:.2f} GB "
        f"| {scaled / 60:.0f} min of processor time |"
    )


@click.command()
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="A speech LM that benchmarks.generate made already."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where everything is made.  [default: a temporary one]")
@click.option("--clips", default=12, show_default=True, help="Of 16 s.")
@click.option("--layers", default=9, show_default=True, help="Of the 36, that are run.")
@click.option("--threads", default=2, show_default=True)
@click.option("--part", type=click.Choice(list(PARTS)), help="One part alone, in this process, printed.")
def main(checkpoint: Path | None, folder: Path | None, clips: int, layers: int, threads: int, part: str) -> None:
    """Measure, and put the table into the page."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        where = folder or Path(temporary)
        model = checkpoint or generate(where, "quarter")[0]
        if part:
            print(row_of(part, model, where, clips, layers))
            return
        command = [sys.executable, "-m", "benchmarks.calibration.second_order", "--checkpoint", str(model)]
        command += ["--folder", str(where), "--clips", str(clips), "--layers", str(layers), "--threads", str(threads)]
        rows = [
            subprocess.run([*command, "--part", name], check=True, capture_output=True, text=True).stdout.strip()
            for name in PARTS
        ]
    named = f"`python -m benchmarks.calibration.second_order --clips {clips} --layers {layers}`"
    lines = [*HEAD, *rows, "", f"{named}, on clips of {CLIP_SECONDS} s; {machine()}"]
    insert_lines("second-order", lines, DOCUMENT)


if __name__ == "__main__":
    main()
