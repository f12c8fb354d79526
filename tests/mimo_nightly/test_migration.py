"""A history that an earlier version wrote becomes one of the current format: all of it, once, with a copy."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mimo_nightly import migration
from mimo_nightly.history import FAILED, HEADER, METRIC_FIELDS, PASSED, UNCHECKED, WHOLE, History, Problem
from mimo_nightly.notify.outbox import Outbox
from mimo_nightly.regression import METRICS
from mimo_nightly.show.page import as_html
from mimo_nightly.show.summary import as_markdown
from mimo_nightly.show.trends import as_text
from mimo_nightly.tables import FORMAT
from quantize.errors import InputError

# As mimo-check 0.6.0 made them.
TABLES_1 = """
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
PRAGMA user_version = 1;
"""
LM, TOKENIZER = "mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"
SHORT, LONG = "jfk.wav", "talk.flac"
RUNS = ((PASSED, WHOLE), (FAILED, WHOLE), (PASSED, WHOLE), (UNCHECKED, WHOLE), (PASSED, HEADER), (PASSED, WHOLE))
PROBLEMS = ["layer_00: cos_mean 0.612345 is below 0.979000 by 0.366655", "vocabulary: is another"]
ROLES_AND_KINDS = {
    "tok_mel": ("audio_tokenizer", "features"), "tok_pool": ("audio_tokenizer", "hidden"),
    "tok_codes": ("audio_tokenizer", "codes"), "prefill_audio_features": ("speech_lm", "features"),
    "layer_00": ("speech_lm", "layer"), "layer_35": ("speech_lm", "layer"),
    "prefill_last_hidden": ("speech_lm", "hidden"), "prefill_text_logits_step0": ("speech_lm", "logits"),
    "steps": ("speech_lm", "logits"), "cached": ("speech_lm", "logits"), "transcript": ("speech_lm", "text"),
}  # fmt: skip
Row = tuple[Any, ...]


def measured(run: int, target: str, sound: str) -> Iterator[Row]:
    """The rows of stages of one clip, as they were written: in each run a little else."""
    noise = 0.001 * (1 + (run * 7 + len(target) + len(sound)) % 5)
    cosines = (1 - noise, 1 - 4 * noise, noise**0.5, None, None, None)
    passed = int(RUNS[run - 1][0] == PASSED)
    for stage in ROLES_AND_KINDS:
        numbers: Row = {
            "tok_codes": (None, None, None, 0.8 - noise, None, None),
            "steps": (None, None, None, 26 / 27 - noise, 0.01 + noise, None),
            "cached": (None, None, 1e-6 + noise, None, None, None),
            "transcript": (None, None, None, None, None, noise),
        }.get(stage, cosines)
        file = TOKENIZER if stage.startswith("tok_") else LM
        yield (run, target, file, sound, stage, *numbers, passed if stage == "layer_00" else 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A history of format 1: six runs of two targets, of which one has two clips."""
    path = tmp_path / "history%20?#.sqlite"
    files = [{"name": name, "sha256": "ab" * 32, "size": 5, "revision": "", "etag": ""} for name in (LM, TOKENIZER)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TABLES_1)
        for run, (state, scope) in enumerate(RUNS, 1):
            started = f"2026-11-{run:02}T03:00:00Z"
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (run, started, started[:-1] + "Z", "c0" * 32))
            for target, sounds in (("asr", (SHORT,)), ("both", (SHORT, LONG))):
                problems = json.dumps([] if state == PASSED else PROBLEMS)
                row = (run, target, started, 1.5, state, scope, problems, json.dumps(files), '{"numpy": "2.4.6"}', "")
                connection.execute(f"INSERT INTO targets VALUES ({', '.join('?' * len(row))})", row)
                rows = [row for sound in sounds for row in measured(run, target, sound)]
                if state != UNCHECKED and scope == WHOLE:
                    connection.executemany(f"INSERT INTO stages VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return path


def copy_of(path: Path, version: int = 1) -> Path:
    return path.with_name(f"{path.name}.format-{version}")


def make_format_2(path: Path) -> None:
    """What mimo-check 0.7.0 would have made of it."""
    History(path).close()
    copy_of(path).unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE notifications; PRAGMA user_version = 2; VACUUM;")


def rows_of(path: Path, query: str) -> list[Row]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def best_of_format_1(path: Path, target: str, metric: str) -> set[Row]:
    """The best of every stage of every clip, by plain arithmetic."""
    best = max if METRICS[metric].more_is_better else min
    found: dict[tuple[str, str], list[Row]] = {}
    for clip, stage, value, run, started in rows_of(
        path,
        f"SELECT sound, stage, {metric}, run, started FROM stages JOIN targets USING (run, target) "
        f"WHERE target = '{target}' AND state = 'passed' AND scope = 'whole' AND {metric} IS NOT NULL ORDER BY run",
    ):
        found.setdefault((clip, stage), []).append((clip, stage, value, run, started))
    return {best(rows, key=lambda row: float(row[2])) for rows in found.values()}


def test_the_best_values_stay_what_they_were(path: Path) -> None:
    before = {
        (target, metric): best_of_format_1(path, target, metric)
        for target in ("asr", "both")
        for metric in METRIC_FIELDS
    }
    with closing(History(path)) as history:
        for (target, metric), expected in before.items():
            found = history.best(target, metric, METRICS[metric].more_is_better)
            assert {(one.clip, one.stage, one.value, one.run, one.started) for one in found} == expected
            assert expected


def test_every_row_is_kept_in_its_order_with_a_role_and_a_kind(path: Path) -> None:
    columns = f"stage, {', '.join(METRIC_FIELDS)}, passed"
    before = rows_of(path, f"SELECT run, target, file, sound, {columns} FROM stages ORDER BY rowid")
    others = [rows_of(path, f"SELECT * FROM {table} ORDER BY rowid") for table in ("runs", "targets")]
    History(path).close()
    assert rows_of(path, f"SELECT run, target, file, clip, {columns} FROM stages ORDER BY rowid") == before
    assert [rows_of(path, f"SELECT * FROM {table} ORDER BY rowid") for table in ("runs", "targets")] == others
    assert rows_of(path, "PRAGMA user_version") == [(FORMAT,)]
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
    found = rows_of(path, "SELECT DISTINCT stage, role, kind FROM stages")
    assert {stage: (role, kind) for stage, role, kind in found} == ROLES_AND_KINDS
    with closing(History(path)) as history:
        [asr, _] = history.of_run(1)
        assert [(row.stage, row.role, row.kind) for row in asr.stages] == [
            (stage, *subject) for stage, subject in ROLES_AND_KINDS.items()
        ]


def test_problems_are_read_as_they_were(path: Path) -> None:
    with closing(History(path)) as history:
        results = history.results_of_target("asr")
    assert [list(result.problems) for result in results[:2]] == [[], [Problem(text) for text in PROBLEMS]]


def test_a_copy_as_it_was_lies_beside_and_is_a_history_itself(path: Path) -> None:
    before = list(sqlite3.connect(path).iterdump())
    History(path).close()
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, copy_of(path).name]
    assert list(sqlite3.connect(copy_of(path)).iterdump()) == before
    assert rows_of(copy_of(path), "PRAGMA user_version") == [(1,)]
    with closing(History(copy_of(path))) as again:
        assert again.targets() == ["asr", "both"]


