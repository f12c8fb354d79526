"""Old reports go, what proves today's state stays, and nothing that this tool did not make is touched."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from mimo_nightly.history import History
from mimo_nightly.process import Found
from mimo_nightly.prune import KINDS, Old, delete, old_files, runs_to_keep

from . import made_up
from .nightly_runs import run as run_nightly
from .nightly_runs import toml

NOW = made_up.begun(made_up.RUNS).replace(tzinfo=timezone.utc) + timedelta(hours=1)
DAY = 86_400.0


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with closing(made_up.history(tmp_path_factory.mktemp("made-up"))) as found:
        yield found


@pytest.fixture
def pages(history: History, tmp_path: Path) -> Path:
    for run in history.runs():
        folder = tmp_path / "runs" / str(run.run)
        folder.mkdir(parents=True)
        for result in history.of_run(run.run):
            for kind in KINDS:
                (folder / f"{result.target}.{kind}").write_text("x" * 10)
    return tmp_path


def runs_of(files: list[Old], target: str) -> set[int]:
    return {int(file.path.parent.name) for file in files if file.path.stem == target}


def test_what_is_older_goes_but_for_what_proves_the_state(history: History, pages: Path) -> None:
    files = old_files(history, pages, 10 * DAY, NOW)
    assert {file.nbytes for file in files} == {10}
    for target in history.targets():
        stay = runs_to_keep(history, target)
        old = {one.run for one in history.states(target) if one.run <= made_up.RUNS - 10}
        assert runs_of(files, target) == old - stay
    good, fell = made_up.FELL - 1, made_up.FELL
    assert {good, fell, made_up.RUNS} <= runs_to_keep(history, made_up.FALLEN)
    assert made_up.FAILED_ONCE not in runs_to_keep(history, made_up.FALLEN), "it was good again after that"


def test_files_are_deleted_with_folders_that_are_empty_then(history: History, pages: Path) -> None:
    own = pages / "runs" / "2" / "notes.txt"
    own.write_text("mine")
    files = old_files(history, pages, DAY, NOW)
    delete(files)
    assert not any(file.path.exists() for file in files)
    assert own.read_text() == "mine"
    assert old_files(history, pages, DAY, NOW) == []
    left = {path.name for path in (pages / "runs").iterdir()}
    assert "2" in left
    assert str(made_up.RUNS) in left
    assert len(left) < made_up.RUNS


def test_the_page_leads_to_what_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_up.history(tmp_path)
    for run in made.runs():
        folder = tmp_path / "pages" / "runs" / str(run.run)
        folder.mkdir(parents=True)
        for result in made.of_run(run.run):
            for kind in KINDS:
                (folder / f"{result.target}.{kind}").touch()
    made.close()
    config = tmp_path / "nightly.toml"
    targets = [toml({"name": name, "file": "a.gguf", "reference": "r"}) for name in (made_up.GOOD, made_up.FALLEN)]
    config.write_text("".join(["keep = '1 d'\n", *targets]))
    monkeypatch.setattr("mimo_nightly.run.check_in_subprocess", lambda job: Found())
    assert run_nightly("nightly", config).status == 2
    page = (tmp_path / "pages/index.html").read_text()
    links = re.findall('href="(runs/[^"]+)"', page)
    assert 6 < len(links) < 3 * made_up.RUNS
    assert [link for link in links if not (tmp_path / "pages" / link).exists()] == []


def test_what_a_link_leads_to_is_not_touched(history: History, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{made_up.GOOD}.html").write_text("somebody's")
    pages = tmp_path / "pages"
    (pages / "runs").mkdir(parents=True)
    (pages / "runs" / "1").symlink_to(elsewhere)
    (pages / "runs" / "2").mkdir()
    (pages / "runs" / "2" / f"{made_up.GOOD}.log").symlink_to(elsewhere / f"{made_up.GOOD}.html")
    assert old_files(history, pages, DAY, NOW) == []
