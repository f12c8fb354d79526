"""Steps that every reference shares: wait for shards, and validate and export stages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from quantize.errors import InputError

VERSION: str = torch.__version__


def fetch(checkpoints: Iterable[Checkpoint]) -> None:
    """Wait until every shard can be read. Raises InputError if one cannot be downloaded."""
    for checkpoint in checkpoints:
        checkpoint.fetch()


def arrays_of(stages: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Export stages as float32 and int32 arrays. Raises InputError, about the checkpoints `names`, for NaN or
    infinity."""
    for name, stage in stages.items():
        if not stage.isfinite().all():
            raise InputError(
                " and ".join(names),
                f"stage {name} holds NaN or infinity",
                todo="the checkpoint is damaged: download it again",
            )
    return {name: (x.float() if x.is_floating_point() else x.int()).numpy() for name, x in stages.items()}
