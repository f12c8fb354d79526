"""A calibration on a local cluster of separate processes: the file is that of one machine, byte for byte, whatever dies
or is interrupted."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_agreement.run.jobs import Failed
from mimo_api import CalibrateOptions, Progress, calibrate
from mimo_families.qwen3_asr.system import TINY
from tests.mimo_agreement.cluster.clusters import Cluster, cluster_in

pytest.importorskip("torch")
pytest.importorskip("distributed")

from mimo_api.calibrating.cluster import without_sums
from mimo_api.calibrating.jobs import Pack

MODEL = "tiny-qwen3"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, manifest: Path) -> Iterator[Cluster]:
    """One worker may read the checkpoint and the clips, the other one is sent everything."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start_worker("--root", TINY / "model", "--root", manifest.parent)
        yield cluster


def options(model: str, manifest: Path, folder: Path) -> CalibrateOptions:
    return CalibrateOptions(model, folder / "c.gguf", [manifest], 1, language="english")


@pytest.fixture(scope="module")
def expected(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of one machine."""
    folder = tmp_path_factory.mktemp("here")
    calibrate(options(MODEL, manifest, folder))
    return (folder / "c.gguf").read_bytes()


def done_at(seconds: float, then: Callable[[], object]) -> Callable[[Progress], None]:
    """Do something once so many seconds of audio have sums."""
    left = [then]

    def progress(now: Progress) -> None:
        if now.phase == "calibrating" and now.done >= seconds and left:
            left.pop()()

    return progress


def interrupt() -> None:
    raise KeyboardInterrupt


def test_one_that_was_interrupted_and_lost_a_worker_gives_the_file_of_one_machine(
    cluster: Cluster, manifest: Path, expected: bytes, tmp_path: Path
) -> None:
    """The second worker is sent every file once, and killed when the run is resumed."""
    cluster.start_worker()
    sent, begun, said = Counter[str](), list[float](), list[str]()

    def watching(then: Callable[[Progress], None]) -> Callable[[Progress], None]:
        def progress(now: Progress) -> None:
            if now.phase.startswith("sending") and now.done == 0:
                sent[now.phase] += 1
            if now.phase == "calibrating":
                begun.append(now.done)
            then(now)

        return progress

    on_cluster = replace(options(MODEL, manifest, tmp_path), cluster=cluster.address)
    with pytest.raises(KeyboardInterrupt):
        calibrate(on_cluster, progress=watching(done_at(5, interrupt)))
    begun.clear()
    kill = done_at(10, lambda: cluster.workers[-1].send_signal(signal.SIGKILL))
    calibrate(on_cluster, progress=watching(kill), message=said.append)
    assert sent.keys() >= {f"sending {path.name}" for path in (TINY / "model").glob("*.safetensors")}
    assert set(sent.values()) == {1}
    assert begun[0] >= 5
    assert any(line.endswith("c.gguf.part: resumed") for line in said)
    assert cluster.workers[-1].wait() == -signal.SIGKILL
    assert (tmp_path / "c.gguf").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["c.gguf"]


def test_clips_without_sums_are_named() -> None:
    pack = Pack(0, (), ("a.wav", "b.wav"), 9.0)
    assert str(without_sums(Failed(pack, 3, "its process was killed by SIGKILL"))) == (
        "--cluster: no sums of a.wav, b.wav after 3 tries: its process was killed by SIGKILL; leave them out, or give "
        "workers more memory; the same command resumes"
    )
