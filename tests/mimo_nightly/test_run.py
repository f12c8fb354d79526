"""Nightly runs of every kind, as processes on real files: good ones, bad ones, and those that something happens to."""

import os
import re
import shutil
import signal
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mimo_nightly.config import read_config
from mimo_nightly.history import FAILED, PASSED, UNCHECKED, History
from mimo_nightly.run import TIME, begin_or_resume
from mimo_nightly.show.changes import changes
from tests.damage import cut
from tests.opened import TINY_REFERENCE

from .nightly_runs import (
    Files,
    end,
    found,
    hanging_child,
    is_running,
    of_pair,
    of_tokenizer,
    run,
    start,
    toml,
    wait_for,
    write_config,
)


def test_a_comparison_that_begins_in_years_is_told(tmp_path: Path) -> None:
    """A mistyped year would else do away with it unseen."""
    target = of_tokenizer("gone", tmp_path / "gone.gguf")
    config = write_config(tmp_path, target.rstrip() + "\ncompare_since = 2926-11-21\n")
    ended = run("nightly", config)
    assert "gone: compare_since is 2926-11-21: until then, no run is compared with others" in ended.stderr


def test_another_reference_is_among_what_changed(q8_0: Files, tmp_path: Path) -> None:
    reference = tmp_path / "reference.safetensors"
    shutil.copy(TINY_REFERENCE, reference)
    config = write_config(tmp_path, of_pair("good", q8_0, reference=str(reference)))
    assert run("nightly", config).status == 0
    with safe_open(reference, "numpy") as file:
        stages, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(stages, reference, metadata | {"note": "made anew"})
    assert run("nightly", config).status == 0
    before, after = found(config, 1)["good"], found(config, 2)["good"]
    [change] = changes(before, after)
    assert change.startswith("reference ")


STATES = {"good": PASSED, "cut": FAILED, "gone": UNCHECKED, "away": UNCHECKED}


def test_good_broken_and_unreachable_targets_in_one_run(q8_0: Files, tmp_path: Path) -> None:
    """None takes the others along; the exit status says which kinds there were."""
    shutil.copy(q8_0.lm, tmp_path / "cut.gguf")
    cut(tmp_path / "cut.gguf", 0.5)
    config = write_config(
        tmp_path,
        toml({"name": "away", "repo": "someone/asr", "file": "lm.gguf", "checkpoint": "tiny"}),
        of_tokenizer("gone", tmp_path / "gone.gguf"),
        of_pair("cut", Files(Path("cut.gguf"), q8_0.tokenizer)),
        of_pair("good", q8_0, gates={"layer_01": {"cos_mean": 0.99}, "transcript": {"error_rate": 0}}),
    )
    reports = "--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md"
    ended = run("nightly", config, *reports)
    assert ended.status == 1, ended.stderr
    results = found(config, 1)
    assert {name: result.state for name, result in results.items()} == {name: STATES[name] for name in results}
    assert "PASS" in ended.of("good")
    assert "FAIL" in ended.of("cut")
    assert "truncated in tensor" in ended.of("cut")
    assert "NOT CHECKED" in ended.of("away")
    assert "someone/asr" in ended.of("away")
    assert f"{tmp_path / 'gone.gguf'}: no such file" in ended.of("gone")
    assert "1 of 4 targets failed, 2 could not be checked" in ended.stdout.splitlines()[-1]

    for place in ("pages/index.html", "junit.xml", "summary.md"):
        text = (tmp_path / place).read_text(encoding="utf-8")
        assert all(name in text for name in results), place
    for name, result in results.items():
        assert (tmp_path / "pages" / result.report).is_file(), name
        assert (tmp_path / f"pages/runs/1/{name}.log").is_file()
    row = results["good"].files[0]
    assert (row.name, row.size) == (q8_0.lm.name, q8_0.lm.stat().st_size)
    assert len(row.sha256) == 64


def test_a_drop_is_a_failure_though_every_gate_is_reached(q8_0: Files, q4_k: Files, tmp_path: Path) -> None:
    """Q4_K reaches the gates of Q4_K, but in the runs before there was a better file; until the config says so."""
    shutil.copy(q8_0.lm, tmp_path / "lm.gguf")
    target = of_pair("asr", Files(Path("lm.gguf"), q8_0.tokenizer))
    config = write_config(tmp_path, target)
    assert run("nightly", config).status == 0
    shutil.copy(q4_k.lm, tmp_path / "lm.gguf")
    for _ in range(2):  # what failed is no run to compare with
        assert run("nightly", config).status == 1
    result, before = found(config, 3)["asr"], found(config, 1)["asr"]
    texts = [problem.text for problem in result.problems]
    problem = next(text for text in texts if text.startswith("layer_01 of jfk.wav: cos_mean"))
    assert re.search(
        rf"0\.99\d+ was 0\.99\d+ on {before.started} \(run 1\); worse by 0\.00\d+, tolerance 0\.002", problem
    )
    assert f"{before.files[0].sha256[:12]}… → {result.files[0].sha256[:12]}…" in texts[-2]
    assert not next(row for row in result.stages if row.stage == "layer_01").passed
    assert next(row for row in result.stages if row.stage == "tok_pool").passed

    [meant] = re.findall(r"compare_since = (\S+)", texts[-1])
    write_config(tmp_path, target.rstrip() + f"\ncompare_since = {meant}\n")
    assert run("nightly", config).status == 0


