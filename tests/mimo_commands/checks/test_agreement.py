"""mimo-check agreement, as a user runs it: a table, files, and a store that loses nothing."""

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.run.system import Task
from tests.gguf_edit import patch
from tests.mimo_agreement.spoken import BETTER, CLIPS, SMALLER, TOKENIZER, cut_clips
from tests.mimo_families.qwen3_asr.tiny_clips import converted as qwen3_files
from tests.opened import open_pair
from tests.system.signals import heed_interrupts

SCRIPT = Path(sys.executable).with_name("mimo-check")
SHORT = ["--max-new-tokens", "20", "--language", "english"]
OF_MACHINE = ("real_time", "peak_memory")


def agreement(*arguments: object) -> Result:
    return CliRunner().invoke(mimo_check, ["agreement", *map(str, arguments)])


def files(folder: Path) -> list[object]:
    return [folder / SMALLER, folder / BETTER]


def read(path: Path) -> dict[str, Any]:
    """A JSON report without what depends on the machine."""
    found: dict[str, Any] = json.loads(path.read_text())
    found["rows"] = [{name: x for name, x in row.items() if name not in OF_MACHINE} for row in found["rows"]]
    return found


def answers_in(store: Path) -> int:
    with closing(sqlite3.connect(store / "agreement.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def test_a_table_a_verdict_and_every_file_of_it(tiny: Path, clips: Path, tmp_path: Path) -> None:
    outputs = {name: tmp_path / f"found.{name}" for name in ("html", "json", "csv", "junit")}
    options = [x for name, path in outputs.items() for x in (f"--{name}", path)]
    conditions = ["--condition", "clean", "--condition", "noise:babble:5dB"]
    found = agreement(*files(tiny), "--audio", clips, *conditions, *SHORT, *options, "--include-audio")
    assert found.exit_code == 0, found.stderr
    assert f"2 files on {CLIPS} clips" in found.stdout
    assert found.stdout.endswith("Not enough words: 28 of the 300 that a verdict needs.\n")
    assert f"the baseline is {tiny / BETTER}; --baseline names another\n" in found.stderr
    report = json.loads(outputs["json"].read_text())
    assert {(row["condition"], row["clips"]) for row in report["rows"]} == {
        ("clean", 7), ("noise:babble:5dB", 7), ("all", 7),
    }  # fmt: skip
    assert [Path(file["file"]).name for file in report["files"]] == [SMALLER, BETTER]
    assert {Path(file["companion"]).name for file in report["files"]} == {TOKENIZER}
    of_itself = [row for row in report["rows"] if row["file"] == report["baseline"]]
    for row in of_itself:
        assert (row["difference"]["value"], row["difference"]["low"], row["difference"]["high"]) == (0, 0, 0)
        assert row["disagreement"]["value"] == 0
    assert len(list(csv.reader(outputs["csv"].read_text().splitlines()))) == 1 + 6
    assert b"<testsuite" in outputs["junit"].read_bytes()
    assert "data:audio/" in outputs["html"].read_text()


def test_the_same_with_and_without_processes_and_nothing_is_run_twice(tiny: Path, clips: Path, tmp_path: Path) -> None:
    conditions = ["--condition", "clean", "--condition", "reverb:0.3s"]
    common = [*files(tiny), "--audio", clips, *conditions, *SHORT]
    one, two, again = (tmp_path / f"{name}.json" for name in ("one", "two", "again"))
    assert agreement(*common, "--json", one).exit_code == 0
    assert agreement(*common, "--json", two, "--workers", 2, "--store", tmp_path / "store").exit_code == 0
    assert read(one) == read(two)
    found = agreement(*common, "--json", again, "--store", tmp_path / "store")
    assert f"{tmp_path / 'store'}: {4 * CLIPS} of {4 * CLIPS} answers are there\n" in found.stderr
    assert again.read_bytes() == two.read_bytes(), "seconds, too: nothing was run"


def test_a_file_with_a_damaged_layer_is_last(tiny: Path, tmp_path: Path) -> None:
    damaged, report = tmp_path / "damaged.gguf", tmp_path / "found.json"
    shutil.copy(tiny / BETTER, damaged)
    patch(damaged, "model.layers.1.attn.o.weight", 0, np.zeros(256 * 272, np.uint8))
    conditions = [word for speed in ("0.95", "1", "1.05") for word in ("--condition", f"speed:{speed}")]
    options = ["--tokenizer", tiny / TOKENIZER, "--baseline", tiny / BETTER, "--language", "english", "--json", report]
    found = agreement(*files(tiny), damaged, "--audio", JFK, *conditions, *options)
    assert found.exit_code == 0, found.stderr
    told = json.loads(report.read_text())
    rates = {row["file"]: row["wer"]["value"] for row in told["rows"] if row["condition"] == "all"}
    by_rate = sorted(told["files"], key=lambda file: float(rates[file["sha256"]]))
    assert Path(by_rate[-1]["file"]).name == damaged.name
    assert rates[by_rate[-1]["sha256"]] > rates[by_rate[-2]["sha256"]]


def test_new_files_and_clips_add_their_own_rows(tiny: Path, tmp_path: Path) -> None:
    manifest, store = cut_clips(tmp_path / "clips", 3), tmp_path / "store"
    assert agreement(tiny / SMALLER, "--audio", manifest, *SHORT, "--store", store).exit_code == 0
    assert answers_in(store) == 3
    found = agreement(*files(tiny), "--audio", manifest, *SHORT, "--store", store)
    assert "3 of 6 answers are there" in found.stderr
    cut_clips(tmp_path / "clips", 5)
    found = agreement(*files(tiny), "--audio", manifest, *SHORT, "--store", store)
    assert "6 of 10 answers are there" in found.stderr
    assert answers_in(store) == 10


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, ["--workers", "2"]), (signal.SIGINT, []),
                                                 (signal.SIGINT, ["--workers", "2"])])  # fmt: skip
