"""Two runs that write into one folder at the same time."""

import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.killed import wait_until_writing
from benchmarks.faults.undisturbed import UNFINISHED, Command, hashes
from mimo_convert.write.made import MADE

BUSY = ("another run is writing it", "another run has just ended")
THERE = "already exists"


@dataclass(frozen=True)
class Pair:
    """Two commands, and what they have in common; `force`: both replace what is there, which was there before."""

    what: str
    first: Command
    second: Command
    force: bool = False


@dataclass
class Tally:
    """How pairs of runs ended; `problems` are what should not be."""

    what: str
    pairs: int = 0
    refused: int = 0  # one said that another run is writing, and left
    in_turn: int = 0  # one found the other's files there, or replaced them: both had time to open
    right: int = 0
    problems: list[str] = field(default_factory=list)


def overlap(pair: Pair, n: int, folder: Path, seed: int) -> Tally:
    """Start the two `n` times: at nearly the same moment, and in turn, the second while the first is in the middle."""
    tally, choose = Tally(pair.what), random.Random(seed)
    more = ["--force"] if pair.force else []
    for i in range(n):
        out = folder / f"pair-{i}"
        out.mkdir()
        if pair.force:
            for name in pair.first.files:
                (out / name).write_bytes(b"older")
        first = pair.first.start(out, *more)
        stopped = i % 2 == 1 and wait_until_writing(first.pid, out)
        if stopped:  # it has its files open from before the second begins until after that has ended
            first.send_signal(signal.SIGSTOP)
        else:
            time.sleep(choose.uniform(0, 0.3))
        second = pair.second.start(out, *more)
        after = second.communicate()[1]
        if stopped:
            first.send_signal(signal.SIGCONT)
        said = [first.communicate()[1], after]
        problem = unlike(pair, out, [first.returncode, second.returncode], said)
        tally.pairs += 1
        busy = any(text in line for line in said for text in BUSY)
        tally.refused += busy
        tally.in_turn += not busy
        tally.right += not problem
        tally.problems += [f"{pair.what}, pair {i}: {problem}"] if problem else []
        shutil.rmtree(out)
    return tally


def unlike(pair: Pair, out: Path, statuses: Sequence[int], said: Sequence[str]) -> str:
    """What in the end of two runs is not as asked; empty if nothing.

    One of them at least made its files; the other did so, too, found them made, or said in one line why not. Of a run
    that found a name taken when all its work was done, that work may be left, for the same command with --force.
    """
    if 0 not in statuses:
        return f"exit statuses {statuses}: {said}"
    for status, text in zip(statuses, said, strict=True):
        told = status == 2 and text.count("\n") == 1 and any(reason in text for reason in (*BUSY, THERE))
        if not told and (status or any(not line.endswith(MADE) for line in text.splitlines())):
            return f"exit status {status}: {text}"
    found = hashes(out)
    both = [pair.first.files, pair.second.files]
    wanted = [files for status, files in zip(statuses, both, strict=True) if status == 0]
    unfinished = [name for name in found if name.endswith(UNFINISHED)]
    if unfinished and not any(THERE in text for text in said):
        return f"left {', '.join(unfinished)}"
    if not any(all(found.get(name) == sha256 for name, sha256 in files.items()) for files in wanted):
        return f"the files of no run are whole: {sorted(found)}"
    possible = [(name, sha256) for files in both for name, sha256 in files.items()]
    finals = {name: sha256 for name, sha256 in found.items() if name not in unfinished}
    mixed = [name for name, sha256 in finals.items() if (name, sha256) not in possible and not is_older(out, name)]
    if mixed:
        return f"not as any run makes them: {', '.join(mixed)}"
    return replaced(pair, out, statuses) if unfinished else ""


def replaced(pair: Pair, out: Path, statuses: Sequence[int]) -> str:
    """What is wrong when the run whose names were taken while it worked goes on with --force; empty if nothing."""
    command = pair.second if statuses[0] == 0 else pair.first
    status, said = command.run(out, "--force")
    found = hashes(out)
    whole = all(found.get(name) == sha256 for name, sha256 in command.files.items())
    if status or not whole or any(name.endswith(UNFINISHED) for name in found):
        return f"with --force: exit status {status}: {said}; there are {sorted(found)}"
    return ""


def is_older(out: Path, name: str) -> bool:
    """Whether the file is the one that was there before both."""
    return (out / name).read_bytes() == b"older"
