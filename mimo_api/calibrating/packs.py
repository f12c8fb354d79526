"""Run packs: open the checkpoints, hear the clips, and collect the sums of each piece."""

import resource
from functools import cached_property
from typing import TYPE_CHECKING

from mimo_agreement.cluster.places import HashedPlaces
from mimo_agreement.run.clips import Clips
from mimo_families.registry import systems
from runtime_check.calibrate.heard import cut
from runtime_check.run.references.sources import import_reference

from .checkpoints import opened
from .jobs import CalibratedModel, ClipPiece, Collected, Pack

if TYPE_CHECKING:
    from runtime_check.calibrate.forward import Forward, Forwards


class PackRunner:
    """Runs packs through a model, whose files are in `places`, with so many threads."""

    def __init__(self, model: CalibratedModel, places: HashedPlaces, threads: int) -> None:
        self.wanted, self.places, self.threads = model, places, threads
        self.system = next(one for one in systems() if one.name == model.system)
        self.clips = Clips(places)

    @cached_property
    def model(self) -> "Forwards":
        """The model, opened."""
        checkpoints = {role: opened(files, self.places) for role, files in self.wanted.checkpoints.items()}
        open_forwards = import_reference(self.wanted.system, self.system.calibration, "open_forwards")
        model: Forwards = open_forwards(checkpoints, self.wanted.task)
        return model

    def run(self, pack: Pack) -> Collected:
        """The sums of a pack. Raises InputError for a piece that the model's context does not hold, and for a file that
        is not there, or has changed."""
        from runtime_check.calibrate.collect import collect_pack, using_threads

        with using_threads(self.threads):
            sums = collect_pack([self._forward(piece) for piece in pack.pieces], self.model.weights)
        for sha256 in self.wanted.hashes:
            self.places.path(sha256)  # as it was before
        return Collected(pack, sums, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _forward(self, piece: ClipPiece) -> "Forward":
        clip = cut(self.clips.read(piece.clip), self.system.cutting)[piece.number]
        return self.model.forward(clip, piece.response)
