"""System calls of a conversion that fail, one at a time: on reads, writes, and all that gives a file its name.

The calls of an undisturbed run are listed first; each run of those that follow has a fault at one of them, by
`faults.c`, which is preloaded.
"""

import errno
import os
import queue
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from benchmarks.faults.killed import RESUMED, WORKERS
from benchmarks.faults.undisturbed import Command

SOURCE = Path(__file__).with_name("faults.c")
READS, WRITES = ("open", "read", "pread", "preadv"), ("open", "ftruncate", "fallocate", "pwrite", "fdatasync", "fsync")
KINDS = {"EIO": str(errno.EIO), "ENOSPC": str(errno.ENOSPC), "EINTR": str(errno.EINTR)}
KINDS |= {"half": "short", "early end": "end", "SIGKILL": "kill"}
HARMLESS = ("half", "EINTR")  # the system may do so at any time, and nothing is wrong
LASTING = ("open", "read", "pread", "preadv", "pwrite", "fallocate")  # once a disk refuses these, it goes on to


@dataclass(frozen=True)
class Wanted:
    """A fault to try at up to `places` calls: one of KINDS, at these calls on files whose names end in one of `files`.

    `resuming`: of a run that goes on with what a killed one left.
    """

    kind: str
    calls: Sequence[str]
    files: Sequence[str]
    what: str
    places: int = 8
    resuming: bool = False


JSON, SHARD, PART, JOURNAL, FOLDER = [".json"], [".safetensors"], [".gguf.part"], [".part.journal"], ["/out"]
WANTED = [
    Wanted("EIO", READS, JSON, "config.json, tokenizer files, index", 8),
    Wanted("EIO", READS, SHARD, "shards: headers, tensors, hashes", 16),
    Wanted("early end", ["read", "pread", "preadv"], SHARD, "shards, as if cut off", 6),
    Wanted("half", ["read", "pread", "preadv"], [*SHARD, *JSON], "shards, config and tokenizer files", 6),
    Wanted("EINTR", READS, [*SHARD, *JSON], "shards, config and tokenizer files", 6),
    Wanted("EIO", WRITES, PART, "`.part`", 12),
    Wanted("ENOSPC", ["open", "fallocate", "pwrite"], PART, "`.part`", 6),
    Wanted("EIO", WRITES, JOURNAL, "journal", 6),
    Wanted("ENOSPC", ["open", "pwrite"], JOURNAL, "journal", 4),
    Wanted("half", ["pwrite"], PART, "`.part`", 3),
    Wanted("EINTR", WRITES, [*PART, *JOURNAL], "`.part`, journal", 4),
    Wanted("EIO", ["rename"], PART, "final names", 3),
    Wanted("ENOSPC", ["rename"], PART, "final names", 3),
    Wanted("EIO", ["fsync", "open"], FOLDER, "folder of the files", 4),
    Wanted("EIO", ["unlink"], JOURNAL, "journal, at the end", 3),
    Wanted("EIO", ["close"], [*PART, *JOURNAL, ".gguf"], "`.part`, journal, file", 5),
    Wanted("SIGKILL", ["rename", "unlink", "fsync"], [*PART, *JOURNAL, *FOLDER], "while files get their names", 12),
    Wanted("EIO", ["open", "read"], JOURNAL, "journal of a killed run", 4, resuming=True),
    Wanted("half", ["read"], JOURNAL, "journal of a killed run", 2, resuming=True),
    Wanted("EIO", READS, SHARD, "shards, by a run that resumes", 4, resuming=True),
    Wanted("EIO", WRITES, PART, "`.part`, by a run that resumes", 4, resuming=True),
]


@dataclass(frozen=True)
class Place:
    """Call number `at` of `call` on files whose path ends with `path`."""

    call: str
    path: str
    at: int


@dataclass
class Tally:
    """What a fault led to, over its places; `problems` are what should not be, with the place."""

    wanted: Wanted
    places: int = 0
    as_asked: int = 0  # exit status 2 and one line that names the file; or 0, where the fault is none
    incomplete: int = 0
    identical: int = 0
    problems: list[str] = field(default_factory=list)


