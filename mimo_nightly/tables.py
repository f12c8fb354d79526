"""SQL tables of a history: a row per run, per target in it, per stage of each file on a clip, per change of state."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from mimo_convert.files import check_regular
from quantize.errors import InputError

FORMAT = 3
SQLITE = b"SQLite format 3\0"  # how such a file begins
TODO = "give another file, or move this one away"

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
    run INTEGER NOT NULL, target TEXT NOT NULL, file TEXT NOT NULL, clip TEXT NOT NULL, stage TEXT NOT NULL,
    role TEXT NOT NULL, kind TEXT NOT NULL,
    cos_mean REAL, cos_min REAL, rel_rmse REAL, agreement REAL, kl_mean REAL, error_rate REAL, passed INTEGER NOT NULL,
    PRIMARY KEY (run, target, file, clip, stage),
    FOREIGN KEY (run, target) REFERENCES targets
)""",
    """CREATE TABLE notifications (
    run INTEGER NOT NULL, target TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
    tried TEXT NOT NULL, failure TEXT NOT NULL, sent TEXT NOT NULL,
    PRIMARY KEY (run, target),
    FOREIGN KEY (run, target) REFERENCES targets
)""",
)
RUNS, TARGETS, STAGES, NOTIFICATIONS = TABLES
MOST_RUNS = 1 << 53
TIMES = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?"
TIME = "a time such as 2026-11-21T03:00:00Z"
INDEX = "CREATE INDEX runs_of_targets ON targets (target)"  # from there, the primary key of stages leads on


def normalized_sql(text: str) -> str:
    """SQL with normalized whitespace, for comparison."""
    return " ".join(text.split())


def check_file(path: Path) -> None:
    """Raise InputError if `path` exists and is not a regular SQLite file."""
    with suppress(OSError):  # which is for who opens it to find
        check_regular(path, path.stat().st_mode, "a file with a history")
        with path.open("rb") as file:
            if file.read(len(SQLITE)) not in (b"", SQLITE):  # SQLite makes a database of a shorter one
                raise InputError(path, "cannot be used as a history: it is not a database", todo=TODO)


def plain(value: Any) -> Any:
    """A value for SQLite: bytes of file names that are not UTF-8 are escaped."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def places(n: int) -> str:
    """`n` SQL placeholders."""
    return ", ".join("?" * n)
