"""The history keeps what it is given, and no half of a target."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_nightly.history import (
    FAILED,
    HEADER,
    METRIC_FIELDS,
    PASSED,
    WHOLE,
    FileRow,
    History,
    Problem,
    StageRow,
    TargetResult,
)
from mimo_nightly.notify.outbox import Change, Outbox
from mimo_nightly.regression import METRICS
from mimo_nightly.show.page import as_html
from mimo_nightly.show.state import as_json
from mimo_nightly.show.summary import as_markdown
from mimo_nightly.show.trends import as_text
from quantize.errors import InputError

STAGES = (
    StageRow("lm.gguf", "jfk.wav", "layer_00", "speech_lm", "layer", 0.99, 0.95, 0.05),
    StageRow("lm.gguf", "jfk.wav", "transcript", "speech_lm", "text", error_rate=0.25, passed=False),
)


def result(run: int, state: str = PASSED, target: str = "asr", scope: str = "whole") -> TargetResult:
    files = [FileRow("lm.gguf", "ab" * 32, 5, "c0ffee", '"etag"')]
    problems = [] if state == PASSED else [Problem("layer_00: below its gate", "jfk.wav", "layer_00"), Problem("cut")]
    return TargetResult(
        run,
        target,
        "2026-11-21T03:00:00Z",
        1.5,
        state,
        scope,
        problems,
        files,
        {"numpy": "2.4.6"},
        "runs/1/asr.html",
        STAGES,
    )


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    run = history.begin("2026-11-21T03:00:00Z", "ff" * 32)
    history.record(result(run))
    history.finish(run, "2026-11-21T03:10:00Z")
    history.close()
    again = History(tmp_path / "history.sqlite")
    [found] = again.of_run(run)
    expected = result(run)
    assert found == TargetResult(**{**vars(expected), "stages": list(STAGES)})
    assert [(r.run, r.finished) for r in again.runs()] == [(run, "2026-11-21T03:10:00Z")]


def test_the_last_good_run_is_one_that_passed_as_a_whole(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    for state, scope in ((PASSED, "whole"), (PASSED, "whole"), (PASSED, HEADER), (FAILED, "whole")):
        run = history.begin("", "")
        history.record(result(run, state, scope=scope))
    found = history.last_good("asr")
    assert found is not None
    assert found.run == 2
    assert history.last_good("other") is None
    assert [r.run for r in history.results_of_target("asr", 3)] == [2, 3, 4]


@pytest.mark.parametrize("metric", METRIC_FIELDS)
def test_the_best_of_good_runs_is_found_run_by_run_without_reading_those_of_other_targets(
    tmp_path: Path, metric: str
) -> None:
    history = History(tmp_path / "history.sqlite")
    queries: list[str] = []
    history.connection.set_trace_callback(queries.append)
    history.best("asr", metric, True)
    history.connection.set_trace_callback(None)
    plan = [row[3] for row in history.connection.execute(f"EXPLAIN QUERY PLAN {queries[-1]}")]
    assert plan[0] == "SEARCH targets USING INDEX runs_of_targets (target=?)"
    assert plan[1] == "SEARCH stages USING INDEX sqlite_autoindex_stages_1 (run=? AND target=?)"


def test_the_best_is_that_of_good_whole_runs_since_a_time_and_the_first_of_equal_ones(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    nothing = float("nan")
    for value, state, scope in (
        (0.9, PASSED, WHOLE), (0.8, PASSED, WHOLE), (0.9, PASSED, WHOLE), (0.99, FAILED, WHOLE), (0.98, PASSED, HEADER),
        (0.7, PASSED, WHOLE), (nothing, PASSED, WHOLE),
    ):  # fmt: skip
        run = history.begin("", "")
        stages = [replace(STAGES[0], cos_mean=value)]
        history.record(replace(result(run, state, scope=scope), started=f"2026-11-{run:02}T03:00:00Z", stages=stages))
        history.record(replace(result(run, target="other"), stages=[replace(STAGES[0], cos_mean=1.0)]))

    def best(more_is_better: bool, since: str = "") -> list[tuple[str, str, float, int, str]]:
        found = history.best("asr", "cos_mean", more_is_better, since)
        return [(one.clip, one.stage, one.value, one.run, one.started[8:10]) for one in found]

    assert best(True) == [("jfk.wav", "layer_00", 0.9, 1, "01")]
    assert best(False) == [("jfk.wav", "layer_00", 0.7, 6, "06")]
    assert best(True, "2026-11-02") == [("jfk.wav", "layer_00", 0.9, 3, "03")]
    assert best(True, "2026-11-07") == []


def test_half_of_a_target_is_not_kept(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    run = history.begin("", "")
    twice = TargetResult(**{**vars(result(run)), "stages": (STAGES[0], STAGES[0])})
    with pytest.raises(InputError, match="cannot be used as a history"):
        history.record(twice)
    assert history.of_run(run) == []
    history.record(result(run))
    assert history.targets() == ["asr"]


def test_it_can_be_read_while_another_writes(tmp_path: Path) -> None:
    """Reading changes nothing: whoever may only read it can."""
    writer = History(tmp_path / "history.sqlite")
    writer.record(result(writer.begin("", "")))
    writer.connection.execute("BEGIN IMMEDIATE")
    assert History(tmp_path / "history.sqlite").targets() == ["asr"]


def test_another_file_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("These are notes. " * 100)
    with pytest.raises(InputError, match="cannot be used as a history"):
        History(path)
    assert path.read_text().startswith("These are notes.")


# ── what others wrote ────────────────────────────────────────────────────────────────────────────────────────────


@cache
def recording() -> bytes:
    """A history of two runs of a target, of which nobody could be told."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        with closing(History(path)) as history:
            for state in (PASSED, FAILED):
                run = history.begin("2026-11-21T03:00:00Z", "ff" * 32)
                history.record(result(run, state))
                history.finish(run, "2026-11-21T03:10:00Z")
            outbox, change = Outbox(history), Change(2, "asr", "PASS", "FAIL")
            outbox.add(change)
            outbox.set_failed([change], "2026-11-21T03:11:00Z", "hooks.example.org: HTTP 404 Not Found")
        return path.read_bytes()


