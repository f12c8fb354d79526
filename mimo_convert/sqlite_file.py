"""Files of SQLite: what is one, whose it is by its tables, transactions, and its errors as those of the file."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from quantize.errors import InputError

from .files import check_regular

SQLITE = b"SQLite format 3\0"  # how such a file begins
TODO = "give another file, or move this one away"
LIMIT_LENGTH = 0  # SQLITE_LIMIT_LENGTH (https://sqlite.org/c3ref/c_limit_attached.html)
MOST_BYTES = 1 << 26  # of one value


def check_file(path: Path, what: str) -> None:
    """Raise InputError if `path`, which is to be `what`, exists and is not a regular SQLite file."""
    with suppress(OSError):  # which is for who opens it to find
        check_regular(path, path.stat().st_mode, f"a file with {what}")
        with path.open("rb") as file:
            if file.read(len(SQLITE)) not in (b"", SQLITE):  # SQLite makes a database of a shorter one
                raise InputError(path, f"cannot be used as {what}: it is not a database", todo=TODO)


@contextmanager
def sqlite_errors(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's errors of the block into an InputError about the file, which is to be `what`."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(error)
        says = "cannot be written" if full else f"cannot be used as {what}"
        raise InputError(path, f"{says}: {error}", todo="make room" if full else TODO) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Execute the block in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def distrust(connection: sqlite3.Connection) -> None:
    """Let nothing in the file call functions, nor a value be larger than MOST_BYTES."""
    if hasattr(connection, "setlimit"):  # from Python 3.11
        connection.setlimit(LIMIT_LENGTH, MOST_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")


def version_of(connection: sqlite3.Connection) -> int:
    """The format that the database says it has; 0 if none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def schema_of(connection: sqlite3.Connection) -> set[str]:
    """The SQL of the tables, and of anything else except indexes and SQLite's own tables."""
    rows = connection.execute("SELECT name, type, sql FROM sqlite_master").fetchall()
    return {_one_line(str(sql)) for name, kind, sql in rows if kind != "index" and not str(name).startswith("sqlite_")}


def normalized(tables: Iterable[str]) -> set[str]:
    """The SQL of tables, for comparison with a schema."""
    return set(map(_one_line, tables))


def names_in(connection: sqlite3.Connection) -> str:
    """The names of everything in the database, for a message; empty if there is nothing."""
    names = ", ".join(sorted(name for [name] in connection.execute("SELECT name FROM sqlite_master")))
    return ascii(names)[1:-1]


def plain(value: Any) -> Any:
    """A value for SQLite: bytes of file names that are not UTF-8 are escaped."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def places(n: int) -> str:
    """`n` SQL placeholders."""
    return ", ".join("?" * n)


def _one_line(sql: str) -> str:
    """SQL with normalized whitespace."""
    return " ".join(sql.split())
