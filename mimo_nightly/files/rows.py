"""Compare every row of a target's files with its checkpoint, given the importance matrix that they were made with."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint, model_of_file
from mimo_families.opening import OpenCheckpoints, open_source
from mimo_families.registry import system_of
from mimo_families.same_model import check_same
from mimo_nightly.config import Target
from runtime_check.tensors.compare import compare_tensors
from runtime_check.tensors.records import TensorCheck

Pairs = list[tuple[SourceModel, SourceModel]]


def files_of_checkpoint(main: Path, others: Iterable[Path], files: OpenFiles) -> list[Path]:
    """The files that are made of the main one's checkpoint: those that are named after it, and itself."""
    return [main, *(others if system_of(files.family(main)).companion_prefix else ())]


def open_pairs(target: Target, paths: Iterable[Path], files: OpenFiles, checkpoints: OpenCheckpoints) -> Pairs:
    """Each file with its checkpoint. Raises InputError if that cannot be opened."""
    found = []
    for path in paths:
        family = files.family(path)
        source = open_source(target.rows, family, checkpoints)
        found.append((model_of_file(path, files), model_of_checkpoint(source, family)))
    return found


def check_same_model(pairs: Pairs) -> None:
    """Raise InputError for a file of another model than its checkpoint."""
    for ours, theirs in pairs:
        check_same(ours, theirs)


def compare_rows(pairs: Pairs, imatrix: Path | None, threads: int) -> Iterator[TensorCheck]:
    """The comparison of each file. Raises InputError for an importance matrix that it was not made with, and for one
    that cannot be read."""
    calibration = read_calibration(imatrix) if imatrix else None
    for ours, theirs in pairs:
        yield compare_tensors(ours, theirs, threads, calibration)
