"""A local cluster of separate processes: it answers as one process does, bit for bit, whatever of it dies."""

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mimo_agreement.cluster.address import ClusterAddress
from mimo_agreement.records import Pair
from mimo_agreement.run.answering import Answerer
from mimo_agreement.run.here import answer_here
from mimo_agreement.run.jobs import Asked, Failed, Outcome
from mimo_agreement.run.places import LocalPlaces
from mimo_agreement.run.queue import Queue
from quantize.errors import InputError
from tests.mimo_agreement.cluster.clusters import Cluster, cluster_in
from tests.mimo_agreement.run.asking import asked_of, places_of
from tests.mimo_agreement.run.processes.test_workers import CRASHING, found_by
from tests.mimo_agreement.spoken import BETTER, SMALLER

pytest.importorskip("distributed")

import dask

from mimo_agreement.cluster import client, station
from mimo_agreement.cluster.client import answer_on_cluster

CONDITIONS = ["clean", "noise:babble:5dB"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def asked(tiny: Path, clips: Path) -> Asked:
    return asked_of(tiny, [BETTER, SMALLER], clips, CONDITIONS)


@pytest.fixture(scope="module")
def places(tiny: Path, clips: Path) -> LocalPlaces:
    found = places_of(tiny, clips.parent)
    return LocalPlaces({sha256: path for sha256, path in found.paths.items() if path.suffix in (".gguf", ".wav")})


@pytest.fixture(scope="module")
def expected(asked: Asked, places: LocalPlaces) -> dict[str, object]:
    answerer = Answerer(asked.models, places, 2)
    return found_by(asked, lambda queue: answer_here(queue, answerer))[0]


def on(cluster: Cluster, asked: Asked, places: LocalPlaces) -> Callable[[Queue], Iterator[Outcome]]:
    return lambda queue: answer_on_cluster(queue, asked.models, places, ClusterAddress(cluster.address))


def test_it_answers_as_one_process_and_files_travel_only_where_they_lack(
    cluster: Cluster, asked: Asked, places: LocalPlaces, expected: dict[str, object], clips: Path
) -> None:
    """One worker may read the clips' folder; both are sent the models, the other one what it needs of the clips. A
    worker that is killed meanwhile is done without."""
    with_clips, without = cluster.start_worker("--root", clips.parent), cluster.start_worker()

    def answers(queue: Queue) -> Iterator[Outcome]:
        for n, outcome in enumerate(on(cluster, asked, places)(queue)):
            yield outcome
            if n == 12:
                cluster.workers[-1].send_signal(signal.SIGKILL)

    assert found_by(asked, answers) == (expected, [])
    models = {sha256 for sha256, path in places.paths.items() if path.suffix == ".gguf"}

    def sent_to(cache: Path) -> set[str]:
        return {path.name for path in cache.iterdir() if not path.suffix}

    assert sent_to(with_clips) <= models
    assert sent_to(with_clips) | sent_to(without) >= models


def test_what_a_slow_worker_has_is_run_by_another_one_and_counts_once(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], tmp_path: Path, tiny: Path, clips: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One of two workers stands still with what it was given, and goes on when all else has answers."""
    monkeypatch.setattr(client, "LEAST_SECONDS", 0.5)
    answered = Counter[Pair]()
    with cluster_in(tmp_path) as cluster:
        for _ in range(2):
            cluster.start_worker("--root", tiny, "--root", clips.parent)
        slow = cluster.workers[-1]

        def answers(queue: Queue) -> Iterator[Outcome]:
            for outcome in on(cluster, asked, places)(queue):
                yield outcome
                answered[outcome.job.pair] += 1
                if answered.total() == 1:
                    slow.send_signal(signal.SIGSTOP)
                if answered.total() == len(expected) - 2:
                    slow.send_signal(signal.SIGCONT)

        assert found_by(asked, answers) == (expected, [])
    assert set(answered.values()) == {1}


def test_a_clip_that_crashes_is_tried_three_times_and_others_go_on(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], tmp_path: Path, tiny: Path, clips: Path
) -> None:
    (notes := tmp_path / "notes").mkdir()
    clip = asked.clips[2].sha256
    with cluster_in(tmp_path) as cluster:
        preload = Path(__file__).with_name("crashing_preload.py")
        cluster.start_worker("--script", CRASHING, "--crash", clip, "--notes", notes, preload=preload)
        one_file = asked_of(tiny, [SMALLER], clips)
        found, failed = found_by(one_file, on(cluster, one_file, places))
        pid = cluster.workers[0].poll()
    assert [(one.job.pair.clip, one.tries) for one in failed] == [(clip, 3)], failed[0].reason
    assert failed[0].reason == "its process was killed by SIGABRT: GGML_ASSERT: what no clip should cause"
    assert pid is None, "the worker itself goes on"
    assert len(list(notes.iterdir())) == 3
    assert len(found) == len(asked.clips) - 1
    assert found.items() <= expected.items()


def test_a_scheduler_that_is_started_again_is_given_what_has_no_answer(
    asked: Asked, places: LocalPlaces, expected: dict[str, object], tmp_path: Path, tiny: Path, clips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with cluster_in(tmp_path) as cluster:
        roots = "--root", tiny, "--root", clips.parent
        cluster.start_worker(*roots)

        def answers(queue: Queue) -> Iterator[Outcome]:
            for n, outcome in enumerate(on(cluster, asked, places)(queue)):
                yield outcome
                if n == 5:
                    cluster.stop_scheduler()
                    cluster.start_scheduler()
                    cluster.start_worker(*roots)

        assert found_by(asked, answers) == (expected, [])
    assert "the scheduler is lost" in capsys.readouterr().err


def test_a_cluster_out_of_reach_ends_the_command_with_what_is_answered_kept(
    cluster: Cluster, asked: Asked, places: LocalPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    tiny: Path, clips: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    monkeypatch.setattr(client, "CONNECT", 0.5)
    with pytest.raises(InputError, match=r"tcp://127.0.0.1:9 is out of reach for 1 s.*the same command resumes"):
        found_by(asked, lambda queue: answer_on_cluster(queue, asked.models, places, ClusterAddress("127.0.0.1:9")))
    with cluster_in(tmp_path) as lonely, pytest.raises(InputError, match="has no workers for 1 s; start some"):
        found_by(asked, on(lonely, asked, places))


def test_workers_of_other_versions_are_refused(
    cluster: Cluster, asked: Asked, places: LocalPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start_worker()
    here = station.versions_here()
    monkeypatch.setattr(station, "versions_here", lambda packages: here | {"ggml-python": "99"})
    with pytest.raises(InputError, match=r"--cluster tcp://.*: has ggml-python .*; expected 99, as here; install "):
        found_by(asked, on(cluster, asked, places))


def test_a_clip_that_changes_before_it_is_sent_is_refused(
    cluster: Cluster, tiny: Path, clips: Path, tmp_path: Path
) -> None:
    sounds = shutil.copytree(clips.parent, tmp_path / "clips")
    wav = sounds / "1.wav"
    data = wav.read_bytes()[:-2]
    wav.write_bytes(data + b"\1\1")  # as no worker has it
    asked = asked_of(tiny, [SMALLER], sounds / "clips.jsonl", n=2)
    places = places_of(tiny, sounds)
    wav.write_bytes(data + b"\2\2")
    with pytest.raises(InputError, match=r"1.wav: was changed while it was sent; let nothing write to it"):
        found_by(asked, on(cluster, asked, places))


def test_tls_needs_certificates(asked: Asked, places: LocalPlaces) -> None:
    says = "tls://127.0.0.1:9 takes certificates, and Dask's configuration names none; set DASK_DISTRIBUTED__COMM__TLS"
    with pytest.raises(InputError, match=says):
        found_by(
            asked, lambda queue: answer_on_cluster(queue, asked.models, places, ClusterAddress("tls://127.0.0.1:9"))
        )


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates")
def test_encrypted_with_certificates(places: LocalPlaces, tmp_path: Path, tiny: Path, clips: Path) -> None:
    pem = tmp_path / "both.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", pem, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    settings = {"ca-file": str(pem), "client.cert": str(pem), "client.key": str(pem)}
    asked = asked_of(tiny, [SMALLER], clips, n=2)
    with cluster_in(tmp_path, pem) as cluster:
        cluster.start_worker("--root", tiny, "--root", clips.parent)
        with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in settings.items()}):
            found, failed = found_by(asked, on(cluster, asked, places))
    assert len(found) == 2
    assert not failed


def test_workers_that_die_on_a_batch_leave_its_other_jobs_alone() -> None:
    from distributed import KilledWorker

    from mimo_agreement.cluster.batches import Batch, QueuedJobs
    from mimo_agreement.run.jobs import jobs_of
    from tests.mimo_agreement.run.test_jobs import ASKED

    jobs = jobs_of(ASKED)[:3]
    running = client.Running(
        QueuedJobs(Queue([], lambda hearing: None)), NotImplemented, LocalPlaces({}), ClusterAddress("127.0.0.1:9")
    )
    error = KilledWorker("key", None, 3)
    assert list(running._erred(Batch(tuple(jobs)), error)) == []
    assert [batch.jobs for batch in running.again] == [(job,) for job in jobs]
    [failed] = running._erred(running.again[0], error)
    assert failed == Failed(jobs[0], 4, "the workers that had it died")
