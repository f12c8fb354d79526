"""Killed, or without power, at calls that change the disk: the same command resumes, and the files are the same."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from .killed import WRITES, Fault, Runs
from .whole import Check, Whole, check_goes_on, check_names, contents, done, everywhere


def check_killed(whole: Whole, kind: str) -> Check:
    """Killed at a call: no file has its name that is not right, and the same command goes on."""

    def check(runs: Runs, out: Path, point: tuple[int, Sequence[str]]) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault(kind, *point), **whole.sizes)
        assert ended.status == -signal.SIGKILL
        check_names(out, whole.files)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    return check


@pytest.mark.parametrize("kind", ["kill", "half"])
def test_killed_in_every_state_of_the_disk_the_same_command_goes_on(
    whole_tokenizer: Whole, both: list[Runs], tmp_path: Path, kind: str
) -> None:
    """`half` is between the halves of a write, and right behind any other call."""
    if kind == "kill":
        points = [(at, WRITES) for at in whole_tokenizer.distinct(*WRITES) if at < whole_tokenizer.sure]
    else:
        last = whole_tokenizer.points("pwrite") - 4
        points = [(at, ["pwrite"]) for at in whole_tokenizer.distinct("pwrite") if at < last]
    points += whole_tokenizer.endings()
    everywhere(both, tmp_path, points, check_killed(whole_tokenizer, kind))


@pytest.mark.parametrize("kind", ["kill", "half"])
def test_a_pair_of_models_killed_in_several_files_goes_on(
    whole: Whole, both: list[Runs], tmp_path: Path, kind: str
) -> None:
    points = [(at, WRITES) for at in range(0, whole.sure, 60)] + whole.endings()
    everywhere(both, tmp_path, points, check_killed(whole, kind))


def test_killed_at_any_time_and_again_the_same_command_goes_on(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    """By a clock, and from outside: 16 seeds, each killed up to twice, over any number of threads."""

    def check(runs: Runs, out: Path, seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(2):
            late = Fault("late", seed=int(choose.uniform(0.2, 1.2) * whole.seconds * 1e6))
            arguments = [*whole.arguments[:-1], choose.choice([1, 2, 5])]
            ended = runs(*arguments, "--out", out, fault=late)
            check_names(out, whole.files)
            if ended.status != -signal.SIGKILL:
                break
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, range(16), check)


def test_killed_as_a_command_of_its_own_it_goes_on(whole: Whole, tmp_path: Path) -> None:
    """No server and no fork: what a user starts, killed as soon as there is something to go on with."""
    script = (
        "from mimo_commands import convert as cli; from mimo_convert.write import chunks; "
        "from mimo_convert.write import flusher; flusher.FLUSH_BYTES, chunks.CHUNK_WEIGHTS = {}; cli.main()"
    )
    command = [sys.executable, "-c", script.format((20_000, 2_000)), *map(str, whole.arguments), "--no-check"]
    command += ["--out", str(tmp_path)]
    n_done = -1
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and done(tmp_path) <= n_done:
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert done(tmp_path) > n_done or process.returncode == 0
        n_done = done(tmp_path)
        check_names(tmp_path, whole.files)
    assert n_done > 1
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "mimo-asr-f16.gguf.part: resuming where an earlier run stopped\n" in process.communicate()[1]
    assert contents(tmp_path) == whole.files


def check_power_loss(whole: Whole) -> Check:
    def check(runs: Runs, out: Path, seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(choose.choice([1, 1, 2])):
            # two thirds in the beginning or the end, where journals and names come and go
            anywhere, beginning = ((choose.randrange(n), WRITES) for n in (whole.sure, 40))
            point = choose.choice([anywhere, beginning, choose.choice(whole.endings())])
            runs(*whole.arguments, "--out", out, fault=Fault("power", *point, seed=seed), **whole.sizes)
            check_names(out, whole.files)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    return check


def test_what_a_power_loss_takes_with_it_is_made_again(
    whole: Whole, whole_tokenizer: Whole, both: list[Runs], tmp_path: Path
) -> None:
    """Whatever was not seen onto the disk may be lost, torn, or zeros; again in the run that goes on."""
    everywhere(both, tmp_path, range(12), check_power_loss(whole))
    everywhere(both, tmp_path, range(40), check_power_loss(whole_tokenizer))


@pytest.mark.parametrize("kind", ["kill", "half", "power"])
def test_killed_while_files_that_were_there_are_replaced_the_same_command_replaces_all(
    whole: Whole, both: list[Runs], tmp_path: Path, kind: str
) -> None:
    """The older files are as long as the new ones, as those of a model that was trained a little more are."""
    older = {name: b"x" * len(data) for name, data in whole.files.items()}
    arguments = [*whole.arguments, "--force"]

    def check(runs: Runs, out: Path, point: tuple[int, Sequence[str]]) -> None:
        out.mkdir()
        for name, data in older.items():
            (out / name).write_bytes(data)
        ended = runs(*arguments, "--out", out, fault=Fault(kind, *point, seed=point[0]))
        assert ended.status == -signal.SIGKILL
        check_names(out, whole.files, older)
        check_goes_on(runs, out, arguments, whole.files)

    points = [(at, WRITES) for at in range(whole.sure - 3, whole.sure)] + whole.endings()
    everywhere(both, tmp_path, points, check)
