"""Calibrations of the tiny checkpoints with made-up numbers, as if clips had been collected."""

from pathlib import Path

import numpy as np

from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.formats.imatrix import write_calibration
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint
from mimo_convert.plan.plan import Options, make_plan
from mimo_families.opening import OpenCheckpoints, open_main
from quantize.types import F16

COLLECTED = ("matrix", "encoder_matrix", "head")
TOKENS, POSITIONS = 50, 100


def model_of(name: str) -> SourceModel:
    """The main model of a bundled checkpoint."""
    system, main = open_main(name, OpenCheckpoints(stream=False, adapter=None))
    return model_of_checkpoint(main, system.family)


def calibration_of(model: SourceModel, where: Path, seed: int = 0) -> Calibration:
    """A calibration for separate and fused tensors, of which no two are equally sensitive."""
    draw = np.random.default_rng(seed)
    columns, fisher = {}, {}
    for fuse in (False, True) if model.family.can_fuse_qkv else (False,):
        for tensor in make_plan(model, F16, Options(fuse_qkv=fuse)).tensors:
            if tensor.role in COLLECTED and len(tensor.shape) == 2:
                rows, n = tensor.shape
                squares = (draw.lognormal(size=n) * POSITIONS).astype(np.float32)
                columns[tensor.name] = ColumnSums(squares, np.zeros(n, np.float32), POSITIONS)
                fisher[tensor.name] = (draw.lognormal(size=rows) * 10 ** draw.normal(-3, 1)).astype(np.float32)
    return Calibration(where, "0" * 64, model.family.architecture, columns, fisher, tokens=TOKENS)


def written_calibration(name: str, where: Path) -> Path:
    """The file of a calibration of a bundled checkpoint."""
    write_calibration(where, calibration_of(model_of(name), where))
    return where