def test_a_second_time_nothing_is_done(path: Path) -> None:
    History(path).close()
    copy_of(path).unlink()
    before = path.read_bytes()
    History(path).close()
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_is_shown_and_recorded_goes_on(path: Path) -> None:
    with closing(History(path)) as history:
        shown = as_html(history, ["asr", "both"]) + as_text(history) + as_text(history, "both")
        shown += as_markdown(history.of_run(2), history)
        run = history.begin("2026-11-08T03:00:00Z", "")
        history.record(history.of_run(1)[0].__class__(run, "asr", "2026-11-08T03:00:00Z", 1.0, PASSED))
        assert [one.run for one in history.results_of_target("asr")] == [1, 2, 3, 4, 5, 6, 7]
    for text in ("is another", "tok_codes", "layer_35", "worst of 2 layers"):
        assert text in shown, text


def test_an_empty_history_is_changed_too(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES_1)
    with closing(History(path)) as history:
        assert history.targets() == []
        history.begin("", "")
    with closing(History(path)) as history:
        assert len(history.runs()) == 1


def test_format_2_gets_a_table_and_keeps_every_row(path: Path) -> None:
    make_format_2(path)
    before, tables = path.read_bytes(), ("runs", "targets", "stages")
    rows = [rows_of(path, f"SELECT * FROM {table} ORDER BY rowid") for table in tables]
    with closing(History(path)) as history:
        assert Outbox(history).pending() == []
    assert [rows_of(path, f"SELECT * FROM {table} ORDER BY rowid") for table in tables] == rows
    assert rows_of(path, "PRAGMA user_version") == [(FORMAT,)]
    assert rows_of(copy_of(path, 2), "PRAGMA user_version") == [(2,)]
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, copy_of(path, 2).name]
    path.write_bytes(before)
    copy_of(path, 2).unlink()
    path.chmod(0o400)
    with closing(History(path, read_only=True)) as history:
        assert Outbox(history).pending() == []
    assert path.read_bytes() == before


