"""Calibration files of small checkpoints with second moments beside them, of inputs whose columns correlate."""

from pathlib import Path

import numpy as np

from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.formats.hessians import SecondMoment, file_of, folder_of, write_layer
from mimo_convert.formats.imatrix import write_calibration
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.plan.calibrated import matrices_of
from quantize.kernels import Floats
from tests.opened import model_of_checkpoint

POSITIONS = 1024


def inputs(n: int, positions: int, random: np.random.Generator, *, noise: bool) -> Floats:
    """Positions of an input of n columns: neighbours correlate, some are large; or, of noise, nothing."""
    x = random.standard_normal((positions, n))
    if not noise:
        scales = np.exp(np.random.default_rng(n).standard_normal(n))
        mixing = np.tril(0.95 ** np.maximum(np.arange(n)[:, None] - np.arange(n), 0))
        x = x @ mixing * scales
    return x.astype(np.float32)


def write_calibrated(folder: Path, path: Path, *, noise: bool = False) -> Path:
    """A calibration file of the checkpoint in `folder`, with its folder of second moments."""
    model = model_of_checkpoint(open_checkpoint(str(folder)))
    columns, by_input = dict[str, ColumnSums](), dict[str, list[str]]()
    widths = {}
    for tensor in matrices_of(model.family, model.dims):
        if tensor.role == "embedding":
            continue
        key = tensor.sources[0].name
        for other, first in (("k_proj", "q_proj"), ("v_proj", "q_proj"), ("up_proj", "gate_proj")):
            key = key.replace(other, first)
        if tensor.name not in by_input.setdefault(key, []):
            by_input[key].append(tensor.name)
        widths[key] = tensor.shape[-1]
    folder_of(path).mkdir()
    moments = []
    for number, (key, names) in enumerate(by_input.items()):
        random, n = np.random.default_rng([1, number]), widths[key]
        x = inputs(n, POSITIONS, random, noise=noise)
        packed = (x.T @ x / np.float32(POSITIONS))[np.tril_indices(n)]
        columns |= dict.fromkeys(names, ColumnSums(np.square(x).sum(axis=0), x.sum(axis=0), POSITIONS))
        moments.append(SecondMoment(tuple(names), [packed], inputs(n, 128, random, noise=noise), POSITIONS))
    file = file_of(folder_of(path), 0)
    hashes = {file.name: write_layer(file, moments, "test")}
    write_calibration(path, Calibration(path, "", model.family.architecture, columns, hessians=hashes))
    return path
