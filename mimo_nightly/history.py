"""History of nightly runs in SQLite: a row per run, per target in it, and per stage of each file.

The rows of a target are written in one transaction when it is done, so that an interrupted run resumes with the others.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from mimo_convert.fields import Fields, shown
from mimo_convert.sqlite_file import TODO, check_file, places, plain, sqlite_errors, transaction
from quantize.errors import InputError

from .migration import copy_database, prepare
from .tables import MOST_RUNS, TIME, TIMES

PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"  # states of a target
WHOLE, HEADER = "whole", "header"  # scopes: the file was run, or only the header was checked
STATES, SCOPES = (PASSED, FAILED, UNCHECKED), (WHOLE, HEADER)
METRIC_FIELDS = ("cos_mean", "cos_min", "rel_rmse", "agreement", "kl_mean", "error_rate")

LONGEST_SECONDS = 1e9  # of a target
WHAT = "a history"


@dataclass(frozen=True)
class Run:
    """A run over all targets; times are UTC in ISO 8601, `finished` is empty until then."""

    run: int
    started: str
    finished: str
    config_sha256: str


@dataclass(frozen=True)
class StageRow:
    """The measurements of one stage of one file on one clip; None is not measured.

    Cosines and relative RMSE to the reference; `agreement`, the share of equal codes, or of steps with equal top-1
    tokens; `kl_mean` in nats; `error_rate`, the WER of the transcript.
    """

    file: str
    clip: str
    stage: str
    role: str
    kind: str
    cos_mean: float | None = None
    cos_min: float | None = None
    rel_rmse: float | None = None
    agreement: float | None = None
    kl_mean: float | None = None
    error_rate: float | None = None
    passed: bool = True


@dataclass(frozen=True)
class Problem:
    """A reason why a target failed or could not be checked, with the clip and stage it is about, if any."""

    text: str
    clip: str = ""
    stage: str = ""


@dataclass(frozen=True)
class FileRow:
    """A file that was checked. `revision` is its repository's commit and `etag` its ETag, empty for a local file."""

    name: str
    sha256: str
    size: int
    revision: str = ""
    etag: str = ""


@dataclass(frozen=True)
class TargetResult:
    """The result of one target in a run. `problems` are the reasons why it failed or could not be checked.

    `versions` are those of the packages; `report` is the path of its report's page, relative to the pages' folder.
    """

    run: int
    target: str
    started: str
    seconds: float
    state: str
    scope: str = WHOLE
    problems: Sequence[Problem] = ()
    files: Sequence[FileRow] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    report: str = ""
    stages: Sequence[StageRow] = ()


class State(NamedTuple):
    """The state of a target in a run."""

    run: int
    started: str
    state: str
    scope: str


@dataclass(frozen=True)
class Best:
    """The best value of a metric at a stage of a clip, and its run."""

    clip: str
    stage: str
    value: float
    run: int
    started: str


