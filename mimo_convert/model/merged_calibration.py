"""Add up calibrations of one model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mimo_convert.formats.calibration import CALIBRATION, Calibration, CalibrationClip, ColumnSums
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.kernels import Floats
from quantize.quoting import quoted


def merged(calibrations: Sequence[Calibration]) -> Calibration:
    """The sums of calibrations of one model added up, in order; of the others, what the first says of the model.

    Fisher information is averaged by positions. Files of second moments stay with the calibration that they are of.
    Raises InputError for calibrations of different models, and for a clip that was collected twice, or collected by one
    and held out by another.
    """
    first, *others = calibrations
    for other in others:
        check_same_model(first, other)
    if any(other.hessians for other in others):
        tell("second moments are not merged: files of them are those of the first calibration alone")
    names = dict.fromkeys(name for one in calibrations for name in one.columns)
    return replace(
        first,
        sha256="",
        columns={name: sum_of(one.columns[name] for one in calibrations if name in one.columns) for name in names},
        fisher=dict(fishers(calibrations)),
        clips=tuple(clips_of(calibrations)),
        datasets=tuple(dict.fromkeys(text for one in calibrations for text in one.datasets)),
        tokens=sum(one.tokens for one in calibrations),
        is_synthetic=all(one.is_synthetic for one in calibrations),
    )


def check_same_model(first: Calibration, other: Calibration) -> None:
    """Raise InputError unless two calibrations are of the same model, as far as they tell."""
    for what in ("architecture", "model"):
        ours, theirs = getattr(first, what), getattr(other, what)
        if ours != theirs:
            expected = f"{ours or 'none'}, as of {quoted(first.where)}"
            raise InputError(other.where, f"is of the {what} {theirs or 'that no file names'}", expected=expected)
    for name in first.columns.keys() & other.columns.keys():
        n, m = len(first.columns[name].squares), len(other.columns[name].squares)
        if n != m:
            raise InputError(other.where, f"has {m} columns of {name}", expected=f"{n}, as {quoted(first.where)}")


def sum_of(columns: Iterable[ColumnSums]) -> ColumnSums:
    """The sum of sums over different positions; without Σ x if one lacks it."""
    every = list(columns)
    squares = np.sum([one.squares.astype(np.float64) for one in every], axis=0)
    has_sums = all(len(one.sums) for one in every)
    sums = np.sum([one.sums.astype(np.float64) for one in every], axis=0) if has_sums else np.empty(0)
    return ColumnSums(squares.astype(np.float32), sums.astype(np.float32), sum(one.count for one in every))


def fishers(calibrations: Sequence[Calibration]) -> Iterator[tuple[str, Floats]]:
    """The Fisher information of each tensor, averaged by the positions of those that have it."""
    for name in dict.fromkeys(name for one in calibrations for name in one.fisher):
        every = [(one.fisher[name], positions(one.columns, name)) for one in calibrations if name in one.fisher]
        weights = [count for _, count in every]
        yield name, np.average([of for of, _ in every], axis=0, weights=weights).astype(np.float32)


def positions(columns: Mapping[str, ColumnSums], name: str) -> int:
    """The positions that a tensor was used at, at least 1."""
    return max(1, columns[name].count) if name in columns else 1


def clips_of(calibrations: Sequence[Calibration]) -> Iterator[CalibrationClip]:
    """The clips of all, each once. Raises InputError for one that has several uses, or was collected twice."""
    seen: dict[str, tuple[Calibration, CalibrationClip]] = {}
    for one in calibrations:
        for clip in one.clips:
            known, before = seen.setdefault(clip.sha256, (one, clip))
            if known is one:
                yield clip
            elif before.part != clip.part:
                what = f"has the clip {quoted(clip.name)} as {clip.part}"
                raise InputError(one.where, what, expected=f"{before.part}, as in {quoted(known.where)}")
            elif clip.part == CALIBRATION:
                what = f"was calibrated with the clip {quoted(clip.name)}, as {quoted(known.where)} was"
                raise InputError(one.where, what, expected="other clips", todo="leave it out")
