"""Runs cases, one after another, and keeps count: how many, how many past the header, what failed, what it took."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.case import Case, Edits, Failure, Folders, failures
from tests.fuzz.forked import Ended, Forks
from tests.fuzz.seeds import Seeds, run_case
from tests.fuzz.targets import TARGETS
from tests.hub_server import serve

COMMAND = "python -m tests.fuzz"


@dataclass
class Found:
    """A case that failed, by what it takes to make it again: the target, its seed and number, the changes."""

    target: str
    seed: int
    number: int
    failures: list[Failure]
    edits: list[int]

    @property
    def command(self) -> str:
        edits = "".join(f" --edit {edit}" for edit in self.edits)
        return f"{COMMAND} {self.target} --seed {self.seed} --case {self.number}{edits}"


@dataclass
class Tally:
    """What was found at one target."""

    cases: int = 0
    past_header: int = 0
    accepted: int = 0  # exit status 0 or 1: the file was taken for what it claims to be
    seconds: float = 0.0
    slowest: float = 0.0  # of the CPU
    largest: int = 0  # bytes
    statuses: Counter[int] = field(default_factory=Counter)
    found: dict[tuple[str, str], list[Found]] = field(default_factory=dict)  # by kind and cause

    def add(self, case: Case, ended: Ended, found: Found) -> None:
        self.cases += 1
        self.past_header += bool(case.past_header() if callable(case.past_header) else case.past_header)
        self.accepted += ended.status in (0, 1)
        self.statuses[ended.status] += 1
        self.seconds += ended.seconds
        self.slowest, self.largest = max(self.slowest, ended.cpu_seconds), max(self.largest, ended.memory)
        for failure in found.failures:
            self.found.setdefault((failure.kind, failure.cause), []).append(found)

    def merge(self, other: "Tally") -> None:
        for name in ("cases", "past_header", "accepted", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)
        self.statuses.update(other.statuses)
        for key, found in other.found.items():
            self.found.setdefault(key, []).extend(found)


@dataclass
class Fuzzer:
    """Everything that a case takes."""

    forks: Forks
    seeds: Seeds
    folders: Folders

    def make(self, target: str, seed: int, number: int, edits: Collection[int] | None = None) -> tuple[Case, Edits]:
        made = Edits(f"{target}/{seed}/{number}", edits)
        return TARGETS[target](made, self.seeds), made

    def run(
        self, target: str, seed: int, number: int, edits: Collection[int] | None = None
    ) -> tuple[Case, Ended, Found]:
        """One case, and what it did that it must not."""
        case, made = self.make(target, seed, number, edits)
        ended = run_case(case, self.folders, self.forks)
        return case, ended, Found(target, seed, number, failures(case, self.folders, ended), made.kept)

    def minimise(self, found: Found) -> Found:
        """The same failure by fewer changes."""
        wanted = {failure[:2] for failure in found.failures}
        for edit in list(found.edits):
            fewer = [one for one in found.edits if one != edit]
            _, _, again = self.run(found.target, found.seed, found.number, fewer)
            if wanted & {failure[:2] for failure in again.failures}:
                found = again
        return found

    def keep(self, found: Found, folder: Path) -> None:
        """The files, what was printed, and how to run it again, in a folder of their own."""
        case, ended, again = self.run(found.target, found.seed, found.number, found.edits)
        place = folder / f"{found.target}-{found.seed}-{found.number}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folders.root, place, symlinks=True)
        about = {"command": [case.command, *case.arguments], "again": again.command, "status": ended.status}
        about["failures"] = [failure._asdict() for failure in again.failures]
        (place / "case.json").write_text(json.dumps(about, indent=2))

    def many(self, target: str, seed: int, numbers: Iterator[int], until: Callable[[Tally], bool]) -> Tally:
        """Cases of a target with these numbers, until it is enough."""
        tally = Tally()
        for number in numbers:
            if until(tally):
                break
            tally.add(*self.run(target, seed, number))
        return tally


@contextmanager
def fuzzer(scratch: Path) -> Iterator[Fuzzer]:
    """A server, and what is right, in `scratch`."""
    with ExitStack() as stack:
        hub = stack.enter_context(serve(tokens={"token": ["someone"]}, quiet=True))
        forks = stack.enter_context(Forks(scratch, hub.url))
        (scratch / "seeds").mkdir()
        yield Fuzzer(forks, Seeds(scratch / "seeds", forks, hub), Folders(scratch / "case"))


def within(seconds: float, cases: int, least: int = 0) -> Callable[[Tally], bool]:
    """Enough after so many cases, or so many seconds, but not before the `least` number of cases."""
    end = time.monotonic() + seconds
    return lambda tally: tally.cases >= cases or (time.monotonic() > end and tally.cases >= least)
