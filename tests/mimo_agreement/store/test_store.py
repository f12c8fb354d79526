"""The store: what is written is read again, nothing is written twice, and no file of anybody else is touched."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.records import Answer, Pair
from mimo_agreement.store.store import FILE, Heard, Hearing, Store
from quantize.errors import InputError

ROOT = Path(__file__).parents[3]
PAIR = Pair("a" * 64, "b" * 64, "c" * 64, "noise:white:5dB", 7, '{"language": "english"}', "0.8.0")
ANSWER = Answer("What was said.", 5, True, "", 2.5, {"prefill_s": 0.5, "ms_per_token": 3.0}, {"mapped": 1 << 40})
HEARING = Hearing(*astuple(PAIR)[1:])
HEARD = Heard(b"\0codes\xff", {"tokenize_s": 1.5}, {"working": 8})

numbers = st.floats(0, 1e6, allow_subnormal=False)
written = st.text(st.characters(exclude_categories=["Cs"]))
answers = st.builds(
    Answer, written, st.integers(0, 1 << 40), st.booleans(), written, numbers,
    st.dictionaries(written, numbers, max_size=3), st.dictionaries(written, st.integers(0, 1 << 50), max_size=3),
    st.none() | numbers, st.integers(1, 1000),
).map(lambda answer: answer if answer.kl is not None else replace(answer, kl_tokens=0))  # fmt: skip


@given(answers)
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    with Store() as store:
        store.add(PAIR, answer)
        assert list(store.answers()) == [(PAIR, answer)]


def test_what_is_kept_is_there_in_the_next_command(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "store") as store:
        store.add(PAIR, ANSWER, HEARING, HEARD)
        assert store.heard(replace(HEARING, clip="d" * 64)) is None
    with Store(tmp_path / "new" / "store") as store:
        assert list(store.answers()) == [(PAIR, ANSWER)]
        assert store.heard(HEARING) == HEARD


@pytest.mark.parametrize("field", ["lm", "companion", "clip", "condition", "settings", "version"])
def test_each_part_of_a_pair_tells_answers_apart(field: str) -> None:
    other = replace(PAIR, **{field: "other"})
    with Store() as store:
        store.add(PAIR, ANSWER)
        store.add(other, replace(ANSWER, transcript="Something else."))
        assert {pair: answer.transcript for pair, answer in store.answers()} == {
            PAIR: "What was said.", other: "Something else.",
        }  # fmt: skip


def test_a_pair_has_one_answer_the_first() -> None:
    with Store() as store:
        store.add(PAIR, ANSWER)
        store.add(PAIR, replace(ANSWER, transcript="Something else."), HEARING, HEARD)
        store.add(replace(PAIR, lm="d" * 64), ANSWER, HEARING, replace(HEARD, stages=b"other"))
        assert dict(store.answers())[PAIR] == ANSWER
        assert store.heard(HEARING) == HEARD


def test_a_divergence_that_is_not_finite_stays_unknown() -> None:
    with Store() as store:
        store.add(PAIR, replace(ANSWER, kl=math.nan, kl_tokens=3))
        [(_, answer)] = store.answers()
        assert answer.kl is not None
        assert math.isnan(answer.kl)


def test_one_command_has_it_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_agreement.store.store.WAIT", 0.01)
    for is_used in (False, True):
        with Store(tmp_path) as store:
            if is_used:
                store.add(PAIR, ANSWER)
            with pytest.raises(InputError, match=r"agreement.sqlite: is in use by another command; wait for its end"):
                Store(tmp_path)
    Store(tmp_path).close()


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text("these are notes\n" * 10)
    with pytest.raises(InputError, match="cannot be used as a store of answers: it is not a database"):
        Store(tmp_path)
    assert file.read_text() == "these are notes\n" * 10
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(InputError, match="is a database of another kind, with recipes; expected the tables answers"):
        Store(tmp_path)
    file.unlink()
    Store(tmp_path).close()
    with sqlite3.connect(file) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="is a store of answers of format 99; expected 1; use a newer mimo-check"):
        Store(tmp_path)
    with pytest.raises(InputError, match="cannot be made"):
        Store(file)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("tokens", "many", "tokens is 'many'; expected a whole number"), ("ended", 2, "ended is 2"),
        ("transcript", b"\xff", "transcript is b"), ("timings", "{", "timings is '{'; expected JSON"),
        ("memory", '{"working": "much"}', "expected a number for each name"), ("seconds", -1.0, "seconds is -1.0"),
    ],
)  # fmt: skip
def test_a_damaged_row_is_one_line(tmp_path: Path, column: str, value: object, says: str) -> None:
    with Store(tmp_path) as store:
        store.add(PAIR, ANSWER)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"UPDATE answers SET {column} = ?", (value,))
    with Store(tmp_path) as store, pytest.raises(InputError) as error:
        list(store.answers())
    assert says in str(error.value)
    assert "lm 'aaaa" in str(error.value)


WRITER = """
import sys, dataclasses
from pathlib import Path
from mimo_agreement.store.store import Store
from tests.mimo_agreement.store.test_store import ANSWER, HEARD, HEARING, PAIR
with Store(Path(sys.argv[1])) as store:
    for n in range(10**6):
        clip = str(n)
        heard = dataclasses.replace(HEARD, stages=b"x" * 10_000)
        store.add(dataclasses.replace(PAIR, clip=clip), ANSWER, dataclasses.replace(HEARING, clip=clip), heard)
        print(n, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_that_it_has_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, tmp_path]
    written = -1
    for lines in (3, 8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout
            written = max(written, *(int(process.stdout.readline()) for _ in range(lines)))
            os.kill(process.pid, signal.SIGKILL)
        with Store(tmp_path) as store:
            found = {pair.clip: answer for pair, answer in store.answers()}
            assert all(answer == ANSWER for answer in found.values())
            assert {str(n) for n in range(written + 1)} <= found.keys()
            assert all(store.heard(replace(HEARING, clip=clip)) for clip in found)
