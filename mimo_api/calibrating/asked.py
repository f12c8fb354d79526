"""What a calibration can be asked for: outputs that are free, a file that answers, and what a cluster can collect."""

import os
from collections.abc import Iterable
from pathlib import Path

from mimo_agreement.cluster.address import OPTION
from mimo_convert.files import check_can_write, is_stream
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import model_of_checkpoint, model_of_file
from mimo_convert.write.made import EXISTS, FORCE
from mimo_families.same_model import check_same
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.run.system import SystemType

RESUME = "the same command resumes"
LEAST_ANSWERING = TYPES["q8_0"]  # of a file whose answers are taken for the model's own


def check_output(path: Path | None, *, force: bool) -> None:
    """Raise InputError for an output that cannot be written, and for a file that is there already, unless `force`."""
    check_can_write(path)
    if path and not force and os.path.exists(path) and not is_stream(path):
        raise InputError(path, EXISTS, todo=FORCE)


def check_asked(*, collects: bool, sensitivity: bool, hessian: bool) -> None:
    """Raise InputError, before anything is opened, for what is not collected clip by clip."""
    for option, asked in (("--sensitivity", sensitivity), ("--hessian", hessian)):
        if asked:
            what = f"collects Σx² and Σx alone, and {option} asks for more"
            raise InputError(OPTION, what, todo=f"leave one of them out: {option} takes one machine")
    if not collects:
        raise InputError(OPTION, "there is no --audio to run, only --in to add", todo="leave it out")


def check_can_travel(checkpoints: Iterable[Checkpoint]) -> None:
    """Raise InputError for a checkpoint with an adapter, whose files workers are not given."""
    for one in checkpoints:
        if one.adapter:
            what = f"{one.name} has the adapter {one.adapter.name}, which workers are not given"
            raise InputError(OPTION, what, todo="leave it out: an adapter takes one machine")


def check_answering(path: Path, system: SystemType, main: Checkpoint, files: OpenFiles) -> None:
    """Raise InputError unless the file is of the checkpoint, and of a type that answers as the model does."""
    check_same(model_of_checkpoint(main, system.family), model_of_file(path, files))
    tensors = files.header(path).tensors.values()
    least = min((tensor for tensor in tensors if len(tensor.shape) > 1), key=lambda one: one.ggml_type.bits_per_weight)
    if least.ggml_type.bits_per_weight < LEAST_ANSWERING.bits_per_weight:
        expected = f"{LEAST_ANSWERING.name} or more: its answers stand for the model's own"
        raise InputError(path, f"tensor {least.name} is {least.ggml_type.name}", expected=expected)
