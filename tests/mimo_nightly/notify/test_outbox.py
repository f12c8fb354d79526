"""What is told of a target: each change of its state, once, from what was told last."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, WHOLE, History, TargetResult
from mimo_nightly.notify.outbox import BAD, Change, Outbox
from mimo_nightly.show.figures import state_word
from quantize.errors import InputError

BEGAN = "2026-11-21T03:00:00Z"
STATES = ((PASSED, WHOLE), (PASSED, HEADER), (FAILED, WHOLE), (UNCHECKED, WHOLE))
P, H, F, U = STATES


def record(history: History, state: str, scope: str, *, told: bool = True, target: str = "asr") -> None:
    """A run of one target."""
    run = history.begin(BEGAN, "")
    result = TargetResult(run, target, BEGAN, 1.0, state, scope)
    change = Outbox(history).change_of(result) if told else None
    history.record(result)
    if change:
        Outbox(history).add(change)


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([P, P], []),
        ([H, P], ["2 HEADER ONLY → PASS"]),
        ([F], ["1  → FAIL"]),
        ([U, U], ["1  → NOT CHECKED"]),
        ([P, F, F, P], ["2 PASS → FAIL", "4 FAIL → PASS"]),
        ([P, U, F], ["2 PASS → NOT CHECKED", "3 NOT CHECKED → FAIL"]),
        ([P, H, H, P], ["2 PASS → HEADER ONLY", "4 HEADER ONLY → PASS"]),
    ],
)
def test_each_change_of_state_is_one(tmp_path: Path, states: list[tuple[str, str]], told: list[str]) -> None:
    with closing(History(tmp_path / "history.sqlite")) as history:
        for state in states:
            record(history, *state)
        found = [f"{one.run} {one.before} → {one.after}" for one in Outbox(history).pending()]
    assert found == told


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A history of many targets, which nobody reads after a crash."""
    with closing(History(tmp_path_factory.mktemp("shared") / "h")) as history:
        history.connection.execute("PRAGMA synchronous = OFF")
        yield history


@given(st.lists(st.tuples(st.sampled_from(STATES), st.booleans()), max_size=8))
def test_who_is_told_knows_the_state_of_every_run_since(
    shared: History, runs: list[tuple[tuple[str, str], bool]]
) -> None:
    """Whether somebody is to be told may change between runs; a target is taken to be good until then."""
    target, believed = f"target {len(shared.targets())}", None
    for (state, scope), told in runs:
        before = Outbox(shared).pending()
        record(shared, state, scope, told=told, target=target)
        new = Outbox(shared).pending()[len(before) :]
        word = state_word(state, scope)
        assert len(new) <= told
        assert all((one.target, one.after) == (target, word) and one.before != word for one in new)
        if new:
            assert believed is None or new[0].before == believed
            believed = word
        elif told:
            assert word == believed if believed else word not in BAD


def test_a_change_stays_until_it_is_sent(tmp_path: Path) -> None:
    with closing(History(tmp_path / "history.sqlite")) as history:
        outbox = Outbox(history)
        for state in (F, P):
            record(history, *state)
        first, second = outbox.pending()
        outbox.set_failed([first, second], "2026-11-21T03:30:00Z", "hooks.example.org: HTTP 404 Not Found")
        assert [one.failure for one in outbox.pending()] == ["hooks.example.org: HTTP 404 Not Found"] * 2
        outbox.set_sent([first], "2026-11-22T03:30:00Z")
        assert [one.run for one in outbox.pending()] == [2]
        sent = outbox.newest(2)[0]
        assert (sent.tried, sent.sent) == ("2026-11-21T03:30:00Z", "2026-11-22T03:30:00Z")
        assert outbox.newest(1) == outbox.pending()


def test_a_change_is_recorded_with_its_result_or_not_at_all(tmp_path: Path) -> None:
    def record_twice(run: int) -> None:
        with history.transaction():
            history.record(TargetResult(run, "asr", BEGAN, 1.0, FAILED))
            for _ in range(2):
                Outbox(history).add(Change(run, "asr", "", "FAIL"))

    with closing(History(tmp_path / "history.sqlite")) as history:
        run = history.begin(BEGAN, "")
        with pytest.raises(InputError, match="UNIQUE constraint failed"):
            record_twice(run)
        assert (history.of_run(run), Outbox(history).pending()) == ([], [])
