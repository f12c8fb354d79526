"""What a worker does with packs, without a scheduler."""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed")

from mimo_agreement.cluster.places import FileFacts
from mimo_agreement.cluster.station import Answered, Lacking
from mimo_agreement.run.jobs import Failed
from mimo_api.calibrating import station
from mimo_api.calibrating.jobs import CalibratedModel, CheckpointFiles, ClipPiece, Pack
from mimo_api.calibrating.station import CalibrationStation
from runtime_check.run.system import Task

DATA = {hashlib.sha256(data).hexdigest(): data for data in (b"config", b"clip")}
CONFIG, CLIP = DATA
MODEL = CalibratedModel("qwen3_asr", {"asr": CheckpointFiles("tiny", {"config.json": CONFIG})}, Task())
PACK = Pack(3, (ClipPiece(CLIP, 0, (1, 2)),), ("a.wav",), 2.0)


@pytest.fixture
def begun(tmp_path: Path) -> CalibrationStation:
    found = CalibrationStation("run", MODEL, {of: FileFacts(of[:1], len(data)) for of, data in DATA.items()})
    state = SimpleNamespace(nthreads=2)
    found.setup(SimpleNamespace(address="tcp://here:1", local_directory=str(tmp_path), state=state))
    return found


def test_a_pack_needs_the_checkpoint_and_its_clips(begun: CalibrationStation) -> None:
    assert begun.answer([PACK]) == Lacking("tcp://here:1", [CONFIG, CLIP])


def test_a_pack_on_which_processes_end_is_tried_three_times(
    begun: CalibrationStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "COMMAND", (sys.executable, "-c", "raise SystemExit('no memory is left')"))
    for of, data in DATA.items():
        begun.places.cache.mkdir(parents=True, exist_ok=True)
        (begun.places.cache / of).write_bytes(data)
    answered = begun.answer([PACK])
    assert isinstance(answered, Answered)
    assert answered.outcomes == [Failed(PACK, 3, "its process ended with exit status 1: no memory is left")]


def test_pytorch_must_be_of_the_same_version(begun: CalibrationStation) -> None:
    pytest.importorskip("torch")
    begun.versions = {**begun.versions, "torch": "0.1"}
    refused = begun.answer([PACK])
    assert refused.error.args[0].startswith("--cluster tcp://here:1: has torch ")  # type: ignore[union-attr]
