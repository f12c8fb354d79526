"""What every nightly run found, in SQLite: a row a run, one for each target in it, and one for each stage of each file.

A target's rows are written in one transaction when it is done, so that a run that was killed goes on with the others.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from mimo_convert.fields import Fields, shown
from mimo_convert.files import check_regular
from quantize.errors import InputError
from quantize.quoting import quoted

PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"  # states of a target
WHOLE, HEADER = "whole", "header"  # scopes: the file was run, or only what stands before its weights was examined
STATES, SCOPES = (PASSED, FAILED, UNCHECKED), (WHOLE, HEADER)
FORMAT = 1  # of the tables
SQLITE = b"SQLite format 3\0"  # how such a file begins
TODO = "give another file, or move this one away"
MOST_RUNS = 1 << 53
METRIC_FIELDS = ("cos_mean", "cos_min", "rel_rmse", "agreement", "kl_mean", "error_rate")

LIMIT_LENGTH = 0  # SQLITE_LIMIT_LENGTH (https://sqlite.org/c3ref/c_limit_attached.html)
MOST_BYTES = 1 << 26  # of one value
LONGEST_SECONDS = 1e9  # of a target
TIMES = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?"
TIME = "a time such as 2026-11-21T03:00:00Z"

TABLES = (
    """CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, config_sha256 TEXT NOT NULL
)""",
    """CREATE TABLE targets (
    run INTEGER NOT NULL REFERENCES runs, target TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL,
    state TEXT NOT NULL, scope TEXT NOT NULL, problems TEXT NOT NULL, files TEXT NOT NULL, versions TEXT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (run, target)
)""",
    """CREATE TABLE stages (
    run INTEGER NOT NULL, target TEXT NOT NULL, file TEXT NOT NULL, sound TEXT NOT NULL, stage TEXT NOT NULL,
    cos_mean REAL, cos_min REAL, rel_rmse REAL, agreement REAL, kl_mean REAL, error_rate REAL, passed INTEGER NOT NULL,
    PRIMARY KEY (run, target, file, sound, stage),
    FOREIGN KEY (run, target) REFERENCES targets
)""",
)


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
        check_file(path)
        with self._one_line_error():
            self.connection = sqlite3.connect(path, isolation_level=None)
        try:
            with self._one_line_error():
                self._open()
        except BaseException:
            self.connection.close()
            raise

    def _open(self) -> None:
        if hasattr(self.connection, "setlimit"):  # from Python 3.11
            self.connection.setlimit(LIMIT_LENGTH, MOST_BYTES)
        self.connection.execute("PRAGMA trusted_schema = OFF")
        version, tables = self._version(), self._schema()
        if version not in (0, FORMAT):
            raise InputError(
                self.path, f"is a history of format {version}", expected=f"{FORMAT}", todo="use a newer mimo-check"
            )
        if not tables and not version:  # else nothing is written: it may be somebody else's, to be read
            with self._transaction():
                if not self._schema():  # nor has another process made them meanwhile
                    for table in TABLES:
                        self.connection.execute(table)
                    self.connection.execute(f"PRAGMA user_version = {FORMAT}")
        elif tables != {one_line(table) for table in TABLES}:
            names = ", ".join(sorted(name for [name] in self._select("SELECT name FROM sqlite_master")))
            raise InputError(
                self.path, f"is a database of another kind, with {quoted(ascii(names)[1:-1]) or 'no tables'}",
                expected="the tables runs, targets and stages of a history", todo=TODO,
            )  # fmt: skip
        [*lost] = self._select("SELECT run, target FROM targets WHERE run NOT IN (SELECT run FROM runs) LIMIT 1")
        for run, target in lost:
            where = self._where(run=run, target=target)
            raise InputError(where, "the run is not in the table runs", expected="a row for it", todo=TODO)

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _schema(self) -> set[str]:
        """How the tables were made, and all else but indexes and SQLite's own tables."""
        rows = self._select("SELECT name, type, sql FROM sqlite_master")
        return {
            one_line(str(sql)) for name, kind, sql in rows if kind != "index" and not str(name).startswith("sqlite_")
        }

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
        row = tuple(_row(result).values())
        stages = [(result.run, result.target, *map(plain, astuple(stage))) for stage in result.stages]
        with self._one_line_error(), self._transaction():
            self.connection.execute(f"INSERT INTO targets VALUES ({places(len(row))})", row)
            if stages:
                self.connection.executemany(f"INSERT INTO stages VALUES ({places(len(stages[0]))})", stages)

    def runs(self) -> list[Run]:
        """Every run, the oldest first."""
        rows = self._rows("run, started, finished, config_sha256", "FROM runs ORDER BY run")
        return [
            Run(row.whole("run", MOST_RUNS), row.text("started", TIMES, TIME),
                "" if row.values["finished"] is None else row.text("finished", TIMES, TIME), row.text("config_sha256"))
            for row in rows
        ]  # fmt: skip

    def targets(self) -> list[str]:
        """Every target that was ever recorded, in the order of its first run."""
        rows = self._rows("target", "FROM targets GROUP BY target ORDER BY min(rowid)")
        return [row.text("target") for row in rows]

    def of_run(self, run: int) -> list[TargetResult]:
        """What a run found, in the order in which it did."""
        return self._results("run = ?", (run,))

    def of_target(self, target: str, limit: int = -1) -> list[TargetResult]:
        """What the last `limit` runs (-1: all) found of a target, the oldest first."""
        return self._results("target = ?", (target,), limit)

    def states(self, target: str) -> list[State]:
        """How every run found a target, the oldest first, without what it measured."""
        rows = self._rows(
            "run, target, started, state, scope", "FROM targets WHERE target = ? ORDER BY rowid", (target,)
        )
        return [
            State(row.whole("run", MOST_RUNS), row.text("started", TIMES, TIME), row.one_of("state", STATES),
                  row.one_of("scope", SCOPES))
            for row in rows
        ]  # fmt: skip

    def last_good(self, target: str) -> TargetResult | None:
        """The last run of a target in which all of it was checked, and it passed; None if there is none."""
        found = self._results("target = ? AND state = ? AND scope = ?", (target, PASSED, WHOLE), 1)
        return found[0] if found else None

    def best(self, target: str, metric: str, more_is_better: bool, since: str = "") -> list[Best]:
        """The best of a metric, a field of StageRow, at every stage of every sound, in the target's good runs that
        began at `since` or later."""
        # SQLite takes the other columns from the row that has the maximum (https://sqlite.org/lang_select.html)
        query = f"""
            FROM stages JOIN targets USING (run, target)
            WHERE target = ? AND state = ? AND scope = ? AND started >= ? AND abs({metric}) < 1e999
            GROUP BY sound, stage
        """
        value = f"{'max' if more_is_better else 'min'}({metric}) AS {metric}"
        rows = self._rows(f"target, sound, stage, {value}, run, started", query, (target, PASSED, WHOLE, since))
        found = [
            (row.text("sound"), row.text("stage"), row.measured(metric), row.whole("run", MOST_RUNS),
             row.text("started", TIMES, TIME))
            for row in rows
        ]  # fmt: skip
        return [Best(sound, stage, value, run, at) for sound, stage, value, run, at in found if value is not None]

    def check(self, result: TargetResult) -> None:
        """Raises InputError for a result that could not be read again once it was recorded."""
        _result(
            self._where(run=result.run, target=result.target), _row(result), [asdict(stage) for stage in result.stages]
        )

    def _results(self, where: str, values: tuple[object, ...], limit: int = -1) -> list[TargetResult]:
        rows = self._rows(", ".join(COLUMNS), f"FROM targets WHERE {where} ORDER BY rowid DESC LIMIT {limit}", values)
        return [self._result(row) for row in reversed(rows)]

    def _result(self, row: Fields) -> TargetResult:
        run, target = row.values["run"], row.values["target"]
        query = "FROM stages WHERE run = ? AND target = ? ORDER BY rowid"
        stages = self._rows(", ".join(one.name for one in fields(StageRow)), query, (run, target))
        return _result(row.where, row.values, [stage.values for stage in stages])

    def _where(self, **which: object) -> str:
        """The file, and the run and the target that a message is about."""
        return f"{self.path}: " + ", ".join(f"{name} {shown(value)}" for name, value in which.items())

    def _rows(self, columns: str, query: str, values: Sequence[object] = ()) -> list[Fields]:
        """The rows that a query finds, their fields named as the columns."""
        names = [column.strip().rpartition(" ")[2] for column in columns.split(",")]
        found = [dict(zip(names, row, strict=True)) for row in self._select(f"SELECT {columns} {query}", values)]
        return [Fields(self._where(**{key: row[key] for key in ("run", "target") if key in row}), row) for row in found]

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
            raise InputError(self.path, f"cannot be used as a history: {error}", todo=TODO) from error


