"""What is asked of a cluster: packs of the pieces of clips, and the model by the hashes of its files."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from mimo_agreement.run.places import LocalPlaces
from mimo_convert.model.checkpoint import Checkpoint
from quantize.errors import InputError
from runtime_check.audio.cutting import Cutting
from runtime_check.audio.manifests import AudioFile
from runtime_check.calibrate.heard import Piece, pieces_of
from runtime_check.calibrate.per_clip.packs import packs_of
from runtime_check.run.system import SystemType, Task

from .checkpoints import files_of
from .jobs import CalibratedModel, ClipPiece, Pack


def packs_over(files: Iterable[AudioFile], responses: Mapping[str, Sequence[int]], cutting: Cutting) -> list[Pack]:
    """The packs of the clips, whose pieces have `responses` by their names; one without is left out. Raises InputError
    if none is left."""
    pieces, seconds = list[ClipPiece](), list[float]()
    names: dict[str, str] = {}
    for piece in pieces_of(files, cutting):
        if piece.name in responses:
            pieces.append(_asked(piece, responses[piece.name]))
            seconds.append(piece.clip.seconds)
            names[piece.file.sha256] = piece.file.path.name
    if not pieces:
        raise InputError("--audio", "no clip is left to calibrate with", todo="give more clips, or their texts")
    found = []
    for number, (begin, end) in enumerate(pairwise(accumulate(packs_of(seconds), initial=0))):
        some = tuple(pieces[begin:end])
        of_clips = tuple(dict.fromkeys(names[piece.clip] for piece in some))
        found.append(Pack(number, some, of_clips, sum(seconds[begin:end])))
    return found


def _asked(piece: Piece, response: Sequence[int]) -> ClipPiece:
    return ClipPiece(piece.file.sha256, piece.number, tuple(response))


def places_of(
    system: SystemType, checkpoints: Mapping[str, Checkpoint], task: Task, files: Iterable[AudioFile]
) -> tuple[CalibratedModel, LocalPlaces]:
    """The model, hashed, and where its files and the clips are."""
    found = {role: files_of(checkpoint) for role, checkpoint in checkpoints.items()}
    paths = {file.sha256: file.path for file in files}
    states: dict[str, str] = {}
    for _, places in found.values():
        paths, states = {**paths, **places.paths}, {**states, **places.states}
    model = CalibratedModel(system.name, {role: one for role, (one, _) in found.items()}, task)
    return model, LocalPlaces(paths, states)
