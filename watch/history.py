"""What every nightly run found, in SQLite: a row a run, one for each target in it, and one for each stage of each file.

A target's rows are written in one transaction when it is done, so that a run that was killed goes on with the others.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from quantize.errors import InputError

PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"  # states of a target
WHOLE, HEADER = "whole", "header"  # scopes: the file was run, or only what stands before its weights was examined
FORMAT = 1  # of the tables

TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, config_sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS targets (
    run INTEGER NOT NULL REFERENCES runs, target TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL,
    state TEXT NOT NULL, scope TEXT NOT NULL, problems TEXT NOT NULL, files TEXT NOT NULL, versions TEXT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (run, target)
);
CREATE TABLE IF NOT EXISTS stages (
    run INTEGER NOT NULL, target TEXT NOT NULL, file TEXT NOT NULL, sound TEXT NOT NULL, stage TEXT NOT NULL,
    cos_mean REAL, cos_min REAL, rel_rmse REAL, agreement REAL, kl_mean REAL, error_rate REAL, passed INTEGER NOT NULL,
    PRIMARY KEY (run, target, file, sound, stage),
    FOREIGN KEY (run, target) REFERENCES targets
);
"""


@dataclass(frozen=True)
class Run:
    """One run over all targets; times are UTC in ISO 8601, `finished` is empty while it is not."""

    run: int
    started: str
    finished: str
    config_sha256: str


@dataclass(frozen=True)
class StageRow:
    """What was measured at one stage of one file on one sound; None is what the stage does not have.

    Cosines and relative RMSE to the reference; `agreement`, the share of equal codes, or of steps with the same
    likeliest token; `kl_mean` in nats; `error_rate` of the transcript's words.
    """

    file: str
    sound: str
    stage: str
    cos_mean: float | None = None
    cos_min: float | None = None
    rel_rmse: float | None = None
    agreement: float | None = None
    kl_mean: float | None = None
    error_rate: float | None = None
    passed: bool = True


@dataclass(frozen=True)
class FileRow:
    """A file as it was examined. `revision` is its repository's commit, empty for a local file; `etag` likewise."""

    name: str
    sha256: str
    size: int
    revision: str = ""
    etag: str = ""


@dataclass(frozen=True)
class TargetResult:
    """What a run found of one target. `problems` say why it did not pass, or could not be checked.

    `versions` are those of what the result depends on; `report` is the page of its report, from the pages' folder.
    """

    run: int
    target: str
    started: str
    seconds: float
    state: str
    scope: str = WHOLE
    problems: Sequence[str] = ()
    files: Sequence[FileRow] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    report: str = ""
    stages: Sequence[StageRow] = ()


class State(NamedTuple):
    """How a run found a target, in short."""

    run: int
    started: str
    state: str
    scope: str


@dataclass(frozen=True)
class Best:
    """The best value of one metric at a stage of a sound, and the run, begun at `started`, that reached it."""

    sound: str
    stage: str
    value: float
    run: int
    started: str


