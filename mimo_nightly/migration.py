"""Prepare the tables of a history: create them, check them, and migrate those of earlier formats, after a copy.

Format 1, of versions before 0.7: stages have no role and no kind. Format 2, of 0.7: there are no notifications. Best
values are kept.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from mimo_convert.sqlite_file import TODO, distrust, names_in, normalized, schema_of, transaction, version_of
from mimo_families.registry import subject_of_earlier
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

from .tables import FORMAT, INDEX, NOTIFICATIONS, RUNS, STAGES, TABLES, TARGETS

STAGES_1 = """CREATE TABLE stages (
    run INTEGER NOT NULL, target TEXT NOT NULL, file TEXT NOT NULL, sound TEXT NOT NULL, stage TEXT NOT NULL,
    cos_mean REAL, cos_min REAL, rel_rmse REAL, agreement REAL, kl_mean REAL, error_rate REAL, passed INTEGER NOT NULL,
    PRIMARY KEY (run, target, file, sound, stage),
    FOREIGN KEY (run, target) REFERENCES targets
)"""
EARLIER = {1: (RUNS, TARGETS, STAGES_1), 2: (RUNS, TARGETS, STAGES)}  # format → its tables
METRICS = "cos_mean, cos_min, rel_rmse, agreement, kl_mean, error_rate, passed"


def prepare(path: Path, connection: sqlite3.Connection, *, with_copy: bool) -> None:
    """Create the tables of a new history, or migrate an earlier format, after a copy of the file if `with_copy`.

    Raises InputError for another database.
    """
    distrust(connection)
    version, tables = version_of(connection), schema_of(connection)
    if version in EARLIER and tables == normalized(EARLIER[version]):
        migrate(path, connection, with_copy=with_copy)
        version, tables = version_of(connection), schema_of(connection)
    if version not in (0, FORMAT, *EARLIER):
        raise InputError(path, f"is a history of format {version}", expected=f"{FORMAT}", todo="use a newer mimo-check")
    if not tables and not version:  # else nothing is written: it may be somebody else's, to be read
        with transaction(connection):
            if not schema_of(connection):  # nor has another process made them meanwhile
                for statement in (*TABLES, INDEX, f"PRAGMA user_version = {FORMAT}"):
                    connection.execute(statement)
    elif tables != normalized(TABLES):
        raise InputError(
            path, f"is a database of another kind, with {quoted(names_in(connection)) or 'no tables'}",
            expected="the tables runs, targets, stages and notifications of a history", todo=TODO,
        )  # fmt: skip


# ── migration ────────────────────────────────────────────────────────────────────────────────────────────────────


def migrate(path: Path, connection: sqlite3.Connection, *, with_copy: bool) -> None:
    """Migrate the history at `path` in one transaction. Raises InputError if it cannot be written, or a copy cannot be
    made."""
    with transaction(connection):
        found = version_of(connection)
        if found < FORMAT:  # else another process was faster
            copy = path.with_name(f"{path.name}.format-{found}")
            _begin_to_write(path, connection, found)
            with _copied(path, copy, copy.with_name(f"{copy.name}.part")) if with_copy else nullcontext():
                for version in range(found, FORMAT):
                    STEPS[version](connection)


def _begin_to_write(path: Path, connection: sqlite3.Connection, found: int) -> None:
    """Write the new format number first, which fails at once if the history is read-only."""
    try:
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    except sqlite3.OperationalError as error:
        what = f"is a history of format {found}, and cannot be made one of format {FORMAT}: {error}"
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
        with closing(sqlite3.connect(part)) as kept:
            copy_database(path, kept)
        yield
        part.replace(copy)
    except OSError as error:
        raise InputError(copy, f"the copy of the history cannot be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def copy_database(path: Path, to: sqlite3.Connection) -> None:
    """Copy the database in the file `path`, which is only read."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source:
        source.backup(to)


def _add_roles_and_kinds(connection: sqlite3.Connection) -> None:
    """From format 1 to 2."""
    connection.create_function("role_of", 1, lambda stage: subject_of_earlier(stage).role, deterministic=True)
    connection.create_function("kind_of", 1, lambda stage: subject_of_earlier(stage).kind, deterministic=True)
    connection.execute("ALTER TABLE stages RENAME TO stages_1")
    connection.execute(STAGES)
    connection.execute(f"""
        INSERT INTO stages (run, target, file, clip, stage, role, kind, {METRICS})
        SELECT run, target, file, sound, stage, role_of(stage), kind_of(stage), {METRICS} FROM stages_1 ORDER BY rowid
    """)
    connection.execute("DROP TABLE stages_1")
    connection.execute(INDEX)


def _add_notifications(connection: sqlite3.Connection) -> None:
    """From format 2 to 3."""
    connection.execute(NOTIFICATIONS)


STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _add_roles_and_kinds, 2: _add_notifications}
