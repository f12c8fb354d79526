"""The journal: whatever of it survives is true, and whatever was whole survives."""

import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mimo_convert.write.journal import Journal, Origin, ranges

ORIGIN = Origin("mimo-convert 1, ggml 2", "a" * 64, "b" * 64, {"blk.0": 1e9, "é": 65520.0})
CHUNKS = st.lists(st.sets(st.integers(0, 300), max_size=30), max_size=8)
# what a disk gives back for what was never written: zeros, what was there before, anything
LEFTOVERS = (
    st.just(b"")
    | st.integers(1, 5000).map(bytes)
    | st.binary(max_size=200)
    | st.sampled_from([b'{"done": [[0, 1', b'{"done": [[0, 9]]}', b"\n", b"\r\n", b"[]\n", b"7\n", b"null\n", b"{}\n"])
    | st.sampled_from([b'{"done": 5}\n', b'{"done": [[1]]}\n', b'{"complete": 5}\n', b"[" * 100_000 + b"\n"])
)


def write(path: Path, added: list[set[int]]) -> Journal:
    """A journal as a run writes it."""
    path.unlink(missing_ok=True)
    journal = Journal(path, ORIGIN)
    journal.begin()
    for chunks in added:
        journal.add(chunks)
    return journal


@given(CHUNKS)
def test_what_was_noted_is_read_again(added: list[set[int]]) -> None:
    with TemporaryDirectory() as folder:
        written = write(Path(folder) / "j", added)
        assert Journal.read(written.path) == written
        assert written.done == set().union(*added)
        assert written.length == written.path.stat().st_size


@given(CHUNKS, st.floats(0, 1), LEFTOVERS)
def test_however_a_journal_is_cut_it_says_all_that_is_whole_and_nothing_else(
    added: list[set[int]], share: float, leftover: bytes
) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "j", added).path
        whole = path.read_bytes()
        cut = whole[: round(share * len(whole))]
        path.write_bytes(cut + leftover)
        found = Journal.read(path)
        lines = cut.splitlines(keepends=True)
        n_whole = sum(line.endswith(b"\n") for line in lines)
        if leftover.startswith(b"\n") and whole.startswith(cut + b"\n"):
            n_whole += 1  # the leftover is what was cut off
        assert (found is not None) == (n_whole > 0)
        if found:
            must = set().union(*(chunks_of(line) for line in whole.splitlines()[1:n_whole]))
            assert found.origin == ORIGIN
            assert must <= found.done
            assert not cut.endswith(b"\n") or found.done <= must | chunks_of(leftover)


def chunks_of(line: bytes) -> set[int]:
    """What a line says is done; a leftover may be such a line."""
    try:
        return {i for begin, end in json.loads(line)["done"] for i in range(begin, end)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


@given(CHUNKS, st.floats(0, 1), st.integers(0, 100), st.sets(st.integers(0, 400), min_size=1))
def test_what_is_noted_behind_a_torn_line_is_not_lost(
    added: list[set[int]], share: float, zeros: int, more: set[int]
) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "j", added).path
        whole = path.read_bytes()
        first = whole.index(b"\n") + 1
        path.write_bytes(whole[: first + round(share * (len(whole) - first))] + bytes(zeros))
        journal = Journal.read(path)
        assert journal
        before = set(journal.done)
        journal.add(more)
        journal.finish({"x.gguf": 1, "y.gguf": 2})
        assert journal.length == path.stat().st_size
        found = Journal.read(path)
        assert found
        assert (found.done, found.complete) == (before | more, {"x.gguf": 1, "y.gguf": 2})


@given(st.binary(max_size=500))
@example(b"[" * 100_000 + b"\n")
@example(b'{"version": 1}\n')
@example(b"[]\n")
@example(b"null\n")
def test_no_content_is_a_crash(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        path.write_bytes(content)
        assert Journal.read(path) is None


def test_no_file_is_no_journal(tmp_path: Path) -> None:
    assert Journal.read(tmp_path / "j") is None
    assert Journal.read(tmp_path) is None


def test_nothing_new_is_not_noted(tmp_path: Path) -> None:
    journal = write(tmp_path / "j", [{1, 2}])
    length = journal.length
    journal.add({2, 1})
    journal.add([])
    assert journal.length == length == (tmp_path / "j").stat().st_size


def test_a_journal_that_is_begun_anew_forgets_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "j", [{1}, {5}])
    Journal(tmp_path / "j", ORIGIN).begin()
    found = Journal.read(tmp_path / "j")
    assert found
    assert found.done == set()


def test_a_journal_may_be_removed_twice(tmp_path: Path) -> None:
    journal = write(tmp_path / "j", [])
    journal.remove()
    journal.remove()
    assert list(tmp_path.iterdir()) == []


@given(st.sets(st.integers(0, 50)))
def test_ranges_are_few_and_name_every_number_once(numbers: set[int]) -> None:
    found = ranges(sorted(numbers))
    assert [i for begin, end in found for i in range(begin, end)] == sorted(numbers)
    assert all(end < begin for (_, end), (begin, _) in pairwise(found))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (ORIGIN, ""),
        (Origin("v9", "a" * 64, "b" * 64, ORIGIN.absmax), "by mimo-convert 1, ggml 2, and this is v9"),
        (Origin(ORIGIN.version, "c", "b" * 64, ORIGIN.absmax), "from a checkpoint that has changed since"),
        (Origin(ORIGIN.version, "a" * 64, "c", {}), "with other options, or from other config or tokenizer files"),
        (Origin("v9", "c", "c", {}), "by mimo-convert 1, ggml 2, and this is v9"),
    ],
)
def test_what_has_changed_is_told_in_words(changed: Origin, words: str) -> None:
    assert ORIGIN.difference(changed) == words
