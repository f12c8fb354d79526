"""How fast a Q4_K file of the real size runs JFK: `python -m benchmarks.qwen3.running FILE.gguf REPORT.json`.

Own products and ggml's on the mapped file, in turn, in one process; each phase beside its matrix products alone, a step
beside reading its weights once.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import bandwidth
from mimo_convert.threads import default_threads
from mimo_families.qwen3_asr.front_end import samples
from mimo_families.qwen3_asr.harness import Prompt, Recognizer
from mimo_families.qwen3_asr.prompt import build_prompt
from mimo_families.qwen3_asr.stages import AUDIO_EMBEDS, ROLE
from mimo_families.qwen3_asr.system import Qwen3ASRSystem
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.choices import GGML, OFF, OWN
from runtime_check.ggml.decoder import Decoder
from runtime_check.run.system import Compute, Task
from tests.opened import model_file

from .products import Alone, recording

WAYS = OWN, GGML
STEPS, ROUNDS = 32, 3  # JFK's words are about as many tokens of the published vocabulary
POSITIONS = 161  # of JFK's prompt in the published vocabulary; a random one needs more for the same text
TASK = Task(language="english")


class Phases:
    """The phases of a run on JFK, each ready to be timed, and their products alone."""

    def __init__(self, file: Path, products: str) -> None:
        clip = read_clip(JFK)
        self.system = Qwen3ASRSystem({ROLE: model_file(file)}, Compute(default_threads(), OFF, products))
        model = self.model = self.system.model
        wave = samples(clip.wave, clip.rate, model.d)
        mel, window = model.log_mel(wave), model.d.window_tokens
        with recording(model.weights) as graphs:
            embeds = model.encode(mel, window)[AUDIO_EMBEDS]
        alone = {"encoder": list(graphs.values())}
        ids = build_prompt(len(embeds), self.system.text.encode, model.d, TASK)
        first = int(np.argmax(ids == model.audio_id)) - (POSITIONS - len(embeds)) // 2
        prompt = Prompt(ids[first : first + POSITIONS], embeds, [])
        assert int((prompt.ids == model.audio_id).sum()) == len(embeds), "expected all audio between some text"
        decoder = Decoder(model, POSITIONS + STEPS + 1)
        for name, work in (("prefill", lambda: decoder.read(prompt)), ("step", lambda: decoder.step(1))):
            with recording(model.weights) as graphs:
                work()
            alone[name] = list(graphs.values())
        self.alone = {
            name: [Alone(self.system.session.backend, model.weights, one) for one in found]
            for name, found in alone.items()
        }
        self.work: dict[str, Callable[[], Any]] = {
            "mel": lambda: model.log_mel(wave),
            "encoder": lambda: model.encode(mel, window),
            "prefill": lambda: (decoder.truncate(0), decoder.read(prompt)),
            "step": lambda: [decoder.step(token) for token in range(STEPS)],
        }

    @property
    def read_by_step(self) -> int:
        """Bytes of weights that a decoding step reads, each once."""
        return read_by_step(self.model)

    def measure(self) -> dict[str, float]:
        """Seconds of each phase, and of its products; how many times as long as those a phase takes, and a step as
        reading its weights."""
        best = bandwidth(self.read_by_step, default_threads())  # neighbours come and go: the one just before counts
        found = {"bandwidth": best, "mel": seconds(self.work["mel"])}
        for name, graphs in self.alone.items():
            times = STEPS if name == "step" else 1
            found[name] = seconds(self.work[name]) / times
            found[f"{name} products"] = seconds(partial(run_all, graphs * times)) / times
            found[f"{name} by products"] = found[name] / found[f"{name} products"]
        for name in ("step", "step products"):
            found[f"{name} by reading once"] = found[name] * best / self.read_by_step
        found["encoder and prefill"] = sum(found[name] for name in ("mel", "encoder", "prefill"))
        both = found["encoder products"] + found["prefill products"]
        found["encoder and prefill by products"] = found["encoder and prefill"] / both
        found["real-time factor"] = (found["encoder and prefill"] + STEPS * found["step"]) / read_clip(JFK).seconds
        return found


def read_by_step(model: Recognizer) -> int:
    """Bytes of weights that a decoding step of a model reads, each once."""
    names = ("blk.", "output_norm.", f"{model.head}.")
    return sum(tensor.nbytes for tensor in model.model.file.tensors.values() if tensor.name.startswith(names))


def run_all(graphs: list[Alone]) -> None:
    """The products of all graphs of a phase."""
    for one in graphs:
        one.run()


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(file: Path, report: Path) -> None:
    """Measure, and write what was found as JSON: way → figure → the middle one of all rounds."""
    ways = {name: Phases(file, name) for name in WAYS}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, phases in ways.items():
            rounds[name].append(phases.measure())
    found: dict[str, Any] = {
        name: {figure: median(one[figure] for one in measured) for figure in measured[0]}
        for name, measured in rounds.items()
    }
    own = ways[OWN]
    found |= {"read_by_step": own.read_by_step, "codes": own.system.session.products()}
    found["flops"] = {name: sum(one.flops for one in graphs) for name, graphs in own.alone.items()}
    report.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
