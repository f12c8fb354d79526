"""How fast the harness runs files of the real size: `python -m benchmarks.harness LM.gguf TOKENIZER.gguf REPORT.json`.

Mapped weights and repacked ones, and the memory's own bandwidth, in turn, in one process.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mimo_convert.console import default_threads
from runtime_check import audio, bundled, repack
from runtime_check.prompt import Ids, build_prompt
from runtime_check.transcribe import Clip, Harness, read_clip

GROUPS, STEPS, ROUNDS = 97, 32, 5
SLICE_BYTES = 1 << 22


def main(lm: Path, tokenizer: Path, report: Path) -> None:
    """Measure, and write what was found as JSON: phase → seconds, the middle one of all rounds."""
    clip, threads = read_clip(bundled.JFK), default_threads()
    mapped = Harness(lm, tokenizer, threads, repack.OFF)
    repacked = Harness(lm, tokenizer, threads, repack.ON)
    prompt = first_groups(mapped, clip)
    found: dict[str, Any] = {"repack_s": repacked.timings["repack_s"], "repacked_bytes": repacked.repacked}
    found["read_by_step"] = bytes_of_step(mapped)
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, harness in (("mapped", mapped), ("repacked", repacked)):
            best = bandwidth(found["read_by_step"], threads)  # neighbours come and go: the one just before counts
            seconds = phases(harness, clip, prompt)
            seconds["step by reading once"] = seconds["step"] * best / found["read_by_step"]
            for phase, value in (seconds | {"bandwidth": best}).items():
                rounds.setdefault(f"{name} {phase}", []).append(value)
    found |= {name: sorted(values)[ROUNDS // 2] for name, values in rounds.items()}
    found["load_s"] = mapped.timings["load_s"]
    report.write_text(json.dumps(found))


def first_groups(harness: Harness, clip: Clip) -> Ids:
    """The beginning of JFK's prompt, as long as the prompt that a peer was measured with."""
    assert harness.lm is not None
    frames = np.zeros((4 * GROUPS, harness.lm.d.channels), np.int32)
    return build_prompt(frames, harness.lm.text.encode, harness.lm.d)[:, : GROUPS * harness.lm.d.group_size]


def phases(harness: Harness, clip: Clip, prompt: Ids) -> dict[str, float]:
    """Seconds for a step behind the prompt, to read the prompt, and to turn the clip into codes."""
    assert harness.lm is not None
    context, n_levels = harness.lm.context(GROUPS + STEPS + 1), harness.lm.d.channels
    prefill = timed(lambda: context.read(prompt))
    context.step(1)  # plans the graph
    steps = timed(lambda: [context.step(token) for token in range(STEPS)])
    wave = audio.resample(clip.wave, clip.rate, harness.tokenizer.d.sampling_rate)
    tokenize = timed(lambda: harness.tokenizer.encode(wave, n_levels))
    return {"tokenize": tokenize, "prefill": prefill, "step": steps / STEPS}


def timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bytes_of_step(harness: Harness) -> int:
    """Bytes of weights that a decoding step reads, each once."""
    assert harness.lm is not None
    tensors = harness.lm.file.tensors.values()
    return sum(t.nbytes for t in tensors if t.name.startswith(("model.layers.", "llm.lm_head.", "llm.final_norm.")))


def bandwidth(nbytes: int, threads: int) -> float:
    """Bytes a second that the threads read together, of so many in memory."""
    arrays = [np.ones(nbytes // threads // 4, np.float32) for _ in range(threads)]
    n = SLICE_BYTES // 4

    def read(array: Any) -> float:
        return sum(float(np.dot(array[i : i + n], array[i : i + n])) for i in range(0, len(array), n))

    with ThreadPoolExecutor(threads) as pool:
        return sum(a.nbytes for a in arrays) / min(timed(lambda: list(pool.map(read, arrays))) for _ in range(3))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
