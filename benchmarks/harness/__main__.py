"""How fast the harness runs files of the real size: `python -m benchmarks.harness LM.gguf TOKENIZER.gguf REPORT.json`.

ggml's products on mapped weights and on repacked ones, the own ones, and the memory's own bandwidth, in turn, in one
process.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import bandwidth
from mimo_convert.threads import default_threads
from mimo_families.mimo_audio.prompt import build_prompt
from mimo_families.mimo_audio.segments import Ids
from mimo_families.mimo_audio.system import MimoAudioSystem
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.audio.wave import resample
from runtime_check.choices import GGML, OFF, ON, OWN
from runtime_check.run.system import Compute
from tests.opened import model_file, paths_of

GROUPS, STEPS, ROUNDS = 97, 32, 5


def main(lm: Path, tokenizer: Path, report: Path) -> None:
    """Measure, and write what was found as JSON: phase → seconds, the middle one of all rounds."""
    clip, threads = read_clip(JFK), default_threads()
    files = {role: model_file(path) for role, path in paths_of(lm, tokenizer).items()}
    ways = {"mapped": (OFF, GGML), "repacked": (ON, GGML), "own": (OFF, OWN)}
    systems = {name: MimoAudioSystem(files, Compute(threads, *way)) for name, way in ways.items()}
    mapped, session = systems["mapped"], systems["repacked"].session
    prompt = first_groups(mapped, clip)
    found: dict[str, Any] = {"repack_s": session.timings["repack_s"], "repacked_bytes": session.repacked}
    found["read_by_step"] = bytes_of_step(mapped)
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, system in systems.items():
            best = bandwidth(found["read_by_step"], threads)  # neighbours come and go: the one just before counts
            seconds = phases(system, clip, prompt)
            seconds["step by reading once"] = seconds["step"] * best / found["read_by_step"]
            for phase, value in (seconds | {"bandwidth": best}).items():
                rounds.setdefault(f"{name} {phase}", []).append(value)
    found |= {name: sorted(values)[ROUNDS // 2] for name, values in rounds.items()}
    found["load_s"] = mapped.session.timings["load_s"]
    report.write_text(json.dumps(found))


def first_groups(system: MimoAudioSystem, clip: Clip) -> Ids:
    """The beginning of JFK's prompt, as long as the prompt that a peer was measured with."""
    lm = system.lm
    frames = np.zeros((4 * GROUPS, lm.d.channels), np.int32)
    return build_prompt(frames, lm.text.encode, lm.d)[:, : GROUPS * lm.d.group_size]


def phases(system: MimoAudioSystem, clip: Clip, prompt: Ids) -> dict[str, float]:
    """Seconds for a step behind the prompt, to read the prompt, and to turn the clip into codes."""
    decoder, tokenizer, n_codebooks = system.lm.decoder(GROUPS + STEPS + 1), system.tokenizer, system.lm.d.channels
    prefill = timed(lambda: decoder.read(prompt))
    decoder.step(1)  # plans the graph
    steps = timed(lambda: [decoder.step(token) for token in range(STEPS)])
    wave = resample(clip.wave, clip.rate, tokenizer.d.sampling_rate)
    tokenize = timed(lambda: tokenizer.encode(wave, n_codebooks))
    return {"tokenize": tokenize, "prefill": prefill, "step": steps / STEPS}


def timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bytes_of_step(system: MimoAudioSystem) -> int:
    """Bytes of weights that a decoding step reads, each once."""
    tensors = system.lm.model.file.tensors.values()
    return sum(t.nbytes for t in tensors if t.name.startswith(("model.layers.", "llm.lm_head.", "llm.final_norm.")))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