def test_an_interrupt_loses_nothing(
    tiny: Path, clips: Path, tmp_path: Path, number: signal.Signals, workers: list[str]
) -> None:
    store, out = tmp_path / "store", tmp_path / "found.json"
    command = [SCRIPT, "agreement", *files(tiny), "--audio", clips, "--condition", "clean", "--condition", "speed:1.1",
               *SHORT, *workers, "--store", store, "--json", out]  # fmt: skip
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        while not (store / "agreement.sqlite").exists() or waiting_for_answers(store):
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate()
    kept = answers_in(store)
    assert 0 < kept < 4 * CLIPS
    if number == signal.SIGINT:
        assert process.returncode == 130
        last = f"interrupted; {kept} of {4 * CLIPS} answers are in {store}: the same command resumes\n"
        assert said.endswith(last)
    found = agreement(*command[2:])
    assert found.exit_code == 0, found.stderr
    assert f"{kept} of {4 * CLIPS} answers are there" in found.stderr
    assert answers_in(store) == 4 * CLIPS
    whole = tmp_path / "whole.json"
    assert agreement(*command[2:-4], "--json", whole).exit_code == 0
    assert read(out) == read(whole)


def waiting_for_answers(store: Path) -> bool:
    """Whether there are no more than tables yet; the command has locked the file, so that only its size tells."""
    return os.stat(store / "agreement.sqlite").st_size < 40_000


def test_a_stored_reference_gives_divergences(tiny: Path, tmp_path: Path) -> None:
    cut_clips(tmp_path / "clips", 2)
    system, task = open_pair(tiny / BETTER, tiny / TOKENIZER, 2), Task(language="english", max_new_tokens=20)
    (tmp_path / "references").mkdir()
    for i in range(2):
        run = system.run(read_clip(tmp_path / "clips" / f"{i}.wav"), task, keep_stages=True)
        run.save(tmp_path / "references" / f"{i}.safetensors")
    out = tmp_path / "found.json"
    common = [*files(tiny), "--audio", tmp_path / "clips", "--json", out, "--max-new-tokens", 20]
    found = agreement(*common, "--reference", tmp_path / "references")
    assert found.exit_code == 0, found.stderr
    kl = {row["file"]: row["kl"]["value"] for row in read(out)["rows"] if row["condition"] == "all"}
    small, better = kl.values()
    assert small > 1e-3 > better >= 0
    assert {clip["language"] for clip in read(out)["clips"]} == {"english"}, "the reference's"
    found = agreement(*common, "--reference", tmp_path / "references", "--language", "chinese")
    assert (found.exit_code, found.stderr.splitlines()[-1]) == (
        2, "error: --language: chinese, the reference was made with english; give that one",
    )  # fmt: skip
    twice = agreement(*common, "--reference", tmp_path / "references", "--reference", tmp_path / "references")
    assert "is of the same clip as" in twice.stderr


