"""Have packs run on a cluster, and add up the sums as they come."""

from collections import deque
from collections.abc import Sequence
from typing import cast

from mimo_agreement.cluster.address import OPTION, ClusterAddress
from mimo_agreement.cluster.batches import Batch, Source
from mimo_agreement.cluster.client import run_on_cluster
from mimo_agreement.run.jobs import Failed
from mimo_agreement.run.places import LocalPlaces
from mimo_convert.listener import phase
from quantize.errors import InputError
from runtime_check.calibrate.per_clip.in_order import PackSums

from .asked import RESUME
from .jobs import CalibratedModel, Collected, Pack
from .station import CalibrationStation


class WaitingPacks(Source):
    """Packs that wait, each of which is a batch: it takes many times what it takes to read the weights."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.waiting = deque(packs)

    def __len__(self) -> int:
        return len(self.waiting)

    def next_batch(self, slots: int) -> Batch | None:
        """The next pack; None if there is none."""
        return Batch((self.waiting.popleft(),)) if self.waiting else None

    def give_back(self, pack: Pack) -> None:
        """Put a pack back that was not tried."""
        self.waiting.appendleft(pack)

    def ended(self, pack: Pack) -> None:
        """A pack has its sums; no other one waited for that."""


def sums_on_cluster(
    packs: Sequence[Pack], kept: PackSums, model: CalibratedModel, places: LocalPlaces, address: ClusterAddress
) -> None:
    """Run the packs whose sums are not `kept` yet on the cluster at `address`, and keep what comes.

    Raises InputError as `run_on_cluster`, and for a pack on which processes end; what came before is kept.
    """
    left = [pack for pack in packs if not kept.has(pack.number)]
    whole = sum(pack.seconds for pack in packs)
    outcomes = run_on_cluster(
        WaitingPacks(left), lambda run, files: CalibrationStation(run, model, files), places, address
    )
    with phase("calibrating", whole, "s of audio", done=whole - sum(pack.seconds for pack in left)) as progress:
        for outcome in outcomes:
            match outcome:
                case Failed():
                    raise without_sums(outcome)
                case Collected(pack, sums, _):
                    kept.keep(pack.number, sums)
                    progress.advance(pack.seconds, ", ".join(pack.names))


def without_sums(failed: Failed) -> InputError:
    """The error for a pack on which processes, or workers, ended."""
    pack = cast(object, failed.job)
    assert isinstance(pack, Pack)
    what = f"no sums of {', '.join(pack.names)} after {failed.tries} tries: {failed.reason}"
    return InputError(OPTION, what, todo=f"leave them out, or give workers more memory; {RESUME}")