class History:
    """The history in the file `path`, created if missing. Raises InputError if the file is something else.

    `read_only`: nothing is written to the file, which must exist; a copy in memory is read.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        check_file(path, WHAT)
        with self._sqlite_errors():
            self.connection = sqlite3.connect(":memory:" if read_only else path, isolation_level=None)
        try:
            with self._sqlite_errors():
                if read_only:
                    copy_database(path, self.connection)
                prepare(path, self.connection, with_copy=not read_only)
                [*lost] = self._select(
                    "SELECT run, target FROM targets WHERE run NOT IN (SELECT run FROM runs) LIMIT 1"
                )
                for run, target in lost:
                    where = self._where(run=run, target=target)
                    raise InputError(where, "the run is not in the table runs", expected="a row for it", todo=TODO)
        except BaseException:
            self.connection.close()
            raise

    def _check_runs(self) -> None:
        [*lost] = self._select("SELECT run, target FROM targets WHERE run NOT IN (SELECT run FROM runs) LIMIT 1")
        for run, target in lost:
            where = self._where(run=run, target=target)
            raise InputError(where, "the run is not in the table runs", expected="a row for it", todo=TODO)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def begin(self, started: str, config_sha256: str) -> int:
        """Begin a run; returns its number."""
        with self._sqlite_errors():
            cursor = self.connection.execute(
                "INSERT INTO runs (started, config_sha256) VALUES (?, ?)", (started, config_sha256)
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def finish(self, run: int, finished: str) -> None:
        """End a run."""
        with self._sqlite_errors():
            self.connection.execute("UPDATE runs SET finished = ? WHERE run = ?", (finished, run))

    def record(self, result: TargetResult) -> None:
        """Record a target's result, in one transaction."""
        row = tuple(_row(result).values())
        stages = [(result.run, result.target, *map(plain, astuple(stage))) for stage in result.stages]
        with self.transaction():
            self.connection.execute(f"INSERT INTO targets VALUES ({places(len(row))})", row)
            if stages:
                self.connection.executemany(f"INSERT INTO stages VALUES ({places(len(stages[0]))})", stages)

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        rows = self.rows("run, started, finished, config_sha256", "FROM runs ORDER BY run")
        return [
            Run(row.whole("run", MOST_RUNS), row.text("started", TIMES, TIME),
                "" if row.values["finished"] is None else row.text("finished", TIMES, TIME), row.text("config_sha256"))
            for row in rows
        ]  # fmt: skip

    def targets(self) -> list[str]:
        """Every recorded target, in the order of its first run."""
        rows = self.rows("target", "FROM targets GROUP BY target ORDER BY min(rowid)")
        return [row.text("target") for row in rows]

    def of_run(self, run: int) -> list[TargetResult]:
        """The results of a run, in order."""
        return self._results("run = ?", (run,))

    def result(self, run: int, target: str) -> TargetResult:
        """The result of a target in a run. Raises InputError if there is none."""
        found = self._results("run = ? AND target = ?", (run, target))
        if not found:
            raise InputError(self._where(run=run, target=target), "has no row in the table targets", todo=TODO)
        return found[0]

    def results_of_target(self, target: str, limit: int = -1) -> list[TargetResult]:
        """The results of a target in its last `limit` runs (-1: all), oldest first."""
        return self._results("target = ?", (target,), limit)

    def states(self, target: str) -> list[State]:
        """The states of a target in every run, oldest first."""
        rows = self.rows(
            "run, target, started, state, scope", "FROM targets WHERE target = ? ORDER BY rowid", (target,)
        )
        return [
            State(row.whole("run", MOST_RUNS), row.text("started", TIMES, TIME), row.one_of("state", STATES),
                  row.one_of("scope", SCOPES))
            for row in rows
        ]  # fmt: skip

    def last_good(self, target: str) -> TargetResult | None:
        """The last run in which the whole target was checked and passed; None if there is none."""
        found = self._results("target = ? AND state = ? AND scope = ?", (target, PASSED, WHOLE), 1)
        return found[0] if found else None

    def best(self, target: str, metric: str, more_is_better: bool, since: str = "") -> list[Best]:
        """The best value of a metric, a field of StageRow, at every stage of every clip, over the target's good runs
        since `since`."""
        # SQLite takes the other columns from the row that has the maximum (https://sqlite.org/lang_select.html), and
        # reads the table on the left of CROSS JOIN first: few rows, each with its stages in one place
        query = f"""
            FROM targets CROSS JOIN stages USING (run, target)
            WHERE target = ? AND state = ? AND scope = ? AND started >= ? AND abs({metric}) < 1e999
            GROUP BY clip, stage
        """
        value = f"{'max' if more_is_better else 'min'}({metric}) AS {metric}"
        rows = self.rows(f"target, clip, stage, {value}, run, started", query, (target, PASSED, WHOLE, since))
        found = [
            (row.text("clip"), row.text("stage"), row.measured(metric), row.whole("run", MOST_RUNS),
             row.text("started", TIMES, TIME))
            for row in rows
        ]  # fmt: skip
        return [Best(clip, stage, value, run, at) for clip, stage, value, run, at in found if value is not None]

    def check(self, result: TargetResult) -> None:
        """Raise InputError for a result that could not be read back."""
        _result(
            self._where(run=result.run, target=result.target), _row(result), [asdict(stage) for stage in result.stages]
        )

    def _results(self, where: str, values: tuple[object, ...], limit: int = -1) -> list[TargetResult]:
        rows = self.rows(", ".join(COLUMNS), f"FROM targets WHERE {where} ORDER BY rowid DESC LIMIT {limit}", values)
        return [self._result(row) for row in reversed(rows)]

    def _result(self, row: Fields) -> TargetResult:
        run, target = row.values["run"], row.values["target"]
        query = "FROM stages WHERE run = ? AND target = ? ORDER BY rowid"
        stages = self.rows(", ".join(one.name for one in fields(StageRow)), query, (run, target))
        return _result(row.where, row.values, [stage.values for stage in stages])

    def _where(self, **which: object) -> str:
        """The file, run and target for a message."""
        return f"{self.path}: " + ", ".join(f"{name} {shown(value)}" for name, value in which.items())

    def rows(self, columns: str, query: str, values: Sequence[object] = ()) -> list[Fields]:
        """The rows of a query, as fields by column. Raises InputError if it fails."""
        names = [column.strip().rpartition(" ")[2] for column in columns.split(",")]
        found = [dict(zip(names, row, strict=True)) for row in self._select(f"SELECT {columns} {query}", values)]
        return [Fields(self._where(**{key: row[key] for key in ("run", "target") if key in row}), row) for row in found]

    def _select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._sqlite_errors():
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Record everything in the block, or nothing; within another transaction, as a part of it."""
        with self._sqlite_errors():
            if self.connection.in_transaction:
                yield
            else:
                with transaction(self.connection):
                    yield

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        with sqlite_errors(self.path, WHAT):
            yield


COLUMNS = (
    "run", "target", "started", "seconds", "state", "scope", "problems", "files", "versions", "report"
)  # fmt: skip


def _row(result: TargetResult) -> dict[str, Any]:
    """A result as a row of the table targets."""
    values = (
        result.run, result.target, result.started, result.seconds, result.state, result.scope,
        _rows_text(result.problems), _rows_text(result.files), json.dumps(dict(result.versions)), result.report,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(plain, values), strict=True))


def _rows_text(records: Sequence[Any]) -> str:
    return json.dumps([asdict(record) for record in records])


def _result(where: object, values: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> TargetResult:
    """The result of a row of targets and its rows of stages. Raises InputError for invalid values."""
    row = Fields(where, values)
    data = Fields(where, {name: _from_json(row, name) for name in ("problems", "files", "versions")})
    return TargetResult(
        row.whole("run", MOST_RUNS), row.text("target"), row.text("started", TIMES, TIME),
        row.number("seconds", LONGEST_SECONDS), row.one_of("state", STATES), row.one_of("scope", SCOPES),
        problems_of(data), file_rows(data), data.named_texts("versions"), row.text("report"),
        [_stage(Fields(where, stage)) for stage in stages],
    )  # fmt: skip


def file_rows(data: Fields) -> list[FileRow]:
    """The files in the field `files`. Raises InputError for anything else."""
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


def problems_of(data: Fields) -> list[Problem]:
    """The problems in the field `problems`; format 1 has their texts only. Raises InputError for anything else."""
    found = data.values.get("problems")
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return [Problem(text) for text in data.texts("problems")]
    rows = data.objects("problems")
    for row in rows:
        row.only([one.name for one in fields(Problem)])
    return [Problem(*(row.text(one.name) for one in fields(Problem))) for row in rows]


def _stage(row: Fields) -> StageRow:
    if row.values.get("passed") not in (0, 1):
        raise InputError(row.where, f"passed is {shown(row.values.get('passed'))}", expected="0 or 1")
    file, clip, stage, role, kind = map(row.text, ("file", "clip", "stage", "role", "kind"))
    cos_mean, cos_min, rel_rmse, agreement, kl_mean, error_rate = map(row.measured, METRIC_FIELDS)
    return StageRow(
        file, clip, stage, role, kind, cos_mean, cos_min, rel_rmse, agreement, kl_mean, error_rate,
        bool(row.values["passed"]),
    )  # fmt: skip


def _from_json(row: Fields, name: str) -> Any:
    text = row.text(name, expected="JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(row.where, f"{name} is {shown(text)}", expected="JSON") from error