def recorded(folder: Path) -> Path:
    """A copy of `recording()`."""
    path = folder / "history.sqlite"
    path.write_bytes(recording())
    return path


def change(path: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement, values)


def look(path: Path) -> str:
    """All that is made of a history."""
    with closing(History(path)) as history:
        page = as_html(history, ["asr", "new"]) + as_text(history) + as_json(history, ["asr"], runs=True)
        page += "".join(as_text(history, target) for target in history.targets())
        for name, metric in METRICS.items():
            history.best("asr", name, metric.more_is_better)
        page.encode()
        return page + as_markdown(history.of_run(2), history)


@pytest.mark.parametrize(
    ("change_of", "says"),
    [
        ("UPDATE targets SET problems = ''", "target 'asr': problems is ''; expected JSON"),
        ("UPDATE targets SET problems = '[1]'", "problems 1 is 1; expected named fields"),
        ("UPDATE targets SET problems = '[{}]'", "text"),
        ("UPDATE targets SET problems = '[\"a\", 1]'", "problems 1 is 'a'; expected named fields"),
        ("UPDATE stages SET kind = x'00'", "kind is b'\\x00'; expected text"),
        ("UPDATE targets SET problems = x'ff'", "problems is b'\\xff'; expected JSON"),
        ("UPDATE targets SET files = '[7]'", "files 1 is 7; expected named fields"),
        ("UPDATE targets SET files = '{}'", "files is {}; expected a list"),
        ("UPDATE targets SET versions = '[]'", "versions is []; expected a text for each name"),
        ("UPDATE targets SET state = 'fine'", "state is 'fine'; expected passed or failed or unchecked"),
        ("UPDATE targets SET scope = ''", "scope is ''; expected whole or header"),
        ("UPDATE targets SET seconds = 9e999", "seconds is inf; expected a number from 0 to 1e+09"),
        ("UPDATE targets SET started = 'yesterday'", "started is 'yesterday'; expected a time such as"),
        ("UPDATE runs SET finished = x'00'", "finished is b'\\x00'; expected a time such as"),
        ("UPDATE stages SET cos_mean = 'high'", "cos_mean is 'high'; expected a number, or nothing"),
        ("UPDATE stages SET passed = 7", "passed is 7; expected 0 or 1"),
        ("UPDATE stages SET stage = x'00' WHERE stage = 'transcript'", "stage is b'\\x00'; expected text"),
        ("DELETE FROM runs", "target 'asr': the run is not in the table runs; expected a row for it"),
        ("DROP TABLE stages", "is a database of another kind"),
        ("DROP TABLE notifications", "is a database of another kind"),
        ("ALTER TABLE stages ADD COLUMN more", "is a database of another kind"),
        ("CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END", "is a database of another kind"),
        ("UPDATE notifications SET after = 'fine'", "after is 'fine'; expected PASS or FAIL or NOT CHECKED or HEADER"),
        ("UPDATE notifications SET tried = 'lately'", "tried is 'lately'; expected a time such as"),
        ("UPDATE notifications SET failure = x'00'", "failure is b'\\x00'; expected text"),
        ("PRAGMA user_version = 4", "is a history of format 4; expected 3"),
    ],
)  # fmt: skip
def test_a_row_that_is_none_is_one_line(tmp_path: Path, change_of: str, says: str) -> None:
    path = recorded(tmp_path)
    change(path, change_of)
    with pytest.raises(InputError, match=re.escape(says)) as error:
        look(path)
    assert str(error.value).startswith(str(path))