def test_what_only_reads_a_history_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with closing(History(path, read_only=True)) as history:
        assert [one.run for one in history.results_of_target("asr")] == [1, 2, 3, 4, 5, 6]
        history.begin("2026-11-08T03:00:00Z", "")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_migration_that_fails_leaves_the_history_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is made as if it had not been."""
    before = path.read_bytes()

    def fail(stage: str) -> Any:
        if stage == "steps":
            raise KeyboardInterrupt
        return subject_of(stage)

    with monkeypatch.context() as patched:
        subject_of = migration.subject_of_earlier
        patched.setattr(migration, "subject_of_earlier", fail)
        with pytest.raises((InputError, KeyboardInterrupt)):
            History(path)
    assert path.read_bytes() == before
    assert not copy_of(path).exists()
    History(path).close()
    assert rows_of(path, "PRAGMA user_version") == [(FORMAT,)]
    assert rows_of(copy_of(path), "PRAGMA user_version") == [(1,)]


KILLED = """
import os, signal, sys
from pathlib import Path
from mimo_nightly import migration
from mimo_nightly.history import History
subject_of = migration.subject_of_earlier
def kill(stage):
    if stage == "transcript":
        os.kill(os.getpid(), signal.SIGKILL)
    return subject_of(stage)
migration.subject_of_earlier = kill
History(Path(sys.argv[1]))
"""


def test_a_migration_that_is_killed_is_made_again(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    assert not copy_of(path).exists()
    test_every_row_is_kept_in_its_order_with_a_role_and_a_kind(path)
    assert rows_of(copy_of(path), "PRAGMA user_version") == [(1,)]
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, copy_of(path).name]


def check_one_line(path: Path, says: str) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        History(path)
    said = str(error.value)
    assert re.search(says, said), said
    assert "\n" not in said
    assert str(path) in said
    assert path.read_bytes() == before


def test_a_history_that_may_only_be_read_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def read_only(file: Any, **options: Any) -> sqlite3.Connection:
        where = f"{path.as_uri()}?mode=ro" if file == path else file
        return connect(where, **options | {"uri": True})

    monkeypatch.setattr("sqlite3.connect", read_only)
    check_one_line(
        path,
        r"is a history of format 1, and cannot be made one of format 3: attempt to write a readonly database; "
        r"give it to a user who may write it",
    )
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_copy_that_is_there_already_is_not_lost(path: Path) -> None:
    copy_of(path).write_text("mine")
    check_one_line(path, r"\.format-1: is in the way of a copy of the history; move it away")
    assert copy_of(path).read_text() == "mine"


def test_where_there_is_no_place_for_the_copy_nothing_is_changed(path: Path) -> None:
    part = path.with_name(f"{path.name}.format-1.part")
    part.mkdir()
    check_one_line(path, r"\.format-1: the copy of the history cannot be written: ")
    os.rmdir(part)
    History(path).close()


def test_one_that_somebody_uses_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *file, **options: connect(*file, **options | {"timeout": 0.1}))
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        check_one_line(path, "cannot be used as a history: database is locked")


def test_two_that_open_it_at_once_change_it_once(path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from pathlib import Path; from mimo_nightly.history import History; "
               "print(len(History(Path(sys.argv[1])).runs()))", str(path)]  # fmt: skip
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0] for process in both] == ["6\n", "6\n"]
    assert rows_of(path, "PRAGMA user_version") == [(FORMAT,)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE stages SET stage = x'00' WHERE stage = 'steps'",
        "ALTER TABLE stages ADD COLUMN more",
        "DROP TABLE stages",
    ],
)
def test_what_is_not_as_a_history_should_be_is_not_changed(path: Path, damage: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    check_one_line(path, "cannot be used as a history|is a history of format 1|of another kind")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
