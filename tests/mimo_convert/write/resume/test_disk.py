"""The disk fills, or breaks: one line that says how to go on, and the same command resumes."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .killed import Fault, Runs
from .whole import (
    GOES_ON,
    RESUMING,
    Whole,
    check_goes_on,
    check_names,
    check_told,
    contents,
    done,
    everywhere,
    killed_midway,
)


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("pwrite", errno.ENOSPC),
        ("pwrite", errno.EDQUOT),
        ("fdatasync", errno.EIO),
        ("ftruncate", errno.EIO),
        ("posix_fallocate", errno.ENOSPC),
        ("replace", errno.EIO),
        ("preadv", errno.EIO),
    ],
)
def test_a_call_that_fails_is_one_line_that_says_how_to_go_on_and_it_does(
    whole: Whole, both: list[Runs], tmp_path: Path, call: str, number: int
) -> None:
    """Pretended: to a file that has all its room, no disk refuses a write until it breaks."""

    def check(runs: Runs, out: Path, at: int) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault("error", at, only=[call], errno=number))
        assert ended.status == 2
        assert ended.stderr.startswith("error: ")
        assert f": {os.strerror(number)}; " in ended.stderr
        assert ended.stderr.count("\n") == 1
        check_names(out, whole.files)
        check_told(out, ended)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    every = whole.points(call)
    everywhere(both, tmp_path, sorted({*range(min(3, every)), *range(3, every, 1 + every // 3)}), check)


def test_a_shard_that_cannot_be_read_when_a_run_is_resumed_costs_nothing_that_was_done(
    whole: Whole, both: list[Runs], tmp_path: Path
) -> None:
    def check(runs: Runs, out: Path, at: int) -> None:
        killed_midway(runs, out, whole)
        before = done(out)
        ended = runs(*whole.arguments, "--out", out, fault=Fault("error", at, only=["preadv"], errno=errno.EIO))
        assert ended.status == 2
        [line] = [line for line in ended.stderr.splitlines() if not line.endswith(".part: " + RESUMING)]
        assert re.match(rf"error: \S+\.safetensors: tensor \S+ cannot be read: {os.strerror(errno.EIO)}; ", line)
        assert GOES_ON in line
        assert done(out) >= before > 0
        check_names(out, whole.files)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, [0, 1, 9, 20], check)


def test_a_file_that_may_not_grow_any_longer_is_gone_on_with(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    """The kernel's own refusal in the middle: a limit on the size of files that comes too late for the reservation."""

    def check(runs: Runs, out: Path, at: int) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault("limit", at, seed=100_000))
        assert ended.status == 2
        assert "gguf.part: cannot be written: File too large; " in ended.stderr
        check_names(out, whole.files)
        check_told(out, ended)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, [0, 22, 90], check)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runs, Path]]:
    """A server of runs with a disk of its own, of 8 MB, and the path to that from here.

    Where the kernel lets nobody mount one, the tests with a limit on the size of files see the same refusals.
    """
    folder = tmp_path_factory.mktemp("disk")
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8M tmpfs "$0" && exec "$@"']
    around = [*mount, str(folder)]
    if subprocess.run([*around, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    with Runs(tmp_path_factory.mktemp("scratch"), around=around, chunk_weights=1000, flush_bytes=1) as runs:
        yield runs, Path(f"/proc/{runs.server.process.pid}/root{folder}")


def on_disk(small_disk: tuple[Runs, Path]) -> str:
    """The disk's folder as its server knows it."""
    return "/" + str(small_disk[1]).split("/root/", 1)[1]


@pytest.mark.parametrize("at", [3, 4, 9, 20, 1500, 2500])
def test_a_disk_that_something_else_fills_is_made_room_on_and_gone_on_with(
    whole: Whole, small_disk: tuple[Runs, Path], at: int
) -> None:
    """A file in the making has its room; what still grows are the journals, and they take it in steps of a page."""
    runs, disk = small_disk
    inside, out = on_disk(small_disk), disk / "out"
    ended = runs(*whole.arguments, "--out", f"{inside}/out", fault=Fault("fill", at))
    assert (ended.status, ended.stderr.count("\n")) == (2, 1)
    assert ": cannot be written: No space left on device; " in ended.stderr
    (out / "filler").unlink(missing_ok=True)
    (disk / "filler").unlink(missing_ok=True)
    check_names(out, whole.files)
    assert (GOES_ON in ended.stderr) == (done(out) > 0) == (at > 100)
    assert runs(*whole.arguments, "--out", f"{inside}/out").status == 0
    assert contents(out) == whole.files
    shutil.rmtree(out)


def test_a_disk_that_is_too_small_is_told_with_what_is_needed_and_what_is_free(
    whole: Whole, small_disk: tuple[Runs, Path]
) -> None:
    runs, disk = small_disk
    inside = on_disk(small_disk)
    (disk / "filler").write_bytes(b"x" * 7_500_000)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ended = runs(*whole.arguments, "--out", f"{inside}/out")
    (disk / "filler").unlink()
    needed = sum(map(len, whole.files.values()))
    assert ended.status == 2
    assert f"error: {inside}/out: {free:,} bytes are free; expected " in ended.stderr
    told = int(ended.stderr.split("expected ")[1].split(" ")[0].replace(",", ""))
    assert needed <= told <= needed + 3 * (1 << 16)
    assert not (disk / "out").exists()


def test_room_that_a_killed_run_has_taken_is_not_asked_for_again(whole: Whole, small_disk: tuple[Runs, Path]) -> None:
    runs, disk = small_disk
    inside = on_disk(small_disk)
    runs(*whole.arguments, "--out", f"{inside}/out", fault=Fault("kill", 1500))
    taken = sum(path.stat().st_size for path in (disk / "out").glob("*.part"))
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"x" * (free - taken // 2))
    ended = runs(*whole.arguments, "--out", f"{inside}/out")
    (disk / "filler").unlink()
    assert (ended.status, contents(disk / "out")) == (0, whole.files)
    shutil.rmtree(disk / "out")
