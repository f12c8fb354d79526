"""Conversions that something happens to, at any moment: the same command goes on, and the files are the same.

Every way to end is tried at every call that changes something on the disk, or at a sample of them drawn by seed.
"""

import errno
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mimo_convert import convert as convert_module
from mimo_convert import flusher
from mimo_convert import request as request_module
from mimo_convert.convert import convert
from mimo_convert.journal import Journal
from mimo_convert.plan import Options
from mimo_convert.request import make_request
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check import bundled

from ..conftest import SMALL_LM, SMALL_TOKENIZER
from ..damage import edit_tensor, set_weight, shard_of
from ..synthetic import write_audio_tokenizer, write_speech_lm
from .killed import WRITES, Ended, Fault, Runs

SMALLER_LM = SMALL_LM | {"vocab_size": 400, "num_hidden_layers": 1, "intermediate_size": 256, "n_shards": 1}
SMALLER_TOKENIZER = SMALL_TOKENIZER | {"d_model": 32, "encoder_ffn_dim": 64, "num_quantizers": 1}
LEAST_TOKENIZER = SMALLER_TOKENIZER | {"encoder_layers": 1, "encoder_skip_layer_id": 1}
NAMES = ["mimo-asr-f16.gguf", "mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]
TYPES_OF_NAMES = ["--outtype", "f16", "--outtype", "q4_k", "--tokenizer-outtype", "q8_0"]
UP = "model.layers.0.mlp.up_proj.weight"
RESUMING = "going on where an earlier run stopped"
GOES_ON, NOTHING_LEFT = "the same command goes on from here", "nothing was left behind"
Check = Callable[[Runs, Path, Any], None]


@dataclass(frozen=True)
class Whole:
    """A run that nothing happened to: its arguments but for the folder, its files, its calls, how long it took."""

    arguments: list[Any]
    files: dict[str, bytes]
    calls: list[tuple[str, str]]
    seconds: float
    sizes: dict[str, int]

    def points(self, *names: str) -> int:
        """How many calls of these names it made."""
        return sum(name in names for name, _ in self.calls)

    @property
    def sure(self) -> int:
        """How many writes any run makes: what is flushed together depends on which thread was faster."""
        return self.points(*WRITES) - 20

    def endings(self) -> list[tuple[int, Sequence[str]]]:
        """The calls that give files their names, and take away their journals."""
        n = len(self.files)
        return [(at, ["replace"]) for at in range(n)] + [(n + at, ["unlink"]) for at in range(n)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A speech LM and its audio tokenizer, as small as they come. Shared: copy before changing anything."""
    folder = tmp_path_factory.mktemp("smaller")
    return (
        write_speech_lm(folder / "lm", **SMALLER_LM),
        write_audio_tokenizer(folder / "tokenizer", **SMALLER_TOKENIZER),
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Runs]]:
    """Servers of runs: as many as are tried at once."""
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("scratch")
        yield [stack.enter_context(Runs(scratch)) for _ in range(2)]


@pytest.fixture
def runs(both: list[Runs]) -> Runs:
    return both[0]


@pytest.fixture(scope="module")
def whole(checkpoints: tuple[Path, Path], both: list[Runs], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Both models, the speech LM in two types."""
    lm, tokenizer = checkpoints
    arguments = [lm, "--tokenizer", tokenizer, *TYPES_OF_NAMES, "--fuse-qkv", "--threads", 1]
    return counted(both[0], tmp_path_factory.mktemp("whole"), arguments)


@pytest.fixture(scope="module")
def whole_tokenizer(both: list[Runs], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The least there is to convert, in two types: few enough calls to try every one."""
    folder = tmp_path_factory.mktemp("least")
    tokenizer = write_audio_tokenizer(folder / "tokenizer", **LEAST_TOKENIZER)
    arguments = [tokenizer, "--outtype", "f16", "--outtype", "q8_0", "--threads", 1]
    return counted(both[0], folder, arguments, flush_bytes=10_000)


def counted(runs: Runs, folder: Path, arguments: list[Any], **sizes: int) -> Whole:
    files = run_whole(runs, folder / "whole", arguments)
    begin = time.monotonic()
    ended = runs(*arguments, "--out", folder / "again", **sizes)
    return Whole(arguments, files, ended.calls, time.monotonic() - begin, sizes)


def run_whole(runs: Runs, out: Path, arguments: Iterable[Any]) -> dict[str, bytes]:
    """The files of a run that nothing happens to, in one chunk a tensor and one flush."""
    ended = runs(*arguments, "--out", out, chunk_weights=1 << 30, flush_bytes=1 << 30)
    assert (ended.status, ended.stderr) == (0, "")
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def everywhere(both: list[Runs], tmp_path: Path, points: Iterable[Any], check: Check) -> None:
    """Check each point, in a folder of its own, on all servers at once."""
    free: queue.SimpleQueue[Runs] = queue.SimpleQueue()
    for runs in both:
        free.put(runs)

    def check_one(point: Any) -> None:
        runs, out = free.get(), tmp_path / f"out-{threading.get_ident()}"
        try:
            check(runs, out, point)
        except AssertionError as error:
            raise AssertionError(f"at {point}: {error}; there are {list(contents(out))}") from error
        finally:
            free.put(runs)
            shutil.rmtree(out, ignore_errors=True)

    with ThreadPoolExecutor(len(both)) as pool:
        list(pool.map(check_one, points))


def check_names(out: Path, *allowed: dict[str, bytes]) -> None:
    """Whatever is under a final name is complete and right; beside that there are only .part and .journal."""
    for name, data in contents(out).items():
        if name.endswith(".gguf"):
            assert data in [files.get(name) for files in allowed], f"{name} is wrong"
        else:
            assert name.endswith((".part", ".part.journal")), name


def check_goes_on(runs: Runs, out: Path, arguments: Iterable[Any], files: dict[str, bytes], **sizes: int) -> Ended:
    """The same command, undisturbed, ends well: all files are right, and nothing else is there.

    Killed behind the very last call of all, it had ended: the same command then finds its files there.
    """
    ended = runs(*arguments, "--out", out, **sizes)
    assert "Traceback" not in ended.stderr, ended.stderr
    if "is already there and was kept" not in ended.stderr:
        assert ended.status == 0, ended.stderr
    found = contents(out)
    assert found.keys() == files.keys()
    assert [name for name in files if found[name] != files[name]] == []
    return ended


# Killed, and the power fails.


def check_killed(whole: Whole, kind: str) -> Check:
    """Killed at a call: no file has its name that is not right, and the same command goes on."""

    def check(runs: Runs, out: Path, point: tuple[int, Sequence[str]]) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault(kind, *point), **whole.sizes)
        assert ended.status == -signal.SIGKILL
        check_names(out, whole.files)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    return check


@pytest.mark.parametrize("kind", ["kill", "half"])
def test_killed_at_every_single_call_the_same_command_goes_on(
    whole_tokenizer: Whole, both: list[Runs], tmp_path: Path, kind: str
) -> None:
    """`half` is between the halves of a write, and right behind any other call."""
    if kind == "kill":
        points = [(at, WRITES) for at in range(whole_tokenizer.sure)]
    else:
        points = [(at, ["pwrite"]) for at in range(whole_tokenizer.points("pwrite") - 4)]
    points += whole_tokenizer.endings()
    everywhere(both, tmp_path, points, check_killed(whole_tokenizer, kind))


@pytest.mark.parametrize("kind", ["kill", "half"])
def test_a_pair_of_models_killed_in_several_files_goes_on(
    whole: Whole, both: list[Runs], tmp_path: Path, kind: str
) -> None:
    points = [(at, WRITES) for at in range(0, whole.sure, 25)] + whole.endings()
    everywhere(both, tmp_path, points, check_killed(whole, kind))


def test_killed_at_any_time_and_again_the_same_command_goes_on(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    """By a clock, and from outside: 60 seeds, each killed up to twice, over any number of threads."""

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

    everywhere(both, tmp_path, range(60), check)


def test_killed_as_a_command_of_its_own_it_goes_on(whole: Whole, tmp_path: Path) -> None:
    """No server and no fork: what a user starts, killed as soon as there is something to go on with."""
    script = (
        "from mimo_convert import cli, flusher, request; flusher.FLUSH_BYTES, request.CHUNK_WEIGHTS = {}; cli.main()"
    )
    command = [sys.executable, "-c", script.format((20_000, 2_000)), *map(str, whole.arguments), "--no-check"]
    command += ["--out", str(tmp_path)]
    n_done = -1
    for _ in range(8):
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
    assert "mimo-asr-f16.gguf.part: going on where an earlier run stopped\n" in process.communicate()[1]
    assert contents(tmp_path) == whole.files


def done(out: Path) -> int:
    """How many chunks the journals in a folder say are done."""
    journals = [Journal.read(path) for path in out.glob("*.journal")]
    return sum(len(journal.done) for journal in journals if journal)


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
    everywhere(both, tmp_path, range(40), check_power_loss(whole))
    everywhere(both, tmp_path, range(60), check_power_loss(whole_tokenizer))


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

    points = [(at, WRITES) for at in range(whole.sure - 9, whole.sure)] + whole.endings()
    everywhere(both, tmp_path, points, check)


# Interrupted, terminated.


def check_told(out: Path, ended: Ended) -> None:
    """What a run said about what it left is so."""
    left = contents(out)
    if GOES_ON in ended.stderr:
        assert any(name.endswith(".part") for name in left), ended.stderr
        assert all(f"{name}.journal" in left for name in left if name.endswith(".part")), ended.stderr
    else:
        assert NOTHING_LEFT in ended.stderr, ended.stderr
        assert not out.exists(), ended.stderr


def test_interrupted_at_any_call_a_run_says_how_to_go_on_and_it_does(
    whole: Whole, both: list[Runs], tmp_path: Path
) -> None:
    def check(runs: Runs, out: Path, at: int) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", at))
        assert ended.status == 130
        assert ended.stderr.startswith("interrupted: ")
        assert ended.stderr.count("\n") == 1
        check_names(out, whole.files)
        check_told(out, ended)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, sorted({*range(0, 40, 2), *range(40, whole.sure, 16)}), check)


def test_interrupted_again_at_once_nothing_of_what_was_done_is_lost(
    whole: Whole, both: list[Runs], tmp_path: Path
) -> None:
    def check(runs: Runs, out: Path, at: int) -> None:
        runs(*whole.arguments, "--out", out, fault=Fault("kill", whole.sure))
        before = done(out)
        ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", at))
        assert (ended.status, ended.stderr.count(GOES_ON)) == (130, 1)
        assert done(out) >= before > 0
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, range(10), check)


def test_terminated_as_by_a_shutdown_the_same_command_goes_on(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = runs(*whole.arguments, "--out", out, fault=Fault("terminate", whole.points(*WRITES) // 2))
    assert ended.status == -signal.SIGTERM
    assert done(out)
    check_names(out, whole.files)
    assert "going on" in check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes).stderr


# The disk fills, or breaks.


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
    everywhere(both, tmp_path, sorted({*range(min(6, every)), *range(6, every, 1 + every // 6)}), check)


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

    everywhere(both, tmp_path, [0, 1, 5, 9, 14, 20], check)


def test_a_file_that_may_not_grow_any_longer_is_gone_on_with(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    """The kernel's own refusal in the middle: a limit on the size of files that comes too late for the reservation."""

    def check(runs: Runs, out: Path, at: int) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault("limit", at, seed=100_000))
        assert ended.status == 2
        assert "gguf.part: cannot be written: File too large; " in ended.stderr
        check_names(out, whole.files)
        check_told(out, ended)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, [0, 11, 22, 60, 90], check)


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
        yield runs, Path(f"/proc/{runs.server.pid}/root{folder}")


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


# Something is not as it was.


def killed_midway(runs: Runs, out: Path, whole: Whole, arguments: list[Any] | None = None) -> None:
    runs(*(arguments or whole.arguments), "--out", out, fault=Fault("kill", whole.points(*WRITES) * 2 // 3))
    assert done(out)


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
    assert (told_of(ended, f16), told_of(ended, q4_k)) == ("going on where an earlier run stopped", STARTING_OVER)


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
    assert told_of(ended, NAMES[1]) == "going on where an earlier run stopped"


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


# Weights beyond F16.


@pytest.fixture(scope="module")
def whole_in_two_passes(
    checkpoints: tuple[Path, Path], both: list[Runs], tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    """A weight beyond F16 in the second shard: a pass to there, one that looks at all weights, one that writes."""
    folder = tmp_path_factory.mktemp("two")
    lm = write_speech_lm(folder / "lm", **SMALLER_LM | {"n_shards": 2})
    beyond = "speech_embeddings.7.weight"
    assert shard_of(lm, beyond).name == "model-00002-of-00002.safetensors"
    edit_tensor(lm, beyond, lambda tensor: tensor.float())
    set_weight(lm, beyond, 3, 1e9)
    arguments = [lm, "--tokenizer", checkpoints[1], *TYPES_OF_NAMES, "--threads", 1]
    return counted(both[0], folder, arguments)


def test_killed_in_its_second_pass_a_run_goes_on_there(
    whole_in_two_passes: Whole, both: list[Runs], tmp_path: Path
) -> None:
    whole = whole_in_two_passes
    reserved = [i for i, call in enumerate(whole.calls) if call == ("posix_fallocate", f"{NAMES[0]}.part")]
    assert len(reserved) == 2
    reads = [sum(name == "preadv" for name, _ in calls) for calls in (whole.calls, whole.calls[reserved[1] :])]
    again = []

    def check(runs: Runs, out: Path, at: int) -> None:
        assert runs(*whole.arguments, "--out", out, fault=Fault("kill", at)).status == -signal.SIGKILL
        journals = [Journal.read(path) for path in out.glob("mimo-asr*.journal")]
        informed = any(journal and journal.origin.peaks for journal in journals)
        ended = check_goes_on(runs, out, whole.arguments, whole.files)
        again.append((informed, sum(name == "preadv" for name, _ in ended.calls)))

    everywhere(both, tmp_path, range(10, whole.sure, 25), check)
    there = [n for informed, n in again if informed]
    assert len(there) >= 3
    assert max(there) <= reads[1] < reads[0]
    assert min(there) < reads[1] / 2


def test_interrupted_in_its_second_pass_a_run_says_how_to_go_on(
    whole_in_two_passes: Whole, runs: Runs, tmp_path: Path
) -> None:
    whole, out = whole_in_two_passes, tmp_path / "out"
    ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", whole.sure - 40))
    assert ended.status == 130
    assert f"{GOES_ON}, with what is in {NAMES[0]}.part" in ended.stderr
    check_goes_on(runs, out, whole.arguments, whole.files)


# Any order, and two at once.


@pytest.mark.parametrize("seed", range(6))
def test_the_order_in_which_threads_finish_changes_no_byte(
    whole: Whole, checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    choose = random.Random(seed)
    write_chunk, order = convert_module.write_chunk, []

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        time.sleep(choose.random() / 200)
        order.append(chunk.number)
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", choose.choice([1, 100_000, 1 << 30]))
    monkeypatch.setattr(request_module, "CHUNK_WEIGHTS", choose.choice([5_000, 30_000, 1 << 30]))
    lm, tokenizer = map(str, checkpoints)
    requests = [
        make_request(bundled.open_model(lm), [TYPES["f16"], TYPES["q4_k"]], Options(True)),
        make_request(bundled.open_model(tokenizer), [TYPES["q8_0"]], Options(True)),
    ]
    convert(requests, tmp_path, threads=choose.choice([2, 3, 8]))
    assert order != sorted(order)
    assert contents(tmp_path) == whole.files


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_of_any_number_of_rows_make_the_same_files(
    whole: Whole, runs: Runs, tmp_path: Path, rows: int, threads: int
) -> None:
    """Of the 256 weights that the rows of most tensors have."""
    arguments = [*whole.arguments[:-1], threads]
    ended = runs(*arguments, "--out", tmp_path, chunk_weights=256 * rows, flush_bytes=50_000)
    assert (ended.status, contents(tmp_path)) == (0, whole.files)


def test_of_two_runs_at_once_one_says_so_and_the_other_is_right(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    for i in range(5):
        out = tmp_path / str(i)
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(lambda runs, out=out: runs(*whole.arguments, "--out", out), both))
        assert sorted(ended.status for ended in ends) == [0, 2]
        [refused] = [ended for ended in ends if ended.status]
        assert f"{NAMES[0]}.part: another run " in refused.stderr or "is already there" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert contents(out) == whole.files


def test_no_thread_is_left_at_work_when_a_conversion_has_failed(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write to whatever file is open under the number that its own file had."""

    def broken(journal: Journal, chunks: Sequence[int]) -> None:
        if chunks:
            raise OSError(errno.ENOSPC, "No space left on device")

    late = []
    write_chunk = convert_module.write_chunk

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        time.sleep(0.05)
        late.append(parts[0].fd)
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", 1)
    monkeypatch.setattr(Journal, "add", broken)
    request = make_request(bundled.open_model(str(checkpoints[0])), [TYPES["f16"]])
    with pytest.raises(InputError, match="No space left on device; nothing was left behind"):
        convert([request], tmp_path, threads=4)
    n = len(late)
    assert n
    time.sleep(0.2)
    assert len(late) == n
    assert None not in late


def test_a_file_that_appears_during_the_run_is_kept(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chunk, name = convert_module.write_chunk, "mimo-asr-f16.gguf"

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        (tmp_path / name).write_bytes(b"precious")
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    request = make_request(bundled.open_model(str(checkpoints[0])), [TYPES["f16"]])
    with pytest.raises(InputError, match=f"{name}: is already there and was kept; --force replaces it"):
        convert([request], tmp_path, threads=2)
    assert (tmp_path / name).read_bytes() == b"precious"
