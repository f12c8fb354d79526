"""An hour of noisy speech through both tiny models in six types: `python -m benchmarks.agreement` → docs/agreement.md,
with a picture of the page; and what two processes gain.

espeak-ng says each of the forty sentences in three voices, and each clip is heard in twelve conditions.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_agreement.records import ALL_CONDITIONS, Agreement
from mimo_agreement.report.json_report import read_agreement
from mimo_agreement.report.table import agreement_as_text
from mimo_api import ConvertOptions, convert
from tools.train_tiny.configs import TOKENIZER_CONFIG
from tools.train_tiny.speech import VOICES, speak
from tools.train_tiny.start import need_espeak
from tools.train_tiny.text import SENTENCES

DOCUMENT, PICTURE = (Path(__file__).parents[2] / "docs" / name for name in ("agreement.md", "images/agreement.png"))
MODELS = {"tiny": "mimo-asr", "tiny-qwen3": "qwen3-asr"}
TYPES = ("f16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k")
NOISES = [f"noise:{kind}:{snr}dB" for kind in ("white", "pink", "babble") for snr in (20, 10)]
CONDITIONS = ("clean", *NOISES, "noise:babble:5dB", "reverb:0.3s", "reverb:0.6s", "speed:0.9", "speed:1.1")
ROUNDS, FEW = 3, 40  # pairs of runs for the gain of two processes, and clips of each
WIDTH, HEIGHT = 1300, 1900  # of the picture
RATE = TOKENIZER_CONFIG["sampling_rate"]


def main() -> None:
    """Measure, and put tables and picture into the document."""
    need_espeak()
    lines = [machine(), ""]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_clips(folder / "clips")
        for model, stem in MODELS.items():
            files = convert_types(model, stem, folder / model)
            begin = time.perf_counter()
            found = agree(files, clips, folder, CONDITIONS, "--workers", 2)
            seconds = time.perf_counter() - begin
            hours = (
                sum(row.seconds for row in found.rows if row.file == found.baseline and row.condition == "all") / 3600
            )
            took = f"`{model}`: {hours:.2f} hours of audio × {len(files)} files in {seconds / 60:.1f} minutes."
            lines += [took, "", "```text", *agreement_as_text(found).splitlines(), "```", ""]
        take_picture(folder / "page.html")
        one = convert_types("tiny", MODELS["tiny"], folder / "few")[:1]
        few = write_clips(folder / "few-clips", FEW)
        lines.append(f"Two processes of one thread: {gain(one, few, folder):.2f} × one (median of {ROUNDS} pairs).")
        lines.append(f"Beyond tokenizing, prefill and decoding, a pair takes {1000 * beyond(one, few, folder):.1f} ms.")
    insert_lines("hour", lines, DOCUMENT)


def write_clips(folder: Path, n: int | None = None) -> Path:
    """Speak the sentences, or the first `n` clips, in every voice; returns the manifest."""
    folder.mkdir()
    lines = []
    for i, text in enumerate(SENTENCES.read_text(encoding="utf-8").splitlines()):
        for voice, of_voice in enumerate(VOICES):
            file = folder / f"{i:02}-{voice}.wav"
            soundfile.write(file, speak(text, *of_voice, RATE).numpy(), RATE)
            lines.append(json.dumps({"audio": file.name, "text": text, "recording": f"sentence {i}"}))
    manifest = folder / "clips.jsonl"
    manifest.write_text("\n".join(lines[:n]))
    return manifest


def convert_types(model: str, stem: str, out: Path) -> list[Path]:
    """The model's files of all TYPES."""
    convert(ConvertOptions(model, types=TYPES, out=out, checked=False))
    return [out / f"{stem}-{name}.gguf" if model == "tiny" else next(out.glob(f"*-{name}.gguf")) for name in TYPES]


def agree(files: Sequence[Path], clips: Path, folder: Path, conditions: Sequence[str], *more: object) -> Agreement:
    """What `mimo-check agreement` finds, as a process of its own."""
    report = folder / "agreement.json"
    command = [Path(sys.executable).with_name("mimo-check"), "agreement", *files, "-q"]
    asked = [word for condition in conditions for word in ("--condition", condition)]
    options = ["--audio", clips, "--language", "english", "--json", report, "--html", folder / "page.html", *more]
    subprocess.run([*map(str, [*command, *asked, *options])], check=True)
    return read_agreement(report)


def gain(files: Sequence[Path], clips: Path, folder: Path) -> float:
    """How many times as fast two processes of one thread are as one, beyond what starting takes."""

    def work(workers: int) -> float:
        options = ("--workers", workers, "--threads", workers)
        (more, _), (fewer, _) = (timed(files, clips, folder, some, *options) for some in (CONDITIONS, CONDITIONS[:1]))
        return more - fewer

    return statistics.median(work(1) / work(2) for _ in range(ROUNDS))


def beyond(files: Sequence[Path], clips: Path, folder: Path) -> float:
    """Seconds that a pair takes beyond the phases of its run: conditions, audio files, store and statistics."""

    def once() -> float:
        runs = [timed(files, clips, folder, some, "--store", folder / "store") for some in (CONDITIONS, CONDITIONS[:1])]
        shutil.rmtree(folder / "store")
        return runs[0][0] - runs[1][0] - computing(runs[0][1])

    return statistics.median(once() for _ in range(ROUNDS)) / (FEW * len(CONDITIONS))


def computing(found: Agreement) -> float:
    """Seconds of the phases of all runs."""
    return sum((row.real_time or 0) * row.seconds for row in found.rows if row.condition == ALL_CONDITIONS)


def timed(
    files: Sequence[Path], clips: Path, folder: Path, conditions: Sequence[str], *more: object
) -> tuple[float, Agreement]:
    """An agreement with the seconds that it took."""
    begin = time.perf_counter()
    found = agree(files, clips, folder, conditions, *more)
    return time.perf_counter() - begin, found


def take_picture(page: Path) -> None:
    """The page as a browser shows it."""
    browser = shutil.which("chromium")
    if browser:
        size = f"--window-size={WIDTH},{HEIGHT}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size, f"--screenshot={PICTURE}"]
        subprocess.run([browser, *options, str(page)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
