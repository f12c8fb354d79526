"""What each variant costs: bytes at the real size, and words that tiny-qwen3 gets wrong in noise."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from runtime_check.run.members import open_system
from runtime_check.run.system import AUTO_LANGUAGE, Compute, System, Task
from runtime_check.text.words import NO_WORDS, WordErrors, count_words

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
    for name, options in VARIANTS.items():
        nbytes, bits = plan_of(watched(CONVERT, checkpoint, *options, "--dry-run").output)
        out = folder / "variants" / name
        watched(CONVERT, TINY, *options, "--no-check", "--force", "--quiet", "--out", out)
        errors, silent = heard(opened(next(out.glob("*.gguf"))), clips)
        rate = f"{errors.errors / errors.words:.1%} | {errors.errors} of {errors.words} | {silent} of {len(clips)}"
        rows.append(f"| {name} | {bits} | {nbytes / 1e9:.2f} GB | {rate} |")
        print(rows[-1], flush=True)
    seconds = sum(clip.seconds for clip in clips)
    return [
        f"Measured on {machine()}",
        "",
        f"**{TINY}** on {len(clips)} noisy clips: JFK and six clips of two languages in white noise, {len(SEEDS)} "
        f"seeds at each of {', '.join(map(str, LEVELS))} dB, {seconds:.0f} s. Bits and sizes are those of the 1.7B "
        "model.",
        "",
        f"| variant | bits per weight (1.7B) | size (1.7B) | WER ({TINY}) | word errors | taken for silence |",
        "|" + " --- |" * 6,
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


def heard(system: System, clips: Sequence[Clip]) -> tuple[WordErrors, int]:
    """Word errors of all clips together, and in how many nothing was heard."""
    transcripts = [system.run(clip, TASK).transcript for clip in clips]
    errors = (count_words(clip.text or "", text) for clip, text in zip(clips, transcripts, strict=True))
    return sum(errors, NO_WORDS), transcripts.count("")
