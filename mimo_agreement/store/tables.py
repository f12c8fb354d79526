"""SQL tables of a store: a row an answered pair, and a row for what a companion has heard of a clip in a condition."""

import sqlite3
from dataclasses import fields
from pathlib import Path

from mimo_agreement.records import Answer, Pair
from mimo_convert.sqlite_file import TODO, distrust, names_in, normalized, schema_of, transaction, version_of
from quantize.errors import InputError
from quantize.quoting import quoted

FORMAT = 1
WHAT = "a store of answers"

PAIR = tuple(one.name for one in fields(Pair))
ANSWER = tuple(one.name for one in fields(Answer))
HEARING = ("companion", "clip", "condition", "seed", "settings", "version")  # what shared stages depend on
TABLES = (
    """CREATE TABLE answers (
    lm TEXT NOT NULL, companion TEXT NOT NULL, clip TEXT NOT NULL, condition TEXT NOT NULL, seed INTEGER NOT NULL,
    settings TEXT NOT NULL, version TEXT NOT NULL,
    transcript TEXT NOT NULL, tokens INTEGER NOT NULL, ended INTEGER NOT NULL, loop TEXT NOT NULL,
    seconds REAL NOT NULL, timings TEXT NOT NULL, memory TEXT NOT NULL, kl REAL, kl_tokens INTEGER NOT NULL,
    PRIMARY KEY (lm, companion, clip, condition, seed, settings, version)
)""",
    """CREATE TABLE heard (
    companion TEXT NOT NULL, clip TEXT NOT NULL, condition TEXT NOT NULL, seed INTEGER NOT NULL,
    settings TEXT NOT NULL, version TEXT NOT NULL,
    stages BLOB NOT NULL, timings TEXT NOT NULL, memory TEXT NOT NULL,
    PRIMARY KEY (companion, clip, condition, seed, settings, version)
)""",
)


def prepare(path: Path, connection: sqlite3.Connection) -> None:
    """Create the tables of a new store. Raises InputError for another database, and for a store of another format."""
    distrust(connection)
    version, tables = version_of(connection), schema_of(connection)
    if version not in (0, FORMAT):
        raise InputError(path, f"is {WHAT} of format {version}", expected=f"{FORMAT}", todo="use a newer mimo-check")
    if not tables and not version:
        with transaction(connection):
            for statement in (*TABLES, f"PRAGMA user_version = {FORMAT}"):
                connection.execute(statement)
    elif tables != normalized(TABLES):
        raise InputError(
            path, f"is a database of another kind, with {quoted(names_in(connection)) or 'no tables'}",
            expected=f"the tables answers and heard of {WHAT}", todo=TODO,
        )  # fmt: skip
