"""Whatever a command must not do is noticed."""

from pathlib import Path

import pytest

from tests.fuzz import complete
from tests.fuzz.case import Case, Folders, failures
from tests.fuzz.damage.gguf_format import File, build
from tests.fuzz.forked import MEMORY, ROOT, Ended

TRACEBACK = (
    "Traceback (most recent call last):\n"
    f'  File "{ROOT}/mimo_nightly/show/page.py", line 7, in x\n    y\nTypeError: no\n'
)
GGUF = build(File([], []))
FINE = Ended(0, 0.1, 0.1, 1 << 20, False)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "case")
    made.fill({"in.json": b"{}"})
    return made


def kinds(
    folders: Folders, ended: Ended = FINE, stderr: str = "", outputs: dict[str, bytes] | None = None
) -> list[str]:
    (folders.told / "stderr").write_text(stderr)
    for name, data in (outputs or {}).items():
        path = folders.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    case = Case(
        "mimo-check",
        [],
        {"in.json": b"{}"},
        True,
        outputs={"out/*.gguf": complete.gguf, "*.html": complete.page},
        parts=True,
    )
    return [failure.kind for failure in failures(case, folders, ended)]


def test_what_is_documented_is_no_failure(folders: Folders) -> None:
    assert kinds(folders, stderr="error: a\tb\n" + "x" * 2000 + "\n", outputs={"r.html": b"<html></html>\n"}) == []


@pytest.mark.parametrize(
    ("ended", "stderr", "kind"),
    [
        (Ended(1, 0, 0, 0, False), "", "status"),
        (Ended(3, 0, 0, 0, False), "internal error", "traceback"),
        (Ended(130, 0, 0, 0, False), "", "status"),
        (Ended(1, 0, 0, 0, False), TRACEBACK, "traceback"),
        (Ended(0, 0, 0, 0, False), TRACEBACK, "traceback"),
        (Ended(-6, 0, 0, 0, False), "", "signal"),
        (Ended(-24, 0, 9, 0, False), "", "hang"),
        (Ended(-9, 30, 0, 0, True), "", "hang"),
        (Ended(0, 0, 0, MEMORY, False), "", "memory"),
        (FINE, "tensor \x1b[2J", "control character"),
        (FINE, "a\rb", "control character"),
        (FINE, "\x9b31m", "control character"),
        (FINE, "x" * 2001, "long line"),
    ],
)
def test_how_a_command_ends_and_what_it_says(folders: Folders, ended: Ended, stderr: str, kind: str) -> None:
    assert kinds(folders, ended, stderr) == [kind]


def test_text_that_is_not_utf_8(folders: Folders) -> None:
    (folders.told / "stdout").write_bytes(b"name \xff\n")
    assert kinds(folders) == ["not UTF-8"]


@pytest.mark.parametrize(
    ("status", "outputs", "kind"),
    [
        (0, {"other.txt": b"x"}, "leftover"),
        (0, {"r.html": b"<html>"}, "output"),
        (2, {"out/a.gguf": GGUF}, "output"),
        (0, {"out/a.gguf": b"GGUF"}, "output"),
        (0, {"in.json": b"[]"}, "changed input"),
        (2, {"out/a.gguf.part": b"GGUF"}, "leftover"),
        (2, {"out/a.gguf.part": b"GGUF", "out/a.gguf.part.journal": b"{}\n"}, "leftover"),
    ],
)
def test_what_a_command_leaves(folders: Folders, status: int, outputs: dict[str, bytes], kind: str) -> None:
    assert kind in kinds(folders, Ended(status, 0, 0, 0, False), outputs=outputs)


def test_a_part_that_is_worth_keeping(folders: Folders) -> None:
    outputs = {"out/a.gguf.part": b"\0", "out/a.gguf.part.journal": b'{}\n{"done": [[0, 3]]}\n'}
    assert kinds(folders, Ended(2, 0, 0, 0, False), outputs=outputs) == []


def test_what_is_left_elsewhere(folders: Folders) -> None:
    (folders.tmp / "x").touch()
    assert kinds(folders) == ["leftover"]
    (folders.home / "crash.txt").write_text(TRACEBACK)
    assert "traceback" in kinds(folders)


def test_the_cause_of_a_traceback_is_a_line_of_ours(folders: Folders) -> None:
    (folders.told / "stderr").write_text(TRACEBACK)
    [failure] = failures(Case("mimo-check", [], {"in.json": b"{}"}, True), folders, Ended(1, 0, 0, 0, False))
    assert failure.cause == "mimo_nightly/show/page.py:7 TypeError"
