"""How long MiMo-Audio takes to speak: `python -m benchmarks.mimo_audio.speaking LM.gguf` → docs/benchmarks.md.

A group is a step of the LM and, for its codes, eleven steps of the patch decoder: both are measured in turn on a file
of the real size, each beside what reading its weights would take at the memory's own bandwidth.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import bandwidth, machine, peak_memory
from mimo_convert.threads import default_threads
from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.segments import Ids
from mimo_families.mimo_audio.speech.delays import Place
from mimo_families.mimo_audio.speech.generation import Group, group_ids, zero_block
from mimo_families.mimo_audio.speech.sampler import LOCAL, Noise, Sampler, Scores, choose
from runtime_check.ggml.decoder import HIDDEN, LOGITS
from runtime_check.ggml.graph import Backend
from tests.opened import model_file

PROMPT, GROUPS, ROUNDS = 100, 8, 5  # groups of a prompt; generated ones a round
FRAMES_PER_SECOND = 25  # of codes
TEXT = Sampler(temperature=0.6, top_p=0.95)
LM_WEIGHTS = ("model.layers.", "llm.lm_head.", "llm.final_norm.", "audio.blk.", "audio.group_proj.", "audio.norm.")
PATCH_WEIGHTS = ("llm.blk.", "llm.norm.", "llm.codebook_head.")


def main(path: Path) -> None:
    """Measure, and put the table into the document."""
    threads = default_threads()
    lm = SpeechLM(model_file(path), Backend(threads))
    groups_per_second = FRAMES_PER_SECOND / lm.d.group_size
    lm_bytes, patch_bytes = bytes_of(lm, LM_WEIGHTS), bytes_of(lm, PATCH_WEIGHTS)
    steps = lm.d.group_size + lm.d.channels - 1
    rounds = [measure(lm, lm_bytes, threads) for _ in range(ROUNDS)]
    found = {name: median(one[name] for one in rounds) for name in rounds[0]}
    rows = {
        "LM step": (found["lm"], lm_bytes),
        f"patch decoder, {steps} steps": (found["patch"], steps * patch_bytes),
        "sampling": (found["sampling"], 0),
    }
    lines = [
        f"Measured on {machine()}",
        f"{path.name}, random weights, behind a prompt of {PROMPT} groups; the median of {ROUNDS} rounds of {GROUPS} "
        "groups.",
        f"The memory gave {found['bandwidth'] / 1e9:.1f} GB/s just before.",
        "",
        "| part of a group | a group | a second of audio | weights read | at the bandwidth | × |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (seconds, nbytes) in rows.items():
        bound = nbytes / found["bandwidth"]
        of_bound = [f"{nbytes / 1e9:.2f} GB", f"{bound * 1e3:.0f} ms", f"{seconds / bound:.2f}"] if nbytes else [""] * 3
        cells = [name, f"{seconds * 1e3:.1f} ms", f"{seconds * groups_per_second:.2f} s", *of_bound]
        lines.append(f"| {' | '.join(cells)} |")
    peak = peak_memory()
    total = sum(seconds for seconds, _ in rows.values()) * groups_per_second
    lines += [
        "",
        f"Together {total:.2f} s a second of audio, without the tokenizer's decoder.",
        f"Beside the mapped file of {path.stat().st_size / 1e9:.2f} GB, caches and graphs took "
        f"{lm.backend.peak / 1e9:.2f} GB;",
        f"{peak / 1e9:.2f} GB were resident at most, the file's pages among them.",
    ]
    insert_lines("speech generation", lines)


def bytes_of(lm: SpeechLM, prefixes: tuple[str, ...]) -> int:
    """Bytes of the tensors whose names begin so."""
    return sum(t.nbytes for t in lm.model.file.tensors.values() if t.name.startswith(prefixes))


def measure(lm: SpeechLM, nbytes: int, threads: int) -> dict[str, float]:
    """Seconds of each part of a group, and the bandwidth just before."""
    best = bandwidth(min(nbytes, 1 << 30), threads)  # neighbours come and go
    decoder, patch, noise = lm.decoder(PROMPT + GROUPS + 1), lm.patch_decoder(), Noise(0)
    out = decoder.read(prompt_of(lm))
    hidden, scores = out[HIDDEN][0], list[Scores]()

    def first_code(place: Place, found: Scores) -> int:
        scores.append(found)
        return 1

    group = Group(lm.empty_id, patch.decode(hidden, first_code).block)
    decoder.read_one(group_ids([group], lm.d))  # which plans its graph
    return {
        "bandwidth": best,
        "lm": timed(lambda: decoder.read_one(group_ids([group], lm.d)), GROUPS),
        "patch": timed(lambda: patch.decode(hidden, lambda place, found: 1), GROUPS),
        "sampling": timed(lambda: sample_all(out[LOGITS][0], scores[:32], noise), GROUPS),
    }


def prompt_of(lm: SpeechLM) -> Ids:
    """Groups of text."""
    return group_ids([Group(i, zero_block(lm.d)) for i in range(PROMPT)], lm.d)


def sample_all(text: Scores, codes: list[Scores], noise: Noise) -> None:
    """The draws of a group: one id of text, 32 codes."""
    choose(text, TEXT, (), noise)
    for scores in codes:
        choose(scores, LOCAL, [len(scores) - 1], noise)


def timed(work: Callable[[], Any], times: int) -> float:
    """Seconds of each of so many repetitions, the median."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
