"""Real processes on tiny files: they give the answers of one, whichever of them dies."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mimo_agreement.run.answering import Answerer
from mimo_agreement.run.here import answer_here
from mimo_agreement.run.jobs import Asked, Failed, Outcome, jobs_of
from mimo_agreement.run.places import LocalPlaces
from mimo_agreement.run.processes import workers
from mimo_agreement.run.processes.messages import Setup
from mimo_agreement.run.processes.workers import Workers
from mimo_agreement.run.progress import answer_missing
from mimo_agreement.run.queue import Queue
from mimo_agreement.store.store import Store
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError
from tests.mimo_agreement.run.asking import asked_of, places_of
from tests.mimo_agreement.run.test_answering import told
from tests.mimo_agreement.spoken import BETTER, SMALLER

CRASHING = Path(__file__).with_name("crashing.py")
CONDITIONS = ["clean", "noise:babble:5dB"]


@pytest.fixture(scope="module")
def asked(tiny: Path, clips: Path) -> Asked:
    return asked_of(tiny, [BETTER, SMALLER], clips, CONDITIONS)


@pytest.fixture(scope="module")
def places(tiny: Path, clips: Path) -> LocalPlaces:
    return places_of(tiny, clips.parent)


def crash_on(monkeypatch: pytest.MonkeyPatch, clip: str, how: str, folder: Path) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(CRASHING), clip, how, str(folder)))


def found_by(asked: Asked, answers: Callable[[Queue], Iterator[Outcome]]) -> tuple[dict[str, object], list[Failed]]:
    """The answers by pair, and what failed; nothing may come twice."""
    seen: list[str] = []

    def watched(queue: Queue) -> Iterator[Outcome]:
        for outcome in answers(queue):
            seen.append(str(outcome.job.pair))
            yield outcome

    with Store() as store:
        failed = answer_missing(jobs_of(asked), store, watched)
        assert len(seen) == len(set(seen))
        return {str(pair): told(answer) for pair, answer in store.answers()}, failed


def in_processes(asked: Asked, places: LocalPlaces, n: int) -> Callable[[Queue], Iterator[Outcome]]:
    return lambda queue: Workers(queue, Setup(asked.models, places, 1), n, 0).answers()


@pytest.fixture(scope="module")
def expected(asked: Asked, places: LocalPlaces) -> dict[str, object]:
    answerer = Answerer(asked.models, places, 2)
    return found_by(asked, lambda queue: answer_here(queue, answerer))[0]


def test_two_processes_one_of_which_is_killed_answer_as_one(
    asked: Asked, places: LocalPlaces, expected: dict[str, object]
) -> None:
    pids: list[int] = []

    def answers(queue: Queue) -> Iterator[Outcome]:
        running = Workers(queue, Setup(asked.models, places, 1), 2, 0)
        for n, outcome in enumerate(running.answers()):
            yield outcome
            pids.extend(one.process.pid for one in running.running)
            if n in (2, 9):
                os.kill(running.running[-1].process.pid, signal.SIGKILL)

    found, failed = found_by(asked, answers)
    assert found == expected
    assert not failed
    assert len(set(pids)) == 4, "each that was killed is replaced"
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


def test_a_clip_that_crashes_processes_is_tried_three_times_and_others_go_on(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = asked.clips[3].sha256
    crash_on(monkeypatch, clip, "always", tmp_path)
    only_clean = asked_of(
        Path(asked.models[0].facts.file).parent, [SMALLER], places.paths[clip].with_name("clips.jsonl")
    )
    found, failed = found_by(only_clean, in_processes(only_clean, places, 2))
    [one] = failed
    assert (one.job.pair.clip, one.tries) == (clip, 3)
    assert one.reason == "its process was killed by SIGABRT: GGML_ASSERT: what no clip should cause"
    assert len(list(tmp_path.iterdir())) == 3
    assert found == {pair: answer for pair, answer in expected.items() if pair in found}
    assert len(found) == len(only_clean.clips) - 1


def test_a_clip_that_crashes_once_is_answered_as_ever(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crash_on(monkeypatch, asked.clips[-1].sha256, "1", tmp_path)
    assert found_by(asked, in_processes(asked, places, 1)) == (expected, [])
    assert len(list(tmp_path.iterdir())) == 1


def test_no_more_run_than_fit_into_memory(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(workers, "available_memory", lambda: 300 << 20)
    started = []
    start = workers.start
    monkeypatch.setattr(workers, "start", lambda setup: started.append(setup) or start(setup))
    assert found_by(asked, in_processes(asked, places, 8)) == (expected, [])
    assert len(started) == 2
    assert capsys.readouterr().err.startswith("--workers 8: 2 fit into memory; each takes")


def test_a_model_that_changes_ends_the_command(asked: Asked, clips: Path, tmp_path: Path) -> None:
    files = shutil.copytree(Path(asked.models[0].facts.file).parent, tmp_path / "tiny")
    places = places_of(files, clips.parent)
    states = {sha256: LocalShards().state(path) for sha256, path in places.paths.items() if path.suffix == ".gguf"}

    def answers(queue: Queue) -> Iterator[Outcome]:
        for outcome in in_processes(asked, LocalPlaces(places.paths, states), 1)(queue):
            yield outcome
            (files / BETTER).touch()

    with pytest.raises(InputError, match=r"mimo-asr-q8_0.gguf: was changed while the command ran"):
        found_by(asked, answers)


def test_processes_that_cannot_be_started_are_told(
    asked: Asked, places: LocalPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "raise SystemExit('no ggml here')"))
    says = "--workers: processes cannot be started: its process ended with exit status 1: no ggml here"
    with pytest.raises(InputError, match=says):
        found_by(asked, in_processes(asked, places, 2))
