"""The message: verdict first, what changed and why, no transcript unless asked for, and never too large."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_nightly.config import Config, Notify, read_config
from mimo_nightly.history import FAILED, UNCHECKED, History, Problem, TargetResult
from mimo_nightly.notify import message
from mimo_nightly.notify.message import LONGEST, MOST_BYTES, fitted, message_of
from mimo_nightly.notify.outbox import Change
from mimo_nightly.notify.webhook import Webhook
from mimo_nightly.process import LAST_LINE
from mimo_nightly.show.figures import printable_line
from runtime_check.report.json_report import json_text
from tests import reports
from tests.mimo_nightly import made_up
from tests.mimo_nightly.nightly_runs import toml

NOTIFY = Notify(("true",), "", transcripts=False)
HEARD = "and so my fellow Americans"


def size(text: str) -> int:
    return len(text.encode())


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with closing(made_up.history(tmp_path_factory.mktemp("history"))) as found:
        yield found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "nightly.toml"
    targets = [toml({"name": name, "file": "a.gguf", "reference": "r"}) for name in made_up.NAMES]
    path.write_text("".join(targets))
    return replace(read_config(path), notify=NOTIFY)


def test_it_says_what_changed_and_why(history: History, config: Config) -> None:
    changes = [
        Change(made_up.FELL, made_up.FALLEN, "PASS", "FAIL"),
        Change(made_up.RUNS, made_up.AWAY, "", "NOT CHECKED"),
    ]
    lines = message_of(changes, history, config, size).splitlines()
    assert lines[:3] == [
        "✗ FAIL: 1 of 5 targets failed, 1 could not be checked, 1 never ran, 1 passed by the header alone",
        f"mimo-check nightly {config.path}, run 40, begun 2026-11-20 03:00 UTC",
        f"Page: {config.pages / 'index.html'}",
    ]
    assert lines[3:5] == ["", "audio-instruct: NOT CHECKED"]
    assert lines[5].startswith("  example/audio: the server does not answer")
    fallen = lines[lines.index("hub-asr-q8_0: PASS → FAIL (run 33, 2026-11-13 03:09 UTC)") + 1 :]
    assert fallen[:5] == [f"  {problem.text}" for problem in made_up.PROBLEMS[:5]]
    assert fallen[5:] == [
        f"  … and {len(made_up.PROBLEMS) - 5} more",
        "  word error rate 36.4%, lowest cosine −0.200000, KL divergence 2.500000",
        "  changed: mimo-asr-q8_0.gguf: sha256 4b8f03c2d9e4… → 5b8f03c2d9e4…; revision 4d0e5fab174d… → 5d0e5fab175d…",
    ]


# ── transcripts ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[History]:
    """A run in which words are in the problems."""
    with closing(History(tmp_path / "history.sqlite")) as history:
        run = history.begin("2026-11-21T03:00:00Z", "")
        spelled = Problem(f"transcript: the reference's response spells '{HEARD}', expected ''", "a.wav", "transcript")
        ended = Problem(f"stopped at its timeout, after 2 s{LAST_LINE}transcript  {HEARD}")
        good, fallen = made_up.NAMES[:2]
        for target, state, problem in ((good, FAILED, spelled), (fallen, UNCHECKED, ended)):
            history.record(TargetResult(run, target, "2026-11-21T03:00:00Z", 1.0, state, problems=[problem]))
        yield history


def test_there_is_no_transcript_in_it_unless_asked_for(heard: History, config: Config) -> None:
    changes = [Change(1, made_up.NAMES[0], "", "FAIL"), Change(1, made_up.NAMES[1], "", "NOT CHECKED")]
    text = message_of(changes, heard, config, size)
    assert HEARD not in text
    assert "transcript of a.wav: not as expected; its words are in the report" in text
    assert "stopped at its timeout, after 2 s\n" in f"{text}\n"
    asked = message_of(changes, heard, replace(config, notify=replace(NOTIFY, transcripts=True)), size)
    assert asked.count(HEARD) == 2


def test_what_was_heard_is_in_it_if_asked_for(heard: History, config: Config) -> None:
    """As the report of the run has it, for as long as it is kept."""
    config, changes = (
        replace(config, notify=replace(NOTIFY, transcripts=True)),
        [Change(1, made_up.NAMES[0], "", "FAIL")],
    )
    check = reports.check()
    folder = config.pages / "runs" / "1"
    folder.mkdir(parents=True)
    path = folder / f"{made_up.NAMES[0]}.json"
    path.write_text(json_text(replace(reports.report(), checks=(replace(check, transcript="and\x1b so"),))))
    lines = message_of(changes, heard, config, size).splitlines()
    assert lines[-2:] == ["  jfk.wav: “and\\x1b so”", f"  expected: “{check.clip.text}”"]
    path.unlink()
    assert message_of(changes, heard, config, size).splitlines() == lines[:-2]


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────


LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=700).map(printable_line)


@given(st.lists(LINES, min_size=1, max_size=5), st.integers(1, 300), st.booleans())
def test_it_is_never_more_than_16_kb_and_says_what_is_left_out(lines: list[str], times: int, posted: bool) -> None:
    measure = Webhook("MIMO_WEBHOOK", "https://example.org").size if posted else size
    text = fitted(lines * times, measure)
    assert measure(text) <= MOST_BYTES
    *shown, last = text.split("\n")
    given_lines = [line if len(line) <= LONGEST else line[: LONGEST - 1] + "…" for line in lines * times]
    if [*shown, last] != given_lines:
        assert shown == given_lines[: len(shown)]
        n = len(given_lines) - len(shown)
        assert last == f"… {n} more lines are left out: a message takes 16 kB"
        assert measure("\n".join([*given_lines[: len(shown) + 1], last])) > MOST_BYTES, "another line would fit"


def test_a_year_of_changes_is_cut(history: History, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "MOST_BYTES", 3000)
    old = Change(made_up.FELL, made_up.FALLEN, "PASS", "FAIL")
    text = message_of([old] * 5 + [Change(made_up.RUNS, made_up.AWAY, "", "NOT CHECKED")], history, config, size)
    assert 2500 < size(text) <= 3000
    assert text.startswith("✗ FAIL: 1 of 5 targets failed")
    assert text.splitlines()[4] == f"{made_up.AWAY}: NOT CHECKED", "the newest first"
    assert text.endswith("more lines are left out: a message takes 16 kB")


def test_changes_that_nobody_reads_are_counted(
    history: History, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "MOST_CHANGES", 2)
    healed = Change(made_up.FAILED_ONCE + 1, made_up.FALLEN, "FAIL", "PASS")
    text = message_of([healed] * 9, history, config, size)
    assert text.count("FAIL → PASS") == 2
    assert text.endswith("\n\n… and 7 earlier changes of state")
