"""`python -m benchmarks.calibration.sizes`: files of a given size at the real shapes: how long the choice of types
takes, how near the target it comes, and how long the measurement before it does.

The choice is that of the whole model, whose weights are a hole in its files, with made-up divergences; the measurement
is that of one layer of random weights and what stands around them, scaled to all weights. The table goes into
docs/benchmarks.md.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_convert.budget.allowed import CANDIDATES
from mimo_convert.budget.choose import choose
from mimo_convert.budget.divergence import sensitivity_of
from mimo_convert.budget.errors_file import Errors, errors_path
from mimo_convert.budget.measure import identity_of, measure
from mimo_convert.formats.calibration import Calibration
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.mix import parse_target
from mimo_convert.plan.plan import Options, make_plan
from mimo_convert.threads import default_threads
from quantize.backends import AUTO
from quantize.recipes import fitting
from quantize.types import F16
from tests.mimo_convert.budget.made_up import calibration_of, model_of
from tests.synthetic import REAL_ASR_CONFIG, write_speech_lm

TARGETS = ("3.7GB", "4.2GB", "4.5bpw", "4.6GB", "5.6GB", "8GB")
OPTIONS = Options(fuse_qkv=True)
ONE_LAYER = REAL_ASR_CONFIG | {"num_hidden_layers": 1, "input_local_layers": 1, "local_layers": 1, "vocab_size": 8192}


class Chosen(NamedTuple):
    """A choice: seconds, bytes of the file and of the target, the gap to the best, and the rules."""

    target: str
    seconds: float
    size: int
    most: int
    gap: float
    rules: int


def made_up_errors(model: SourceModel, calibration: Calibration, seed: int = 0) -> None:
    """Divergences of every type that fall by about 4 a bit, as measured ones do."""
    draw = np.random.default_rng(seed)
    errors = Errors(errors_path(calibration.where), identity_of(model, calibration.sha256, AUTO))
    for tensor in make_plan(model, F16, OPTIONS).tensors:
        errors.by_type[tensor.name] = {}
        size = tensor.n_weights / 1e6 * 10 ** draw.normal(-4, 0.7)
        for one in (fitting(one, tensor.shape[-1]) for one in CANDIDATES if tensor.name in calibration.fisher):
            noise = 10 ** draw.normal(0, 0.05)
            errors.add(tensor.name, one.name, size * 4.0 ** (3.4 - one.bits_per_weight) * noise)
    errors.write()


def chosen(model: SourceModel, calibration: Calibration, text: str, threads: int) -> Chosen:
    """Choose the types of a file of that size."""
    target = parse_target(text, "--target-size")
    begin = time.perf_counter()
    found = choose(model, OPTIONS, target, calibration, (), threads)
    seconds = time.perf_counter() - begin
    [plan] = found.request(model).plans
    header, mix = len(plan.header), found.options.mix
    assert mix is not None
    return Chosen(text, seconds, plan.size, target.most(header, plan.n_weights) + header, mix.gap, len(plan.rules))


def measured_rate(folder: Path, threads: int) -> tuple[float, int, list[str]]:
    """Seconds for one layer in every type, its number of weights, and the types."""
    model = model_of(str(write_speech_lm(folder / "layer", n_shards=1, **ONE_LAYER)))
    calibration = calibration_of(model, folder / "layer.gguf")
    plan = make_plan(model, F16, OPTIONS)
    known = {one.name: found for one in plan.tensors if (found := sensitivity_of(calibration, one.name))}
    tensors = [one for one in plan.tensors if one.name in known and one.shape[-1] % 256 == 0]
    wanted = {one.name: CANDIDATES for one in tensors}
    begin = time.perf_counter()
    measure(model, tensors, wanted, known, Errors(folder / "layer.errors.json", "x"), AUTO, threads)
    return time.perf_counter() - begin, sum(one.n_weights for one in tensors), [one.name for one in CANDIDATES]


@click.command()
@click.option("--threads", type=int, default=default_threads, show_default="all cores")
def main(threads: int) -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model_of(str(write_speech_lm(folder / "lm", sparse=True, **REAL_ASR_CONFIG)))
        calibration = calibration_of(model, folder / "lm.gguf")
        made_up_errors(model, calibration)
        found = [chosen(model, calibration, text, threads) for text in TARGETS]
        n_weights = sum(one.n_weights for one in make_plan(model, F16, OPTIONS).tensors)
        seconds, measured, types = measured_rate(folder, threads)
    lines = [
        "| target | file | below the target | cannot be better by more than | rules | time |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.target} | {one.size:,} bytes | {1 - one.size / one.most:.4%} | {one.gap:.4%} | {one.rules} | "
            f"{one.seconds:.1f} s |"
            for one in found
        ),
        "",
        f"The measurement before the first choice: {seconds:.1f} s for {measured / 1e6:,.0f} million weights in "
        f"{' '.join(types)}, {threads} threads; scaled to {n_weights / 1e9:.2f} billion weights "
        f"{seconds * n_weights / measured / 60:.1f} min.",
        "",
        machine(),
    ]
    insert_lines("sizes", lines)


if __name__ == "__main__":
    main()
