"""Migrate a history of format 1, of versions before 0.7, to format 2: stages get a role and a kind.

Best values are kept. A copy of the file is made first.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from mimo_families.registry import subject_of_earlier
from quantize.errors import InputError, reason_of

from .tables import FORMAT, INDEX, TABLES

FORMAT_1 = 1
TABLES_1 = (
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
METRICS = "cos_mean, cos_min, rel_rmse, agreement, kl_mean, error_rate, passed"


def migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Migrate the history at `path` in one transaction. Raises InputError if it cannot be written, or a copy cannot be
    made."""
    copy = path.with_name(f"{path.name}.format-{FORMAT_1}")
    part = copy.with_name(f"{copy.name}.part")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT_1:  # else another process was faster
            _begin_to_write(path, connection)
            with _copied(path, copy, part):
                _change(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _begin_to_write(path: Path, connection: sqlite3.Connection) -> None:
    """Write the new format number first, which fails at once if the history is read-only."""
    try:
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    except sqlite3.OperationalError as error:
        what = f"is a history of format {FORMAT_1}, and cannot be made one of format {FORMAT}: {error}"
        raise InputError(path, what, todo="give it to a user who may write it") from error


@contextmanager
def _copied(path: Path, copy: Path, part: Path) -> Iterator[None]:
    """Copy the history to `part`, renamed to `copy` after the block; nothing is left if anything fails.

    Raises InputError if the copy cannot be made, or exists.
    """
    if copy.exists():
        raise InputError(copy, "is in the way of a copy of the history", todo="move it away")
    try:
        part.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as now,
            closing(sqlite3.connect(part)) as kept,
        ):
            now.backup(kept)
        yield
        part.replace(copy)
    except OSError as error:
        raise InputError(copy, f"the copy of the history cannot be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _change(connection: sqlite3.Connection) -> None:
    connection.create_function("role_of", 1, lambda stage: subject_of_earlier(stage).role, deterministic=True)
    connection.create_function("kind_of", 1, lambda stage: subject_of_earlier(stage).kind, deterministic=True)
    connection.execute("ALTER TABLE stages RENAME TO stages_1")
    connection.execute(TABLES[-1])
    connection.execute(f"""
        INSERT INTO stages (run, target, file, clip, stage, role, kind, {METRICS})
        SELECT run, target, file, sound, stage, role_of(stage), kind_of(stage), {METRICS} FROM stages_1 ORDER BY rowid
    """)
    connection.execute("DROP TABLE stages_1")
    connection.execute(INDEX)