def test_what_hangs_is_ended_at_its_timeout_and_what_is_killed_is_no_failure(q8_0: Files, tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        of_tokenizer("hangs", tmp_path / "a.gguf", timeout="2 s"),
        of_tokenizer("killed", tmp_path / "b.gguf"),
        of_tokenizer("good", q8_0.tokenizer),
    )
    process = start("nightly", config)
    hanging_child(process, tmp_path / "pages/runs/1/hangs.log")
    os.kill(hanging_child(process, tmp_path / "pages/runs/1/killed.log"), signal.SIGKILL)
    ended = end(process)
    assert ended.status == 2, ended.stderr
    assert "stopped at its timeout, after 2 s" in ended.of("hangs")
    assert "killed by SIGKILL" in ended.of("killed")
    assert "PASS" in ended.of("good")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_was_interrupted_goes_on(q8_0: Files, tmp_path: Path, number: signal.Signals) -> None:
    """With what was not done; and nothing that it started works on by itself."""
    file = tmp_path / "a.gguf"
    config = write_config(tmp_path, of_tokenizer("done", q8_0.tokenizer), of_tokenizer("hangs", file))
    process = start("nightly", config)
    child = hanging_child(process, tmp_path / "pages/runs/1/hangs.log")
    assert "done" in (tmp_path / "pages/index.html").read_text()  # what is known by now
    process.send_signal(number)
    ended = end(process)
    assert ended.status == (-9 if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert ended.stderr == "interrupted; the same command resumes here\n"
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGCONT)
    wait_for(lambda: not is_running(child))

    shutil.copy(q8_0.tokenizer, file)
    ended = run("nightly", config)
    assert ended.status == 0
    assert re.fullmatch(r"resuming run 1, begun \S+; done already: done\n", ended.stderr)
    assert [line.split()[:2] for line in ended.stdout.splitlines()[:2]] == [["done", "PASS"], ["hangs", "PASS"]]
    assert list(found(config, 1)) == ["done", "hangs"]


def test_there_is_one_run_at_a_time(tmp_path: Path) -> None:
    config = write_config(tmp_path, of_tokenizer("hangs", tmp_path / "a.gguf"))
    process = start("nightly", config)
    hanging_child(process, tmp_path / "pages/runs/1/hangs.log")
    other = run("nightly", config)
    process.kill()
    end(process)
    assert (other.status, other.stdout) == (2, "")
    assert re.fullmatch(
        rf"error: {tmp_path}/history.sqlite: is in use by process {process.pid} since \S+; wait until that is done\n",
        other.stderr,
    )


def test_pages_that_cannot_be_written_are_told_before_the_first_target(tmp_path: Path) -> None:
    """And not after each."""
    (tmp_path / "pages/index.html").mkdir(parents=True)
    config = write_config(tmp_path, of_tokenizer("gone", tmp_path / "gone.gguf"))
    ended = run("nightly", config)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {tmp_path}/pages/index.html: is a folder; expected a file's name\n"
    assert found(config, 1) == {}


@pytest.mark.parametrize(
    ("hours", "names", "edit", "goes_on"),
    [(1, [], "", True), (23, [], "", False), (1, ["a"], "", False), (1, [], "# edited", False)],
    ids=["lately", "the-day-before", "other-targets", "other-config"],
)
def test_only_the_same_and_only_lately(tmp_path: Path, hours: int, names: list[str], edit: str, goes_on: bool) -> None:
    path = write_config(tmp_path, of_tokenizer("a", tmp_path / "a.gguf"))
    history, config = History(tmp_path / "history.sqlite"), read_config(path)
    begun = (datetime.now(timezone.utc) - timedelta(hours=hours)).strftime(TIME)
    history.begin(begun, config.sha256)
    path.write_text(path.read_text() + edit)
    told: list[str] = []
    run, done = begin_or_resume(history, read_config(path), names, told.append)
    assert (run, done, len(told)) == (1 if goes_on else 2, {}, int(goes_on))
    history.finish(run, begun)
    assert begin_or_resume(history, read_config(path), names, told.append)[0] == run + 1
