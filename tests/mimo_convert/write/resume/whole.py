"""Runs that nothing happens to, and what is checked of a run that something happened to."""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimo_convert.write.journal import Journal

from .killed import WRITES, Ended, Fault, Runs

NAMES = ["mimo-asr-f16.gguf", "mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]
TYPES_OF_NAMES = ["--outtype", "f16", "--outtype", "q4_k", "--tokenizer-outtype", "q8_0"]
UP = "model.layers.0.mlp.up_proj.weight"
RESUMING = "resuming where an earlier run stopped"
GOES_ON, NOTHING_LEFT = "the same command resumes here", "nothing was left behind"
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
        """How many writes any run makes, and some more: which thread was faster decides what is flushed together.

        Counted in 80 runs beside other work: 373 to 393 calls, most 383; a flush is ten of them.
        """
        return self.points(*WRITES) - 60

    def distinct(self, *names: str) -> list[int]:
        """Which of the calls of these names leave the disk in another kind of state: not one write behind another."""
        calls = [name for name, _ in self.calls if name in names or name in WRITES]
        numbers = [number for number, name in enumerate(calls) if name in names]
        return [
            place
            for place, number in enumerate(numbers)
            if calls[number] != "pwrite" or number == 0 or calls[number - 1] != "pwrite" or place % 8 == 0
        ]

    def endings(self) -> list[tuple[int, Sequence[str]]]:
        """The calls that give files their names, and take away their journals."""
        n = len(self.files)
        return [(at, ["replace"]) for at in range(n)] + [(n + at, ["unlink"]) for at in range(n)]


def counted(runs: Runs, folder: Path, arguments: list[Any], **sizes: int) -> Whole:
    files = run_whole(runs, folder / "whole", arguments)
    begin = time.monotonic()
    ended = runs(*arguments, "--out", folder / "again", **sizes)
    return Whole(arguments, files, ended.calls, time.monotonic() - begin, sizes)


def run_whole(runs: Runs, out: Path, arguments: Iterable[Any]) -> dict[str, bytes]:
    """The files of a run that nothing happens to, in one chunk a tensor and one flush."""
    ended = runs(*arguments, "--out", out, chunk_weights=1 << 30, flush_bytes=1 << 30)
    assert ended.status == 0
    assert [line for line in ended.stderr.splitlines() if not line.endswith("promoted to f32")] == []
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
    """The same command, undisturbed, ends well: all files are right, and nothing else is there."""
    ended = runs(*arguments, "--out", out, **sizes)
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.status == 0, ended.stderr
    found = contents(out)
    assert found.keys() == files.keys()
    assert [name for name in files if found[name] != files[name]] == []
    return ended


def done(out: Path) -> int:
    """How many chunks the journals in a folder say are done."""
    journals = [Journal.read(path) for path in out.glob("*.journal")]
    return sum(len(journal.done) for journal in journals if journal)


def check_told(out: Path, ended: Ended) -> None:
    """What a run said about what it left is so."""
    left = contents(out)
    if GOES_ON in ended.stderr:
        assert any(name.endswith(".part") for name in left), ended.stderr
        assert all(f"{name}.journal" in left for name in left if name.endswith(".part")), ended.stderr
    else:
        assert NOTHING_LEFT in ended.stderr, ended.stderr
        assert not out.exists(), ended.stderr


def killed_midway(runs: Runs, out: Path, whole: Whole, arguments: list[Any] | None = None) -> None:
    runs(*(arguments or whole.arguments), "--out", out, fault=Fault("kill", whole.points(*WRITES) * 2 // 3))
    assert done(out)
