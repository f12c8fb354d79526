"""All of it on the tiny pair, by the commands: `python -m benchmarks.fidelity.tiny` → docs/benchmarks.md.

Its KL divergence is too small, and its language too poor, to rank ways to store weights: this shows that it runs, from
clips to files side by side, and on a clip of more than two minutes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from runtime_check.audio.wave import Wave
from runtime_check.audio.write import write_wav
from runtime_check.report.json_report import read_report
from runtime_check.report.records import Report, file_name
from runtime_check.run.compare.fidelity import Estimate

from .speech import SAMPLE_RATE, Voice, said

SENTENCES = Path(__file__).parents[2] / "tools" / "tiny_sentences.txt"
VOICES = (Voice("en-us", 150, 50), Voice("en-gb", 165, 35), Voice("en-us+f3", 160, 60))  # that tiny has heard
CLIPS, LONG_SECONDS = 30, 125.0
BITS = "5.6"  # of the whole file: embeddings and what speaks, of which nothing is known, have 8 bits
BIN = Path(sys.executable).parent


class Made(NamedTuple):
    """A file: what it is called in the table, and the options that make it, behind those of all."""

    name: str
    options: tuple[str, ...] = ()
    imatrix: bool = True


FILES = (
    Made("plain", imatrix=False),
    Made("imatrix"),
    Made("feedback", ("--feedback",)),
    Made("mix", ("--target-bpw", BITS)),
    Made("mix-feedback", ("--target-bpw", BITS, "--feedback")),
)


def main() -> None:
    """Run the commands, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_clips(folder)
        calibration = folder / "calibration.gguf"
        run("mimo-calibrate", "tiny", "--audio", clips, "--sensitivity", "--hessian", "-o", calibration)
        files = [convert(made, calibration, folder / made.name) for made in FILES]
        known = check(files, clips, "--calibration", calibration)
        long = check(files, write_long(folder), "--max-new-tokens", 2000)
    insert_lines("fidelity of tiny", list(lines(known, long)))


def run(command: str, *arguments: object) -> None:
    """Run a console script. Raises CalledProcessError for bad input."""
    done = subprocess.run([BIN / command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode > 1:  # 1: a gate failed, which is a result
        raise RuntimeError(done.stderr)


def convert(made: Made, calibration: Path, out: Path) -> Path:
    """The file of a way to store weights, and the tokenizer beside it."""
    is_mix = "--target-bpw" in made.options
    given = ["--calibration" if is_mix else "--imatrix", calibration] if made.imatrix else []
    types = [] if is_mix else ["--outtype", "q4_k"]
    run("mimo-convert", "tiny", *types, *made.options, *given, "--no-check", "--out", out)
    (file,) = out.glob("mimo-asr-*.gguf")
    return file.rename(file.with_name(f"mimo-asr-{made.name}.gguf"))


def check(files: Sequence[Path], audio: Path, *options: object) -> Report:
    """The files side by side, compared with the checkpoint."""
    report, tokenizer = audio.parent / "report.json", next(files[0].parent.glob("mimo-tokenizer-*.gguf"))
    beside = "--tokenizer", tokenizer, "--reference", "tiny", "--language", "english"
    run("mimo-check", *files, *beside, "--audio", audio, "--json", report, *options)
    return read_report(report, {})


def write_clips(folder: Path) -> Path:
    """Sentences that tiny knows, in its voices, with noise; their manifest."""
    lines = []
    for number, text in enumerate(SENTENCES.read_text(encoding="utf-8").splitlines()[:CLIPS]):
        voice = VOICES[number % len(VOICES)]._replace(noise=20)
        lines.append(line(folder, f"{number:02}.wav", said(text, voice).wave, text))
    return write_manifest(folder / "clips.jsonl", lines)


def write_long(folder: Path) -> Path:
    """Two clips of more than two minutes, of one sentence after another; their manifest."""
    texts, lines = SENTENCES.read_text(encoding="utf-8").splitlines(), []
    for number in range(2):
        waves, spoken = list[Wave](), list[str]()
        while sum(map(len, waves)) < LONG_SECONDS * SAMPLE_RATE:
            text = texts[(number + len(spoken)) % len(texts)]
            waves.append(said(text, VOICES[number]).wave)
            spoken.append(text)
        lines.append(line(folder, f"long-{number}.wav", np.concatenate(waves), " ".join(spoken)))
    return write_manifest(folder / "long.jsonl", lines)


def line(folder: Path, name: str, wave: Wave, text: str) -> str:
    """Write a clip, and its line of a manifest."""
    write_wav(folder / name, wave, SAMPLE_RATE)
    return json.dumps({"audio": name, "text": text})


def write_manifest(path: Path, lines: Sequence[str]) -> Path:
    """A manifest of lines."""
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def lines(known: Report, long: Report) -> Iterator[str]:
    """The table."""
    assert known.fidelity
    assert long.fidelity
    yield f"Measured on {machine()} {known.fidelity.about}; long clips: {long.fidelity.clips} of {LONG_SECONDS:.0f} s."
    yield ""
    yield "| file | bits | KL, mean | to the first | equal top-1 | predicted KL | long clips: KL, mean | loops |"
    yield "|" + " --- |" * 8
    for file, other in zip(known.fidelity.files, long.fidelity.files, strict=True):
        predicted = "" if file.predicted_kl is None else f"{file.predicted_kl:.1e}"
        yield (
            f"| {file_name(file.file)} | {file.bits_per_weight:.2f} | {shown(file.kl_mean, '.1e')} | "
            f"{shown(file.of_first, '.2f')} | {file.top1.value:.1%} | {predicted} | {other.kl_mean.value:.1e} | "
            f"{other.loops} of {long.fidelity.clips} |"
        )


def shown(one: Estimate, form: str) -> str:
    """A value with its interval."""
    return f"{one.value:{form}} ({one.low:{form}}–{one.high:{form}})"


if __name__ == "__main__":
    main()
