"""Phases and messages reach who listens, and nobody else."""

import threading
import time

from mimo_convert import listener as module
from mimo_convert.listener import Callbacks, Phase, Progress, advance, heard_by, listener, listening, phase, timed_phase
from mimo_convert.terminal import show, tell, warn


def test_a_phase_tells_how_far_it_is_and_when_it_ends() -> None:
    heard: list[Progress] = []
    with heard_by(heard.append, None), phase("converting", 10, done=4) as progress:
        progress.advance(3, "a.weight")
        progress.reach(10)
    assert [(now.done, now.item, now.ended) for now in heard] == [
        (4, "", False), (7, "a.weight", False), (10, "", False), (10, "", True)
    ]  # fmt: skip
    assert {(now.phase, now.total, now.unit) for now in heard} == {("converting", 10, "B")}


def test_a_phase_ends_when_its_work_fails() -> None:
    heard: list[Progress] = []
    try:
        with heard_by(heard.append, None), phase("converting", 10):
            raise ValueError("no")
    except ValueError:
        pass
    assert heard[-1].ended


def test_more_than_was_expected_leaves_the_total_open() -> None:
    heard: list[Progress] = []
    with heard_by(heard.append, None):
        Phase("reference", 10).reach(11)
    assert heard[-1].total is None


def test_engines_advance_the_innermost_phase() -> None:
    heard: list[Progress] = []
    with heard_by(heard.append, None), phase("outer", unit="positions"), phase("inner", unit="positions"):
        advance(5)
    assert [now.phase for now in heard if now.done == 5] == ["inner"] * 2
    advance(5)  # of nothing, heard by nobody


def test_a_phase_of_unknown_length_says_how_long_it_takes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "BEAT", 0.01)
    heard: list[Progress] = []
    with heard_by(heard.append, None), timed_phase("uploading x.gguf"):
        time.sleep(0.2)
    beats = [now.done for now in heard if not now.ended]
    assert len(beats) > 3
    assert beats == sorted(beats)
    assert heard[-1].ended
    assert {(now.phase, now.total, now.unit) for now in heard} == {("uploading x.gguf", None, "s")}


def test_threads_that_advance_a_phase_at_once_all_count() -> None:
    heard: list[float] = []
    with heard_by(lambda now: heard.append(now.done), None), phase("reading", 8000) as running:
        threads = [threading.Thread(target=lambda: [running.advance(1) for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard[-1] == 8000
    assert heard == sorted(heard), "none goes back"


def test_callbacks_hear_messages_and_warnings_and_print_nothing(capsys) -> None:  # type: ignore[no-untyped-def]
    lines: list[str] = []
    with heard_by(None, lines.append):
        show("a table")
        tell("resuming")
        warn("a bad recipe")
    assert lines == ["resuming", "warning: a bad recipe"]
    assert capsys.readouterr() == ("", "")


def test_a_listener_is_not_replaced_by_no_callbacks() -> None:
    one = Callbacks(print, print)
    with listening(one), heard_by(None, None):
        assert listener() is one
    assert listener() is None
