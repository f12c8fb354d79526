"""What each variant costs: bytes at the real size, and words that tiny-qwen3 gets wrong in noise."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from benchmarks.validation import CONVERT, watched
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.threads import default_threads
from mimo_families.qwen3_asr.stages import ROLE
from mimo_families.qwen3_asr.system import SYSTEM
from mimo_families.registry import families
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.run.activations import RESPONSE_LOGITS, Activations
from runtime_check.run.compare.measures import kl_divergence, log_softmax
from runtime_check.run.members import open_system
from runtime_check.run.system import AUTO_LANGUAGE, Compute, System, Task
from runtime_check.text.words import NO_WORDS, count_words

from .checkpoint import checkpoint_in

VARIANTS = {
    name: ("--recipe" if "-" in name else "--outtype", name) for name in ("f16", "q8_0", "mixed-8-4", "q6_k", "q4_k")
}
CLIPS = Path(__file__).parents[2] / "tests" / "data" / "tiny_qwen3"
LEVELS = (8, 7, 6)  # dB of speech to noise: above, tiny hears every word, and below it, none
SEEDS = range(3)
TASK = Task(language=AUTO_LANGUAGE)
TINY = "tiny-qwen3"


def lines(folder: Path) -> list[str]:
    """The machine, and the table."""
    checkpoint, clips, rows = checkpoint_in(folder), list(noisy_clips()), []
    expected: list[Activations] = []  # of the first variant
    for name, options in VARIANTS.items():
        nbytes, bits = plan_of(watched(CONVERT, checkpoint, *options, "--dry-run").output)
        out = folder / "variants" / name
        watched(CONVERT, TINY, *options, "--no-check", "--force", "--quiet", "--out", out)
        system = opened(next(out.glob("*.gguf")))
        runs = [system.run(clip, TASK) for clip in clips]
        expected = expected or runs
        errors = sum((count_words(clip.text or "", run.transcript) for clip, run in pairs(clips, runs)), NO_WORDS)
        same = sum(run.transcript == theirs.transcript for run, theirs in pairs(runs, expected))
        cells = [
            bits, f"{nbytes / 1e9:.2f} GB", f"{errors.errors / errors.words:.1%}", f"{errors.errors} of {errors.words}",
            f"{same} of {len(clips)}", f"{divergence(system, runs, expected):.1e}",
        ]  # fmt: skip
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    seconds = sum(clip.seconds for clip in clips)
    return [
        f"Measured on {machine()}",
        "",
        f"**{TINY}** on {len(clips)} noisy clips: JFK and six clips of two languages in white noise, {len(SEEDS)} "
        f"seeds at each of {', '.join(map(str, LEVELS))} dB, {seconds:.0f} s. Bits and sizes are those of the 1.7B "
        f"model. Of F16's transcripts, {sum(not run.transcript for run in expected)} are empty: all or nothing.",
        "",
        f"| variant | bits per weight | size | WER ({TINY}) | word errors | transcripts as f16 | KL beside f16 |",
        "|" + " --- |" * 7,
        *rows,
    ]


def plan_of(output: str) -> tuple[int, str]:
    """Bytes and bits per weight of the one file that `--dry-run` plans."""
    [(nbytes, bits)] = re.findall(r"([\d,]+) bytes; ([\d.]+) bits per weight", output)
    return int(nbytes.replace(",", "")), bits


def opened(file: Path) -> System:
    """A file, ready to run."""
    return open_system(SYSTEM, {ROLE: file}, OpenFiles(families()), Compute(default_threads()))


def noisy_clips() -> Iterator[Clip]:
    """Each clip with each noise; its text is known."""
    entries = map(json.loads, (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    for path, text in [(JFK, JFK_TEXT), *((CLIPS / entry["audio"], entry["text"]) for entry in entries)]:
        clip = read_clip(path)
        power = np.sqrt(np.square(clip.wave).mean())
        for level in LEVELS:
            for seed in SEEDS:
                noise = np.random.default_rng(seed).standard_normal(len(clip.wave), np.float32)
                wave = np.clip(clip.wave + noise * power * 10 ** (-level / 20), -1, 1).astype(np.float32)
                yield replace(clip, wave=wave, text=text, sha256=hashlib.sha256(wave).hexdigest())


def divergence(system: System, runs: Sequence[Activations], expected: Sequence[Activations]) -> float:
    """KL divergence of the next-token distributions over the expected responses, in nats: the mean of the clips."""
    means = []
    for run, theirs in pairs(runs, expected):
        forced = system.teacher_force(run, theirs.stages, TASK)
        steps = pairs(theirs.stages[RESPONSE_LOGITS], forced[RESPONSE_LOGITS])
        means.append(np.mean([kl_divergence(log_softmax(p), log_softmax(q)) for p, q in steps]))
    return float(np.mean(means))


pairs = partial(zip, strict=True)
