"""Clips to measure calibrated files on: those that the calibration holds out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mimo_convert.formats.calibration import HOLD_OUT, Calibration
from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.model.provenance import IMATRIX
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import AudioFile
from runtime_check.run.compare.fidelity import HeldOut

SHOWN = 3  # clips that a message names


def held_out_of(clips: Sequence[AudioFile], calibration: Calibration) -> tuple[Sequence[AudioFile], HeldOut]:
    """The clips that the calibration holds out, by their hash; if none is, all clips, as long as it knows none of them.

    What is left out, and that clips are others, is told. Raises InputError, naming them, if all that it knows of the
    clips were calibrated with.
    """
    parts = {clip.sha256: clip.part for clip in calibration.clips}
    chosen = [clip for clip in clips if parts.get(clip.sha256) == HOLD_OUT]
    used = [clip for clip in clips if parts.get(clip.sha256, HOLD_OUT) != HOLD_OUT]
    name = quoted(calibration.where.name)
    if not chosen and used:
        more = f", and {len(used) - 1} more were used, too" if used[1:] else ""
        what = f"is one of the {parts[used[0].sha256]} clips of {name}{more}"
        todo = "give clips that it was not made with"
        expected = expected_clips(calibration) if HOLD_OUT in parts.values() else f"other clips: {name} holds none out"
        raise InputError(used[0].path, what, expected=expected, todo=todo)
    found = HeldOut(calibration.where.name, calibration.sha256, calibration.is_synthetic, bool(chosen))
    if not chosen:
        tell(f"{len(clips)} clips are other ones than {name} holds out: {expected_clips(calibration)}")
        return clips, found
    if left := len(clips) - len(chosen):
        tell(f"{len(chosen)} clips that {name} holds out; {left} left out, of which it was made with {len(used)}")
    return chosen, found


def expected_clips(calibration: Calibration) -> str:
    """The clips that a calibration holds out, by name."""
    names = [quoted(clip.name) for clip in calibration.clips if clip.part == HOLD_OUT]
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}" if names else "it records none"


def check_calibrated_with(files: Mapping[Path, GGUFFile], calibration: Calibration) -> None:
    """Raise InputError for a file that was calibrated with another one: what is held out here may be what it was made
    with."""
    for path, file in files.items():
        recorded = file.metadata.get(IMATRIX)
        if recorded is not None and recorded != calibration.sha256:
            raise InputError(
                path, f"was calibrated with a file of sha256 {recorded}",
                expected=f"{calibration.sha256}, of {calibration.where}", todo="give that one as --calibration",
            )  # fmt: skip
