"""Options, checkpoints, versions and files that changed since a run was killed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.damage import shard_of

from .killed import Ended, Fault, Runs
from .whole import NAMES, UP, Whole, check_goes_on, check_names, contents, killed_midway, run_whole


def told_of(ended: Ended, name: str) -> str:
    """What a run said of one `.part`."""
    [line] = [line for line in ended.stderr.splitlines() if f"{name}.part: " in line]
    return line.split(".part: ")[1]


STARTING_OVER = "was begun with other options, or from other config or tokenizer files: starting over"


def test_other_options_start_over_and_it_says_so(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    other = [argument for argument in whole.arguments if argument != "--fuse-qkv"]
    files = run_whole(runs, tmp_path / "whole", other)
    killed_midway(runs, tmp_path / "out", whole)
    ended = check_goes_on(runs, tmp_path / "out", other, files)
    assert told_of(ended, NAMES[0]) == told_of(ended, NAMES[1]) == STARTING_OVER


def test_another_quantizer_starts_over_what_has_blocks(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    other = [*whole.arguments, "--quantizer", "ggml"]
    files = run_whole(runs, tmp_path / "whole", other)
    killed_midway(runs, tmp_path / "out", whole)
    ended = check_goes_on(runs, tmp_path / "out", other, files)
    f16, q4_k = NAMES[:2]
    assert (told_of(ended, f16), told_of(ended, q4_k)) == ("resuming where an earlier run stopped", STARTING_OVER)


def test_another_checkpoint_starts_over_and_it_says_so(
    whole: Whole, checkpoints: tuple[Path, Path], runs: Runs, tmp_path: Path
) -> None:
    """One weight changes in place: all sizes and every header stay as they were."""
    lm = shutil.copytree(checkpoints[0], tmp_path / "lm")
    arguments = [lm, *whole.arguments[1:]]
    killed_midway(runs, tmp_path / "out", whole, arguments)
    shard = shard_of(lm, UP)
    size = shard.stat().st_size
    with shard.open("r+b") as file:
        file.seek(size - 1000)
        file.write(b"\0\0")
    files = run_whole(runs, tmp_path / "whole", arguments)
    assert (shard.stat().st_size, files == whole.files) == (size, False)
    ended = check_goes_on(runs, tmp_path / "out", arguments, files)
    for name in NAMES[:2]:
        assert told_of(ended, name) == "was begun from a checkpoint that has changed since: starting over"


def test_another_version_starts_over_and_it_says_so(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    killed_midway(runs, tmp_path, whole)
    journal = tmp_path / f"{NAMES[0]}.part.journal"
    first, rest = journal.read_text().split("\n", 1)
    origin = json.loads(first) | {"version": "mimo-convert 0.0.7"}
    journal.write_text(json.dumps(origin) + "\n" + rest)
    # what another version wrote may be different bytes
    with (tmp_path / f"{NAMES[0]}.part").open("r+b") as file:
        file.write(b"x" * 10_000)
    ended = check_goes_on(runs, tmp_path, whole.arguments, whole.files)
    said = told_of(ended, NAMES[0])
    assert said.startswith("was begun by mimo-convert 0.0.7, and this is mimo-convert 0")
    assert said.endswith(": starting over")
    assert told_of(ended, NAMES[1]) == "resuming where an earlier run stopped"


def without_a_first_line(part: Path, journal: Path) -> None:
    journal.write_bytes(b"\0" * 50 + journal.read_bytes()[50:])


def without_a_journal(part: Path, journal: Path) -> None:
    journal.unlink()


def without_a_part(part: Path, journal: Path) -> None:
    part.unlink()


def with_a_shorter_part(part: Path, journal: Path) -> None:
    os.truncate(part, part.stat().st_size - 1)


def with_a_longer_part(part: Path, journal: Path) -> None:
    os.truncate(part, part.stat().st_size + 1)


def with_a_torn_journal(part: Path, journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(b'{"done": [[0, 1')


@pytest.mark.parametrize(
    "harm",
    [
        without_a_first_line, without_a_journal, without_a_part, with_a_shorter_part, with_a_longer_part,
        with_a_torn_journal,
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_made_again(
    whole: Whole, runs: Runs, tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    killed_midway(runs, tmp_path, whole)
    harm(*(tmp_path / f"{NAMES[0]}{suffix}" for suffix in (".part", ".part.journal")))
    check_goes_on(runs, tmp_path, whole.arguments, whole.files)


def test_a_part_of_the_same_command_finishes_its_own_files(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    """Killed between the names of its files, and then run for one of them."""
    runs(*whole.arguments, "--out", tmp_path, fault=Fault("kill", 1, only=["replace"]))
    assert (tmp_path / NAMES[0]).exists()
    assert (tmp_path / f"{NAMES[1]}.part").exists()
    one = [a for a in whole.arguments if a not in ("--outtype", "q4_k")]
    one[one.index("f16") : one.index("f16")] = ["--outtype"]
    assert runs(*one, "--out", tmp_path).status == 0
    assert sorted(contents(tmp_path)) == [NAMES[0], f"{NAMES[1]}.part", f"{NAMES[1]}.part.journal", NAMES[2]]
    check_names(tmp_path, whole.files)
