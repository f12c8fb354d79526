"""What collecting costs at the real size: `python -m benchmarks.calibration`.

Some layers of the 8 B language model, of random weights and the real shapes, on clips of random codes; what is kept
between steps is written as `mimo-calibrate` does. Processor time is compared with that of the matrix products alone, at
the mean rate of one of 2048 positions behind each step: so it counts no time that other processes took, and the same
of what they take from the caches. Figures of all layers are scaled from those that ran. The table goes into
docs/calibrate.md.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.document import insert_lines
from benchmarks.generate import generate
from benchmarks.machine import machine, peak_memory
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.mimo_audio.calibration import forward_of
from mimo_families.mimo_audio.layout import FAMILY, SpeechLMDims, dimensions
from mimo_families.mimo_audio.prompt import build_prompt
from runtime_check.calibrate.collect import Recorder, collect
from runtime_check.calibrate.forward import Forward
from runtime_check.calibrate.per_clip.sums import AllSums
from runtime_check.calibrate.work import WorkFolder
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.text.tokenizer import TextTokenizer

DOCUMENT = Path(__file__).parents[2] / "docs" / "calibrate.md"
CLIP_SECONDS, RESPONSE = 16, 40  # of a clip, and the tokens of its response
FRAMES_PER_SECOND, LAYERS, RATE_POSITIONS = 25, 36, 2048
ROWS, COLUMNS = 11008, 4096  # of the product that the rate is of


def forwards_of(folder: Path, minutes: float, layers: int) -> tuple[list[Forward], CheckpointWeights, SpeechLMDims]:
    """Clips of random codes with random responses, through the first layers of the checkpoint in `folder`."""
    checkpoint = open_checkpoint(folder)
    d, random = dimensions(checkpoint.config), np.random.default_rng(0)
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, FAMILY.text)
    shape, found = (CLIP_SECONDS * FRAMES_PER_SECOND, d.channels), list[Forward]()
    for _ in range(round(minutes * 60 / CLIP_SECONDS)):
        prompt = build_prompt(random.integers(0, min(d.speech_zeroemb), shape).astype(np.int32), text.encode, d)
        whole = forward_of(prompt, random.integers(0, 1000, RESPONSE).tolist(), text, d)
        before = 2 + d.input_layers + layers
        found.append(replace(whole, steps=[*whole.steps[:before], whole.steps[-1]]))
    return found, CheckpointWeights(checkpoint, torch.float32), d


def flops_of(sums: AllSums, weights: CheckpointWeights) -> float:
    """Floating-point operations of the products that these sums are of, but the head's."""
    names = (name for name in sums if name != "lm_head.weight")
    return sum(2.0 * sums[name].count * weights.tensors[name].n_rows * len(sums[name].squares) for name in names)


class Clock:
    """Processor time of each step, with what is kept of it, and of a product of 2048 positions behind it."""

    def __init__(self, work: WorkFolder, sums: AllSums) -> None:
        self.work, self.sums, self.steps, self.products = work, sums, list[float](), list[float]()
        self.begin = time.process_time()
        self.tick()  # the first is slower
        self.steps, self.products = [], []

    def done(self, number: int, states: Sequence[Tensor]) -> None:
        self.work.keep(number, states, self.sums)
        self.tick()

    def tick(self) -> None:
        """A step is done. What is multiplied here is in memory here alone, which is measured, too."""
        self.steps.append(time.process_time() - self.begin)
        x, w = torch.ones(RATE_POSITIONS, COLUMNS), torch.ones(ROWS, COLUMNS)
        begin = time.process_time()
        torch.nn.functional.linear(x, w)
        self.begin = time.process_time()
        self.products.append(self.begin - begin)

    @property
    def rate(self) -> float:
        """Floating-point operations a second of processor time."""
        return 2 * RATE_POSITIONS * ROWS * COLUMNS / float(np.mean(self.products))


@click.command()
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="A speech LM that benchmarks.generate made already."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where everything is made.  [default: a temporary one]")
@click.option("--minutes", default=30.0, show_default=True, help="Of audio.")
@click.option("--layers", default=9, show_default=True, help="Of the 36, that are run.")
@click.option("--threads", default=2, show_default=True)
def main(checkpoint: Path | None, folder: Path | None, minutes: float, layers: int, threads: int) -> None:
    """Measure, and put the table into the page."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        where = folder or Path(temporary)
        model = checkpoint or generate(where, "quarter")[0]
        forwards, weights, d = forwards_of(model, minutes, layers)
        sums = AllSums()
        clock = Clock(WorkFolder(where / "calibration.gguf.part", {}), sums)
        collect(forwards, Recorder(weights, sums), [forward.start for forward in forwards], 0, clock.done)
        clock.work.remove()
    spent, layer = sum(clock.steps), float(np.mean(clock.steps[2 + d.input_layers :]))
    whole = spent + (LAYERS - layers) * layer
    positions = sums["model.layers.0.self_attn.q_proj.weight"].count
    peak = peak_memory()
    ratio = spent / (flops_of(sums, weights) / clock.rate)
    lines = [
        "| audio | positions | layers run | processor time | of the products | most memory | all 36 layers, scaled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {minutes:.0f} min | {positions:,} | {layers} | {spent:.0f} s | {ratio:.2f} × "
        f"| {peak / 1e9:.2f} GB | {whole / 60:.0f} min of processor time |",
        "",
        f"`python -m benchmarks.calibration --minutes {minutes:g} --layers {layers}`; products at "
        f"{clock.rate / 1e9:.0f} GFlop a second of a core. {machine()}",
    ]
    insert_lines("calibration", lines, DOCUMENT)


if __name__ == "__main__":
    main()