def compile_faults(folder: Path) -> Path:
    """The shared library of faults. Raises CalledProcessError if it cannot be made."""
    library = folder / "faults.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def fail_everywhere(command: Command, folder: Path, seed: int) -> list[Tally]:
    """Try every wanted fault of a conversion."""
    library = compile_faults(folder)
    halfway, log = folder / "halfway" / "out", folder / "log"
    calls = {False: calls_of(command, folder / "listed" / "out", library, log)}
    behind_chunks = Place("fsync", f"/{next(iter(command.files))}.part.journal", 1)
    strike(command, behind_chunks, "SIGKILL", halfway, library, log)
    again = folder / "listed again" / "out"
    shutil.copytree(halfway, again)
    calls[True] = calls_of(command, again, library, log)
    shutil.rmtree(again.parent)

    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for worker in range(WORKERS):
        free.put(folder / f"failing-{worker}")

    def one(tally: Tally, place: Place) -> None:
        own = free.get()
        try:
            if tally.wanted.resuming:
                shutil.copytree(halfway, own / "out")
            try_one(command, tally, place, own, library)
        finally:
            shutil.rmtree(own, ignore_errors=True)
            free.put(own)

    tallies = [Tally(wanted) for wanted in WANTED]
    todo = []
    for i, tally in enumerate(tallies):
        todo += [
            (tally, place) for place in places(calls[tally.wanted.resuming], tally.wanted, random.Random(seed + i))
        ]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda work: one(*work), todo))
    return tallies


def calls_of(command: Command, out: Path, library: Path, log: Path) -> Counter[tuple[str, str]]:
    """How often an undisturbed run makes each call on each file; a file is told by its name and its folder's."""
    environment = {"LD_PRELOAD": str(library), "FAULT_LOG": str(log)}
    status, said = command.run(out, **environment)
    if status:
        raise RuntimeError(f"exit status {status}: {said}")
    found = Counter((call, ending(path)) for call, path in logged(log) if os.path.isabs(path))
    log.unlink()
    return found


def logged(log: Path) -> list[tuple[str, str]]:
    """Calls and paths, as faults.c writes them."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(call, path) for call, _, path in (line.partition("\t") for line in lines)]


def ending(path: str) -> str:
    """What tells a file of a run from the others, whatever folder the run is in."""
    own = Path(path)
    return f"/{own.name}" if own.parent.name == "out" or own.name == "out" else f"/{own.parent.name}/{own.name}"


def places(calls: Counter[tuple[str, str]], wanted: Wanted, choose: random.Random) -> list[Place]:
    """The first call, the last, and others in between, of each kind in turn, until there are enough.

    How often something is flushed depends on which thread was faster, so that the last calls may not come.
    """
    groups = []
    for (call, path), n in sorted(calls.items()):
        if call in wanted.calls and path.endswith(tuple(wanted.files)):
            between = list(range(1, n - 1))
            choose.shuffle(between)
            groups.append([Place(call, path, at) for at in dict.fromkeys([0, n - 1, *between])])
    choose.shuffle(groups)
    in_turn = [place for round in zip_longest(*groups) for place in round if place]
    return in_turn[: wanted.places]


def strike(
    command: Command, place: Place, kind: str, out: Path, library: Path, log: Path
) -> tuple[int, str, list[tuple[str, str]]]:
    """Run the command with a fault; returns how it ended, what it said, and what was struck."""
    times = 1_000_000 if place.call in LASTING and kind not in HARMLESS else 1
    environment = {
        "LD_PRELOAD": str(library), "FAULT_LOG": str(log), "FAULT_CALL": place.call, "FAULT_PATH": place.path,
        "FAULT_AT": str(place.at), "FAULT_TIMES": str(times), "FAULT_KIND": KINDS[kind],
    }  # fmt: skip
    status, said = command.run(out, **environment)
    struck = logged(log)
    log.unlink(missing_ok=True)
    return status, said, struck


def try_one(command: Command, tally: Tally, place: Place, own: Path, library: Path) -> None:
    """One run with a fault, and another without, in a folder of its own."""
    out, kind = own / "out", tally.wanted.kind
    own.mkdir(exist_ok=True)
    status, said, struck = strike(command, place, kind, out, library, own / "log")
    if not struck:
        return
    wrong = command.wrong(out)
    problem = verdict(kind, status, said, struck[0][1])
    in_the_end = command.differs(out) if status == 0 else command.finishes(out)[0]
    tally.places += 1
    tally.as_asked += not problem
    tally.incomplete += len(wrong)
    tally.identical += not in_the_end
    problems = [problem, in_the_end, *(f"{name} is under its name and not complete" for name in wrong)]
    tally.problems += [f"{kind} at {place}: {text}" for text in problems if text]


def verdict(kind: str, status: int, said: str, path: str) -> str:
    """What in the end of the run is not as asked; empty if nothing."""
    if kind == "SIGKILL":
        return "" if status == -signal.SIGKILL else f"exit status {status}"
    lines = [line for line in said.splitlines() if not RESUMED.match(line)]
    if kind in HARMLESS:
        return "" if (status, lines) == (0, []) else f"exit status {status}: {said}"
    if status != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit status {status}: {said}"
    return "" if path.removesuffix(".journal").removesuffix(".part") in lines[0] else f"does not name {path}: {said}"
