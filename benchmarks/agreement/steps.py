"""What a step of several clips costs: `python -m benchmarks.agreement.steps FILE.gguf REPORT.json`, of Qwen3-ASR.

Steps of one, two and four clips beside reading the weights once, and beside positions of a prompt, in turn, in one
process.
"""

import json
import math
import sys
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.machine import bandwidth
from benchmarks.qwen3.running import POSITIONS, read_by_step, seconds
from mimo_convert.threads import default_threads
from mimo_families.qwen3_asr.harness import Prompt, Recognizer
from runtime_check.choices import OWN
from runtime_check.ggml.decoder import Decoder
from runtime_check.ggml.graph import Backend
from runtime_check.ggml.greedy import TOGETHER, Together
from tests.opened import model_file

STEPS, ROUNDS = 16, 5
CLIPS = (1, 2, TOGETHER)


def main(file: Path, report: Path) -> None:
    """Measure, and write what was found as JSON: figure → the middle one of all rounds."""
    backend = Backend(default_threads(), OWN)
    model = Recognizer(model_file(file), backend)
    prompt = Prompt(np.arange(POSITIONS, dtype=np.int32), np.zeros((0, model.d.hidden_size), np.float32), [])
    decoders = [Decoder(model, POSITIONS + STEPS * (ROUNDS + 1) * len(CLIPS)) for _ in range(TOGETHER)]
    together = {n: Together(decoders[:n]) for n in CLIPS}
    found: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        best = bandwidth(read_by_step(model), default_threads())  # neighbours come and go: the one just before counts
        once = {"reading": read_by_step(model) / best, "bandwidth": best}
        decoders[0].truncate(0)
        once["position"] = seconds(lambda: decoders[0].read(prompt)) / POSITIONS
        for n, steps in together.items():
            once[f"step of {n}"] = seconds(partial(run, steps, n)) / STEPS
        bound = max(once["reading"], TOGETHER * once["position"])
        once["by bound"] = once[f"step of {TOGETHER}"] / bound
        found.append(once)
    middle = {name: median(one[name] for one in found) for name in found[0]}
    report.write_text(json.dumps(middle | {"cache of a position": 2 * math.prod(model.kv_shape) * 4}))


def run(together: Together, n: int) -> None:
    """STEPS steps of `n` clips."""
    for token in range(STEPS):
        together.step([token] * n)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
