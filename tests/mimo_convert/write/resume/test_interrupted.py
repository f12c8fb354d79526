"""Interrupted and terminated conversions say how to resume, and resume."""

import signal
from pathlib import Path

from .killed import WRITES, Fault, Runs
from .whole import GOES_ON, RESUMING, Whole, check_goes_on, check_names, check_told, done, everywhere


def test_interrupted_at_any_call_a_run_says_how_to_go_on_and_it_does(
    whole: Whole, both: list[Runs], tmp_path: Path
) -> None:
    def check(runs: Runs, out: Path, at: int) -> None:
        ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", at))
        assert ended.status == 130
        assert ended.stderr.startswith("interrupted: ")
        assert ended.stderr.count("\n") == 1
        check_names(out, whole.files)
        check_told(out, ended)
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, sorted({*range(0, 40, 4), *range(40, whole.sure, 50)}), check)


def test_interrupted_again_at_once_nothing_of_what_was_done_is_lost(
    whole: Whole, both: list[Runs], tmp_path: Path
) -> None:
    def check(runs: Runs, out: Path, at: int) -> None:
        runs(*whole.arguments, "--out", out, fault=Fault("kill", whole.sure))
        before = done(out)
        ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", at))
        assert (ended.status, ended.stderr.count(GOES_ON)) == (130, 1), ended.stderr
        assert done(out) >= before > 0
        check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes)

    everywhere(both, tmp_path, range(0, 10, 3), check)


def test_terminated_as_by_a_shutdown_the_same_command_goes_on(whole: Whole, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = runs(*whole.arguments, "--out", out, fault=Fault("terminate", whole.points(*WRITES) // 2))
    assert ended.status == -signal.SIGTERM
    assert done(out)
    check_names(out, whole.files)
    assert RESUMING in check_goes_on(runs, out, whole.arguments, whole.files, **whole.sizes).stderr