COLUMNS = [(table, column) for table, columns in {
    "runs": ("started", "finished", "config_sha256"),
    "targets": ("run", "target", "started", "seconds", "state", "scope", "problems", "files", "versions", "report"),
    "stages": ("run", "target", "file", "clip", "stage", "role", "kind", *METRIC_FIELDS, "passed"),
    "notifications": ("run", "target", "before", "after", "tried", "failure", "sent"),
}.items() for column in columns]  # fmt: skip
WHATEVER = (
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=5)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(["[]", "{}", "[[[[", '["\\ud800"]', '{"a": "b"}', "1e999", "NaN", '[{"name": "x"}]'])
)  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from(COLUMNS), WHATEVER)
def test_any_value_in_any_column_is_shown_or_one_line(place: tuple[str, str], value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = recorded(Path(folder))
        with suppress(sqlite3.IntegrityError):  # which SQLite does not take there itself
            change(path, f"UPDATE {place[0]} SET {place[1]} = ?", values=(value,))
        try:
            look(path)
        except InputError as error:
            said = str(error)
            assert said.startswith(str(path)), said


def test_numbers_without_end_are_none(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    change(path, "UPDATE stages SET cos_mean = 9e999, cos_min = -9e999, rel_rmse = 9e999, error_rate = 9e999")
    assert "inf" not in look(path).replace("info", "")
    with closing(History(path)) as history:
        assert history.best("asr", "cos_mean", True) == []


@pytest.mark.parametrize("made", ["CREATE TABLE notes (text)", "CREATE TABLE runs (x)", "CREATE VIEW runs AS SELECT 1"])
def test_another_programs_database_is_not_given_our_tables(tmp_path: Path, made: str) -> None:
    path = tmp_path / "notes.sqlite"
    change(path, made)
    before = path.read_bytes()
    with pytest.raises(InputError, match="is a database of another kind"):
        History(path)
    assert path.read_bytes() == before


def test_a_history_that_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a character device"),
    ):
        with pytest.raises(InputError, match=f"{path}: is {what}; expected a file with a history"):
            History(path)


@pytest.mark.parametrize("length", [1, 20, 4096, 5000])
def test_a_history_that_is_cut_short_is_one_line(tmp_path: Path, length: int) -> None:
    path = recorded(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="cannot be used as a history"):
        look(path)


def test_a_clip_whose_name_is_not_utf8_is_recorded(tmp_path: Path) -> None:
    with closing(History(tmp_path / "h")) as history:
        run = history.begin("", "")
        history.record(replace(result(run), stages=[StageRow("lm.gguf", "a\udcff.wav", "layer_00", "", "", 0.5)]))
        assert history.of_run(run)[0].stages[0].clip == "a\\udcff.wav"
