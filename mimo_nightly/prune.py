"""Delete pages, reports and logs of old runs; the history keeps every row."""

import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from .history import FAILED, History
from .process import beside
from .regression import METRICS

KINDS = ("html", "json", "log", "found", "agreement.html", "agreement.json")  # files of a target in a run's folder


class Old(NamedTuple):
    """A file that may be deleted, and its bytes."""

    path: Path
    nbytes: int


def old_files(history: History, pages: Path, keep: float, now: datetime | None = None) -> list[Old]:
    """The files of runs that began more than `keep` seconds ago, in folders that a nightly run made.

    Of each target, the files of its newest run stay, of the last good one, of those that hold the best values, and of
    the run since which it fails.
    """
    before = (now or datetime.now(timezone.utc)) - timedelta(seconds=keep)
    kept = {target: runs_to_keep(history, target) for target in history.targets()}
    return [
        Old(path, path.stat().st_size)
        for run in history.runs()
        if datetime.fromisoformat(run.started.replace("Z", "+00:00")) < before
        for target, runs in kept.items()
        if run.run not in runs
        for path in files_of(pages / "runs" / str(run.run), target)
    ]


def runs_to_keep(history: History, target: str) -> set[int]:
    """The runs whose reports prove what is said of a target today."""
    states, good = history.states(target), history.last_good(target)
    best = {one.run for name, metric in METRICS.items() for one in history.best(target, name, metric.more_is_better)}
    failing = [one.run for one in states if one.state == FAILED and one.run > (good.run if good else 0)]
    return {*best, states[-1].run, *([good.run] if good else []), *failing[:1]}


def files_of(folder: Path, target: str) -> Iterator[Path]:
    """A target's files in a run's folder; nothing of a folder, or a file, that is a symbolic link."""
    if folder.is_symlink():
        return
    for kind in KINDS:
        path = beside(folder, target, kind)
        with suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def delete(files: Sequence[Old]) -> None:
    """Delete files, and the folders that are empty then. Raises OSError if one cannot be deleted."""
    for file in files:
        file.path.unlink(missing_ok=True)
    for folder in {file.path.parent for file in files}:
        with suppress(OSError):  # it holds something else
            folder.rmdir()