class History:
    """The history in the file `path`, which is made if it is not there. Raises InputError if it is something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._one_line_error():
            self.connection = sqlite3.connect(path, isolation_level=None)
            [found] = self.connection.execute("PRAGMA user_version").fetchone()
            if found not in (0, FORMAT):
                raise InputError(
                    path, f"is a history of format {found}", expected=f"{FORMAT}", todo="use a newer mimo-check"
                )
            if not found:  # else nothing is written: it may be somebody else's, to be read
                self.connection.executescript(TABLES)
                self.connection.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    def begin(self, started: str, config_sha256: str) -> int:
        """A new run's number."""
        with self._one_line_error():
            cursor = self.connection.execute(
                "INSERT INTO runs (started, config_sha256) VALUES (?, ?)", (started, config_sha256)
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def finish(self, run: int, finished: str) -> None:
        """Every target of the run is done."""
        with self._one_line_error():
            self.connection.execute("UPDATE runs SET finished = ? WHERE run = ?", (finished, run))

    def record(self, result: TargetResult) -> None:
        """Keep what was found of a target: all of it, or, if this is interrupted, nothing."""
        row = (
            result.run, result.target, result.started, result.seconds, result.state, result.scope,
            json.dumps(list(result.problems)), json.dumps([asdict(file) for file in result.files]),
            json.dumps(dict(result.versions)), result.report,
        )  # fmt: skip
        stages = [(result.run, result.target, *astuple(stage)) for stage in result.stages]
        with self._one_line_error(), self._transaction():
            self.connection.execute(f"INSERT INTO targets VALUES ({places(len(row))})", row)
            if stages:
                self.connection.executemany(f"INSERT INTO stages VALUES ({places(len(stages[0]))})", stages)

    def runs(self) -> list[Run]:
        """Every run, the oldest first."""
        rows = self._select("SELECT run, started, coalesce(finished, ''), config_sha256 FROM runs ORDER BY run")
        return [Run(*row) for row in rows]

    def targets(self) -> list[str]:
        """Every target that was ever recorded, in the order of its first run."""
        return [name for [name] in self._select("SELECT target FROM targets GROUP BY target ORDER BY min(rowid)")]

    def of_run(self, run: int) -> list[TargetResult]:
        """What a run found, in the order in which it did."""
        return self._results("run = ?", (run,))

    def of_target(self, target: str, limit: int = -1) -> list[TargetResult]:
        """What the last `limit` runs (-1: all) found of a target, the oldest first."""
        return self._results("target = ?", (target,), limit)

    def states(self, target: str) -> list[State]:
        """How every run found a target, the oldest first, without what it measured."""
        return [State(*row) for row in self._select(
            "SELECT run, started, state, scope FROM targets WHERE target = ? ORDER BY rowid", (target,)
        )]  # fmt: skip

    def last_good(self, target: str) -> TargetResult | None:
        """The last run of a target in which all of it was checked, and it passed; None if there is none."""
        found = self._results("target = ? AND state = ? AND scope = ?", (target, PASSED, WHOLE), 1)
        return found[0] if found else None

    def best(self, target: str, metric: str, more_is_better: bool, since: str = "") -> list[Best]:
        """The best of a metric, a field of StageRow, at every stage of every sound, in the target's good runs that
        began at `since` or later."""
        # SQLite takes the other columns from the row that has the maximum (https://sqlite.org/lang_select.html)
        query = f"""
            SELECT sound, stage, {"max" if more_is_better else "min"}({metric}), run, started
            FROM stages JOIN targets USING (run, target)
            WHERE target = ? AND state = ? AND scope = ? AND started >= ? AND {metric} IS NOT NULL
            GROUP BY sound, stage
        """
        return [Best(*row) for row in self._select(query, (target, PASSED, WHOLE, since))]

    def _results(self, where: str, values: tuple[object, ...], limit: int = -1) -> list[TargetResult]:
        rows = self._select(f"SELECT * FROM targets WHERE {where} ORDER BY rowid DESC LIMIT {limit}", values)
        return [self._result(row) for row in reversed(rows)]

    def _result(self, row: Sequence[Any]) -> TargetResult:
        run, target, started, seconds, state, scope, problems, files, versions, report = row
        names = [one.name for one in fields(StageRow)]
        stages = self._select(
            f"SELECT {', '.join(names)} FROM stages WHERE run = ? AND target = ? ORDER BY rowid", (run, target)
        )
        return TargetResult(
            int(run), target, started, float(seconds), state, scope, json.loads(problems),
            [FileRow(**file) for file in json.loads(files)], json.loads(versions), report,
            [StageRow(**dict(zip(names, stage, strict=True)) | {"passed": bool(stage[-1])}) for stage in stages],
        )  # fmt: skip

    def _select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._one_line_error():
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    @contextmanager
    def _one_line_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                self.path, f"cannot be used as a history: {error}", todo="give another file, or move this one away"
            ) from error


def places(n: int) -> str:
    """Placeholders for so many values."""
    return ", ".join("?" * n)
