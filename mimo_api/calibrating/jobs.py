"""What workers need to collect sums: a checkpoint and clips by the hashes of their files, and the packs to be run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mimo_agreement.cluster.places import HashedPlaces
from runtime_check.calibrate.per_clip.sums import AllSums
from runtime_check.run.system import Task


class CheckpointFiles(NamedTuple):
    """A checkpoint: the model's name, and the SHA-256 of each file by the file's name."""

    name: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class CalibratedModel:
    """The checkpoints of a system by role, by the system's name, and the task of the prompt."""

    system: str
    checkpoints: Mapping[str, CheckpointFiles]
    task: Task

    @property
    def hashes(self) -> Iterator[str]:
        """The SHA-256 of every file."""
        for one in self.checkpoints.values():
            yield from one.files.values()


class ClipPiece(NamedTuple):
    """A piece of a clip, by the clip's SHA-256 and the piece's number, and the token ids of the response to it."""

    clip: str
    number: int
    response: tuple[int, ...]


@dataclass(frozen=True)
class Pack:
    """Pieces that are run together, in order; `names` are those of their clips, `seconds` those of their audio."""

    number: int
    pieces: tuple[ClipPiece, ...]
    names: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Collected:
    """The sums of each piece of a pack, and the most bytes of memory that its process has had."""

    job: Pack
    sums: Sequence[AllSums]
    peak: int


@dataclass(frozen=True)
class PackSetup:
    """What a process needs beside packs: the model, where files are, its number of threads, and for how many seconds it
    waits for a pack before it ends."""

    model: CalibratedModel
    places: HashedPlaces
    threads: int
    idle: float
