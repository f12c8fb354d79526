"""What runs packs in a worker of Dask: processes of its own, one for each thread of the worker."""

import sys
from collections.abc import Iterator, Mapping

from mimo_agreement.cluster.places import FileFacts
from mimo_agreement.cluster.station import IDLE, OPERATOR, PACKAGES, Station
from mimo_agreement.run.processes.workers import Process, start

from .jobs import CalibratedModel, Collected, Pack, PackSetup

WORKING = "working"  # memory that no other process shares
COMMAND = (sys.executable, "-m", "mimo_api.calibrating.worker")


class CalibrationStation(Station):
    """The station of a calibration of one model."""

    packages = (*PACKAGES, "torch")
    at_once = 1  # a pack is as much as there is memory for

    def __init__(self, run: str, model: CalibratedModel, files: Mapping[str, FileFacts]) -> None:
        super().__init__(run, [], files)
        self.model = model

    def needed(self, pack: Pack) -> Iterator[str]:
        """The SHA-256 of every file that a pack needs."""
        yield from self.model.hashes
        yield from (piece.clip for piece in pack.pieces)

    def memory(self, collected: object) -> Mapping[str, int]:
        """The bytes that a pack took: what was mapped is not among them, since shards are read."""
        return {WORKING: collected.peak} if isinstance(collected, Collected) else {}

    def begin(self) -> Process:
        """Start a process that runs packs."""
        return start(PackSetup(self.model, self.places, OPERATOR.threads, IDLE), COMMAND)
