"""SIGKILLs that hit conversions while they write, and what the next runs make of what is left."""

import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.undisturbed import UNFINISHED, Command

POLL_SECONDS = 0.002
WORKERS = 4  # conversions at once: each waits much of the time, for modules and the disk
MOST_KILLS = 12  # of one conversion, which is then left alone
RESUMED = re.compile(r"^\S+\.part: (going on|resum)", re.MULTILINE)


@dataclass
class Tally:
    """What kills of a command led to; `problems` are what should not be."""

    command: str
    kills: int = 0
    missed: int = 0  # before the conversion wrote, or behind its end: they do not count
    while_naming: int = 0  # with some, not all, of the files under their names
    with_chunks: int = 0  # with chunks in the journals
    conversions: int = 0
    resumed: int = 0
    incomplete: int = 0
    identical: int = 0
    problems: list[str] = field(default_factory=list)


def kill_many(command: Command, n: int, folder: Path, seed: int) -> Tally:
    """Kill conversions at random moments of their writing until `n` kills have hit, and rerun each to its end."""
    tally, lock = Tally(command.script), threading.Lock()
    begin = time.monotonic()
    process = command.start(folder / "timed")
    wait_until_writing(process.pid, folder / "timed")
    started = time.monotonic()
    process.communicate()
    window = time.monotonic() - started
    print(f"{command.script}: {started - begin:.1f} s before it writes, {window:.1f} s of writing", flush=True)
    shutil.rmtree(folder / "timed")

    def work(worker: int) -> None:
        choose, out = random.Random(seed * WORKERS + worker), folder / f"killed-{worker}"
        while tally.kills < n:
            kill_one(command, out, window / 2, choose, n, tally, lock)
            shutil.rmtree(out)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    return tally


def kill_one(
    command: Command, out: Path, within: float, choose: random.Random, n: int, tally: Tally, lock: threading.Lock
) -> None:
    """One conversion: started, and killed after up to `within` seconds of writing, again and again until it ends."""
    ended = False
    for _ in range(MOST_KILLS):
        if ended or tally.kills >= n:
            break
        process = command.start(out, "--threads", choose.choice([1, 2]))
        writing = wait_until_writing(process.pid, out)
        time.sleep(choose.uniform(0, within))
        writing = writing and writes(process.pid, out)
        process.kill()
        said = process.communicate()[1]
        left = [name for name in os.listdir(out) if name.endswith(UNFINISHED)] if out.exists() else []
        hit = writing and process.returncode == -signal.SIGKILL and bool(left)
        wrong = command.wrong(out)
        with lock:
            tally.resumed += bool(RESUMED.search(said))
            tally.kills += hit
            tally.missed += not hit
            tally.while_naming += hit and any((out / name).exists() for name in command.files)
            tally.with_chunks += hit and any(
                b'"done"' in (out / name).read_bytes() for name in left if name.endswith(".journal")
            )
            tally.incomplete += len(wrong)
            tally.problems += [f"{name} is under its name and not complete" for name in wrong]
        ended = process.returncode == 0
    problem, said = (command.differs(out), "") if ended else command.finishes(out)
    with lock:
        tally.resumed += bool(RESUMED.search(said))
        tally.conversions += 1
        tally.identical += not problem
        tally.problems += [problem] if problem else []


def wait_until_writing(pid: int, out: Path) -> bool:
    """Return when the process has a `.part` in `out` open, or has ended; returns whether the former."""
    while True:
        if writes(pid, out):
            return True
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe"):  # neither gone nor a zombie
                time.sleep(POLL_SECONDS)
                continue
        return False


def writes(pid: int, out: Path) -> bool:
    """Whether the process has a `.part` in `out` open now."""
    return any(file.startswith(f"{out}/") and file.endswith(".part") for file in open_files(pid))


def open_files(pid: int) -> Iterator[str]:
    """The paths of what a process has open."""
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{fd}")