COLUMNS = (
    "run", "target", "started", "seconds", "state", "scope", "problems", "files", "versions", "report"
)  # fmt: skip


def _row(result: TargetResult) -> dict[str, Any]:
    """A result's row in the table of targets."""
    values = (
        result.run, result.target, result.started, result.seconds, result.state, result.scope,
        json.dumps(list(result.problems)), json.dumps([asdict(file) for file in result.files]),
        json.dumps(dict(result.versions)), result.report,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(plain, values), strict=True))


def _result(where: object, values: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> TargetResult:
    """The result in a row of targets and its rows of stages. Raises InputError for what none can hold."""
    row = Fields(where, values)
    data = Fields(where, {name: _from_json(row, name) for name in ("problems", "files", "versions")})
    return TargetResult(
        row.whole("run", MOST_RUNS), row.text("target"), row.text("started", TIMES, TIME),
        row.number("seconds", LONGEST_SECONDS), row.one_of("state", STATES), row.one_of("scope", SCOPES),
        data.texts("problems"), file_rows(data), data.named_texts("versions"), row.text("report"),
        [_stage(Fields(where, stage)) for stage in stages],
    )  # fmt: skip


def file_rows(data: Fields) -> list[FileRow]:
    """The files in the field `files`. Raises InputError if they are none."""
    found = data.objects("files")
    for file in found:
        file.only([one.name for one in fields(FileRow)])
    return [
        FileRow(
            file.text("name"), file.text("sha256"), file.whole("size"),
            *(file.text(name) if name in file.values else "" for name in ("revision", "etag")),
        )
        for file in found
    ]  # fmt: skip


def _stage(row: Fields) -> StageRow:
    if row.values.get("passed") not in (0, 1):
        raise InputError(row.where, f"passed is {shown(row.values.get('passed'))}", expected="0 or 1")
    measured = {name: row.measured(name) for name in METRIC_FIELDS}
    return StageRow(
        row.text("file"), row.text("sound"), row.text("stage"), **measured, passed=bool(row.values["passed"])
    )


def _from_json(row: Fields, name: str) -> Any:
    text = row.text(name, expected="JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(row.where, f"{name} is {shown(text)}", expected="JSON") from error


def check_file(path: Path) -> None:
    """Raises InputError if there is something at `path` that is not a regular file, before it is opened."""
    with suppress(OSError):  # which is for who opens it to find
        check_regular(path, path.stat().st_mode, "a file with a history")
        with path.open("rb") as file:
            if file.read(len(SQLITE)) not in (b"", SQLITE):  # SQLite makes a database of a shorter one
                raise InputError(path, "cannot be used as a history: it is not a database", todo=TODO)


def plain(value: Any) -> Any:
    """A value as SQLite takes it: what is not UTF-8 in a file's name is written by its number."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def one_line(text: str) -> str:
    return " ".join(text.split())


def places(n: int) -> str:
    """Placeholders for so many values."""
    return ", ".join("?" * n)
