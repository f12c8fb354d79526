"""`.part` files: begun, gone on with or begun anew, by one run at a time; and what is left of them in the end."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_convert.formats.gguf import read_gguf
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.plan.plan import Plan
from mimo_convert.write.journal import Journal
from mimo_convert.write.origin import Origin
from mimo_convert.write.part_file import JOURNAL_ROOM, PartFile, WorthlessError, names_of
from quantize.errors import InputError
from quantize.types import F16
from tests.opened import make_request

ORIGIN = Origin("v1", "checkpoint", "options", {})
NAME = "mimo-tokenizer-f16.gguf"


@pytest.fixture
def plan(small_tokenizer: Path) -> Plan:
    return make_request(open_checkpoint(str(small_tokenizer)), [F16]).plans[0]


def part_of(path: Path, plan: Plan, origin: Origin) -> PartFile:
    return PartFile(path, plan, origin, Journal.read(names_of(path)[2]))


@pytest.fixture
def part(plan: Plan, tmp_path: Path) -> PartFile:
    return part_of(tmp_path / NAME, plan, ORIGIN)


def silent(line: str) -> None:
    raise AssertionError(line)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leave(part: PartFile, chunks: list[int], data: bytes = b"abc") -> None:
    """An earlier run: it wrote a little at the end, noted these chunks, and was killed."""
    part.open(silent)
    part.write(data, part.plan.size - len(data))
    part.flush(chunks)
    part.close()


def leave_quietly(part: PartFile) -> None:
    part.open(lambda line: None)
    part.close()


def test_a_new_part_has_its_header_all_its_room_and_a_journal(part: PartFile, tmp_path: Path) -> None:
    part.open(silent)
    assert names(tmp_path) == [f"{NAME}.part", f"{NAME}.part.journal"]
    content = part.part.read_bytes()
    assert content.startswith(b"\0\0\0\0" + part.plan.header[4:])
    assert len(content) == part.plan.size
    assert part.part.stat().st_blocks * 512 >= part.plan.size
    assert Journal.read(part.journal.path) == Journal(part.journal.path, ORIGIN, length=part.journal.length)


def test_what_an_earlier_run_left_is_gone_on_with(part: PartFile, plan: Plan) -> None:
    leave(part, [3, 4])
    told: list[str] = []
    again = part_of(part.path, plan, ORIGIN)
    again.open(told.append)
    assert told == [f"{part.part}: resuming where an earlier run stopped"]
    assert again.journal.done == {3, 4}
    assert part.part.read_bytes().endswith(b"abc")


def test_a_part_of_which_nothing_is_done_is_gone_on_with_in_silence(part: PartFile, plan: Plan) -> None:
    leave(part, [])
    part_of(part.path, plan, ORIGIN).open(silent)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"version": "v2"}, ": was begun by v1, and this is v2: starting over"),
        ({"checkpoint": "c2"}, ": was begun from a checkpoint that has changed since: starting over"),
        (
            {"options": "o2"},
            ": was begun with other options, or from other config or tokenizer files: starting over",
        ),
        ({"absmax": {"x": 1e9}}, ": starting over"),
    ],
)
def test_what_was_made_from_something_else_is_begun_anew_and_the_reason_told(
    part: PartFile, plan: Plan, now: dict[str, object], told: str
) -> None:
    leave(part, [1])
    lines: list[str] = []
    again = part_of(part.path, plan, replace(ORIGIN, **now))
    again.open(lines.append)
    assert lines == [f"{part.part}{told}"]
    assert again.journal.done == set()
    found = Journal.read(part.journal.path)
    assert found
    assert (found.origin, found.done) == (again.origin, set())
    assert part.part.read_bytes() == bytes(4) + plan.header[4:] + bytes(plan.size - len(plan.header))


def test_a_part_without_a_journal_is_begun_anew(part: PartFile, plan: Plan) -> None:
    leave(part, [1])
    part.journal.path.unlink()
    part_of(part.path, plan, ORIGIN).open(silent)
    assert part.part.read_bytes() == bytes(4) + plan.header[4:] + bytes(plan.size - len(plan.header))


def gone(part: Path) -> None:
    part.unlink()


def shorter(part: Path) -> None:
    os.truncate(part, part.stat().st_size - 1)


def longer(part: Path) -> None:
    os.truncate(part, part.stat().st_size + 1)


@pytest.mark.parametrize("harm", [gone, shorter, longer])
def test_a_journal_of_another_part_is_not_believed(part: PartFile, plan: Plan, harm: Callable[[Path], None]) -> None:
    leave(part, [1])
    harm(part.part)
    told: list[str] = []
    again = part_of(part.path, plan, ORIGIN)
    again.open(told.append)
    assert told == [f"{part.part}: starting over"]
    assert again.journal.done == set()
    assert part.part.read_bytes() == bytes(4) + plan.header[4:] + bytes(plan.size - len(plan.header))


HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_a_part_that_another_process_writes_is_left_alone(part: PartFile, plan: Plan) -> None:
    leave(part, [1])
    before = part.part.read_bytes(), part.journal.path.read_bytes()
    command = [sys.executable, "-c", HOLD, str(part.part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=r"f16\.gguf\.part: another run is writing it; wait for its end$"),
            part_of(part.path, plan, replace(ORIGIN, version="v2")) as refused,
        ):
            refused.open(silent)
        assert (part.part.read_bytes(), part.journal.path.read_bytes()) == before
        other.communicate("\n")
    part_of(part.path, plan, ORIGIN).open(lambda line: None)


def test_a_journal_that_another_run_wrote_before_the_part_was_locked_is_read_again(part: PartFile, plan: Plan) -> None:
    leave(part, [1])
    late = part_of(part.path, plan, ORIGIN)
    leave_quietly(part_of(part.path, plan, replace(ORIGIN, version="v2")))
    told: list[str] = []
    with late:
        late.open(told.append)
        assert late.journal.done == set()
    assert told == [f"{part.part}: was begun by v2, and this is v1: starting over"]


def test_a_part_that_got_its_name_while_it_was_waited_for_is_not_written(
    part: PartFile, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, the other run ends: what is open is its finished file."""
    leave(part, [1])
    late = part_of(part.path, plan, ORIGIN)
    real_open = os.open

    def open_then_publish(*arguments: object) -> int:
        fd = real_open(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(os, "open", real_open)
        os.replace(part.part, part.path)
        return fd

    monkeypatch.setattr(os, "open", open_then_publish)
    with pytest.raises(InputError, match="another run has just ended; run the command again"), late:
        late.open(silent)
    assert part.path.read_bytes().endswith(b"abc")


def end(part: PartFile, chunks: list[int], error: BaseException | None) -> None:
    """A run that writes, notes these chunks, and ends with an error or none."""
    with part:
        part.open(lambda line: None)
        part.flush(chunks)
        if error:
            raise error


@pytest.mark.parametrize("error", [InputError("x", "y"), KeyboardInterrupt(), ZeroDivisionError(), None])
def test_what_is_done_is_kept_however_a_run_ends(part: PartFile, tmp_path: Path, error: BaseException | None) -> None:
    with suppress(InputError, KeyboardInterrupt, ZeroDivisionError):
        end(part, [0], error)
    assert names(tmp_path) == [f"{NAME}.part", f"{NAME}.part.journal"]


@pytest.mark.parametrize("error", [InputError("x", "y"), KeyboardInterrupt(), None])
def test_nothing_is_kept_if_nothing_is_done(part: PartFile, tmp_path: Path, error: BaseException | None) -> None:
    with suppress(InputError, KeyboardInterrupt):
        end(part, [], error)
    assert names(tmp_path) == []


def test_nothing_is_kept_that_was_made_from_something_damaged(part: PartFile, tmp_path: Path) -> None:
    with pytest.raises(WorthlessError):
        end(part, [0, 1], WorthlessError("x", "holds NaN"))
    assert names(tmp_path) == []


def test_what_an_earlier_run_did_is_kept_by_one_that_does_not_get_to_it(part: PartFile, plan: Plan) -> None:
    leave(part, [1])
    with pytest.raises(KeyboardInterrupt), part_of(part.path, plan, ORIGIN):
        raise KeyboardInterrupt
    assert part.journal.path.exists()
    assert part.part.exists()


def test_a_file_gets_its_name_at_once_and_keeps_it(part: PartFile, plan: Plan, tmp_path: Path) -> None:
    part.path.write_bytes(b"older")
    with part:
        part.open(silent)
        part.flush([0])
        part.complete_header()
        part.finish({NAME: part.inode})
        assert part.path.read_bytes() == b"older"
        part.finalize()
    assert names(tmp_path) == [NAME, f"{NAME}.part.journal"]
    assert part.path.read_bytes().startswith(plan.header)
    later = part_of(part.path, plan, ORIGIN)
    assert later.complete() == {NAME: later.inode}
    assert part_of(part.path, plan, replace(ORIGIN, checkpoint="other")).complete() == {}


def test_an_older_file_as_long_as_this_one_is_told_from_it(part: PartFile, plan: Plan) -> None:
    part.path.write_bytes(bytes(plan.size))
    with part:
        part.open(silent)
        part.flush([0])
        part.finish({NAME: part.inode})
    later = part_of(part.path, plan, ORIGIN)
    assert later.complete()[NAME] != later.inode


def test_a_part_is_no_gguf_file_until_it_is_complete(part: PartFile, plan: Plan) -> None:
    with part:
        part.open(silent)
        part.flush([0])
        with pytest.raises(InputError, match="not a GGUF file"):
            read_gguf(part.part)
        part.complete_header()
        assert read_gguf(part.part).architecture == plan.family.architecture


def test_room_is_asked_for_only_as_far_as_it_is_not_taken(part: PartFile, plan: Plan) -> None:
    assert part.room == plan.size + JOURNAL_ROOM
    leave(part, [])
    assert part.room == JOURNAL_ROOM
    os.truncate(part.part, 0)
    os.truncate(part.part, plan.size)  # a hole
    assert part.room == plan.size + JOURNAL_ROOM
    part.finalized = True
    assert part.room == 0


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_a_write_that_the_system_does_in_pieces_is_whole(
    part: PartFile, plan: Plan, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    pwrite = os.pwrite
    part.open(silent)
    data = bytes(range(250)) * 8
    monkeypatch.setattr(os, "pwrite", lambda fd, view, offset: pwrite(fd, view[:n], offset))
    part.write(data, plan.size - len(data))
    assert part.part.read_bytes().endswith(data)


@pytest.fixture
def interrupted_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file that is opened is there, and an interrupt strikes before that is known."""
    system = os.open

    def interrupted(path: Path, *arguments: int) -> int:
        system(path, *arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)


def test_an_interrupt_while_it_is_made_leaves_nothing(part: PartFile, tmp_path: Path, interrupted_open: None) -> None:
    with pytest.raises(KeyboardInterrupt), part:
        part.open(silent)
    assert names(tmp_path) == []


@pytest.fixture
def begun_by_another(plan: Plan, tmp_path: Path) -> Path:
    leave(part_of(tmp_path / NAME, plan, replace(ORIGIN, version="v0")), [0, 1])
    return tmp_path


def test_an_interrupt_before_it_is_begun_anew_leaves_what_was_there(
    begun_by_another: Path, part: PartFile, interrupted_open: None
) -> None:
    before = names(begun_by_another)
    with pytest.raises(KeyboardInterrupt), part:
        part.open(silent)
    assert names(begun_by_another) == before == [f"{NAME}.part", f"{NAME}.part.journal"]
