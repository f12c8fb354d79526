"""The history keeps what it is given, and no half of a target."""

from pathlib import Path

import pytest

from quantize.errors import InputError
from watch.history import FAILED, HEADER, PASSED, FileRow, History, StageRow, TargetResult

STAGES = (
    StageRow("lm.gguf", "jfk.wav", "layer_00", 0.99, 0.95, 0.05),
    StageRow("lm.gguf", "jfk.wav", "transcript", error_rate=0.25, passed=False),
)


def result(run: int, state: str = PASSED, target: str = "asr", scope: str = "whole") -> TargetResult:
    files = [FileRow("lm.gguf", "ab" * 32, 5, "c0ffee", '"etag"')]
    problems = [] if state == PASSED else ["layer_00: below its gate"]
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
    assert [r.run for r in history.of_target("asr", 3)] == [2, 3, 4]


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