def test_degraded_clips_are_kept_and_give_the_same_answers(tiny: Path, clips: Path, tmp_path: Path) -> None:
    kept, out, again = tmp_path / "kept", tmp_path / "found.json", tmp_path / "again.json"
    common = [*SHORT, "--json"]
    noisy = ["--condition", "noise:white:5dB", "--keep-clips", kept]
    assert agreement(tiny / SMALLER, "--audio", clips, *noisy, *common, out).exit_code == 0
    assert len(list(kept.glob("*.noise-white-5dB.wav"))) == CLIPS
    assert soundfile.info(next(iter(kept.glob("*.wav")))).subtype == "FLOAT"
    manifest = kept / "clips-noise-white-5dB.jsonl"
    assert agreement(tiny / SMALLER, "--audio", manifest, *common, again).exit_code == 0
    [one], [other] = ([row for row in read(path)["rows"] if row["condition"] == "all"] for path in (out, again))
    assert one["errors"] == other["errors"]


def refused(tmp_path: Path, tiny: Path, clips: Path, other: Path) -> dict[str, tuple[list[object], str]]:
    """Commands that are refused before anything is run: name → arguments, what is said."""
    copied = shutil.copyfile(clips.with_name("0.wav"), tmp_path / "copied.wav")
    shutil.copyfile(tiny / BETTER, tmp_path / "copied.gguf")
    tokenizer, audio = ["--tokenizer", tiny / TOKENIZER], ["--audio", clips]
    both = files(tiny)
    return {
        "clip twice": (
            [*both, *audio, "--audio", copied],
            f"--audio {copied}: is there twice, as {clips.with_name('0.wav')}; give it once",
        ),
        "file twice": (
            [tiny / BETTER, tmp_path / "copied.gguf", *audio, *tokenizer],
            f"FILE.gguf {tmp_path / 'copied.gguf'}: is there twice, as {tiny / BETTER}; give it once",
        ),
        "condition twice": (
            [*both, *audio, "--condition", "speed:1.10", "--condition", "speed:1.1"],
            "--condition speed:1.1: is there twice; give it once",
        ),
        "unknown condition": ([*both, *audio, "--condition", "loud"], "--condition: 'loud' is not a condition; expect"),
        "other model": (
            [tiny / SMALLER, "--baseline", other, *audio, *tokenizer], "is another model",
        ),
        "tokenizer": (
            [tiny / TOKENIZER, *audio], f"{tiny / TOKENIZER}: is an audio tokenizer, which writes no words; give the",
        ),
        "few voices": (
            [*both, "--audio", copied, "--condition", "noise:babble:5dB"],
            "noise:babble: needs 6 other clips, found 0; give more clips, or noise: --noise DIR",
        ),
        "stdin": ([*both, "--audio", "-"], "--audio -: is standard input, and clips are read more than once; save it"),
        "no references": ([*both, *audio, "--reference", tmp_path], f"--reference {tmp_path}: has no file that ends"),
        "not a store": ([*both, *audio, "--store", clips], f"{clips}: cannot be made"),
    }  # fmt: skip


def test_what_cannot_be_is_refused_before_anything_is_run(
    tiny: Path, clips: Path, tmp_path: Path, small_lm_files: Callable[[bool, str], Path]
) -> None:
    for name, (arguments, says) in refused(tmp_path, tiny, clips, small_lm_files(False, "q8_0")).items():
        found = CliRunner().invoke(
            mimo_check, ["agreement", *map(str, arguments), *SHORT], input=clips.with_name("0.wav").read_bytes()
        )
        assert (found.exit_code, found.stdout) == (2, ""), name
        assert says in found.stderr.splitlines()[-1], name


def test_a_clip_without_an_answer_is_named_and_the_status_says_so(tiny: Path, clips: Path, tmp_path: Path) -> None:
    manifest = shutil.copytree(clips.parent, tmp_path / "clips") / "clips.jsonl"
    soundfile.write(manifest.with_name("6.wav"), [0.0] * 16000, 16000)
    out = tmp_path / "found.json"
    common = ["--audio", manifest, "--condition", "noise:pink:5dB", *SHORT]
    found = agreement(*files(tiny), *common, "--json", out)
    assert found.exit_code == 1
    assert f"{SMALLER} on 6.wav, noise:pink:5dB" in found.stdout
    assert {(one["clip"], one["tries"]) for one in read(out)["quarantined"]} == {("6.wav", 1)}
    assert {row["clips"] for row in read(out)["rows"]} == {CLIPS - 1}


def test_a_model_in_one_file_is_measured_likewise(clips: Path, tmp_path: Path) -> None:
    folder = qwen3_files(tmp_path / "files", "--outtype", "q8_0", "--outtype", "q4_k")
    paths = sorted(folder.glob("*.gguf"))
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    common = [*paths, "--audio", clips, "--max-new-tokens", 10]
    assert agreement(*common, "--json", one).exit_code == 0
    assert agreement(*common, "--json", two, "--workers", 2).exit_code == 0
    assert read(one) == read(two)
    assert {file["companion"] for file in read(one)["files"]} == {""}
