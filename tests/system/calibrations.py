"""Importance matrices of small checkpoints, of random sums, as mimo-calibrate and llama-imatrix write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.formats.imatrix import write_calibration
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.calibrated import matrices_of
from tests.opened import model_of_checkpoint

COUNT = 50
Columns = dict[str, ColumnSums]


def columns_of(model: SourceModel, seed: int = 0) -> Columns:
    """Sums by the names of every layout: what reads the same has the same."""
    of_source: dict[str, ColumnSums] = {}
    found = {}
    for tensor in matrices_of(model.family, model.dims):
        if tensor.role == "embedding":
            continue
        first, row = tensor.sources[0].name, tensor.shape[-1]
        key = first.replace("k_proj", "q_proj").replace("v_proj", "q_proj")
        if key not in of_source:
            random = np.random.default_rng([seed, len(of_source)])
            squares = (random.standard_normal(row) ** 4 * COUNT).astype(np.float32)
            of_source[key] = ColumnSums(squares, np.zeros(row, np.float32), COUNT)
        found[tensor.name] = of_source[key]
    return found


def write_imatrix(
    folder: Path, path: Path, change: Callable[[Columns], Any] = lambda columns: None, seed: int = 0,
    architecture: str | None = None, name: str = "", is_synthetic: bool = False,
) -> Path:  # fmt: skip
    """A calibration file of the checkpoint in a folder, whose sums `change` may change, collected from a
    model of that name, with synthetic speech or recordings."""
    model = model_of_checkpoint(open_checkpoint(str(folder)))
    columns = columns_of(model, seed)
    change(columns)
    named = model.family.architecture if architecture is None else architecture
    write_calibration(path, Calibration(path, "", named, columns, model=name, is_synthetic=is_synthetic))
    return path
