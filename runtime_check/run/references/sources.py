"""Sources of a reference: stored activations, checkpoints run in PyTorch, or other GGUF files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimo_convert.installation import installation
from mimo_convert.listener import phase
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.family import Family
from mimo_convert.model.source_model import model_of_checkpoint
from mimo_convert.plan.request import make_request
from quantize.errors import InputError
from quantize.types import F32
from runtime_check.audio.clips import Clip

from ..activations import Activations, Origin
from ..system import ReferenceRun, System, SystemType, Task
from .stored import load_reference

Response = Sequence[int] | None
TAKES_PYTORCH = "is a checkpoint, and comparing with one takes PyTorch, which"
OTHERWISE = "or give a reference that `mimo-check reference` stored where PyTorch is"


class NoPyTorchError(InputError):
    """A checkpoint is the reference, and PyTorch is not installed."""


@dataclass(frozen=True)
class Reference:
    """A reference for the stages of clips.

    `activations(clip, task, response)` computes them, with the logits that predict each token of `response`, or of its
    own response. `stored` are those of a stored reference, which is of one clip; `checkpoints` those that are run, by
    role.
    """

    activations: Callable[[Clip, Task, Response], Activations]
    stored: Activations | None = None
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)

    @property
    def origin(self) -> Origin | None:
        """The origin of a stored reference."""
        return self.stored.origin if self.stored else None


def stored_reference(path: Path, systems: Sequence[SystemType]) -> Reference:
    """A reference that `mimo-check reference` stored for one of `systems`. Raises InputError for any other file."""
    stored = load_reference(path, systems)
    return Reference(lambda clip, task, response: stored, stored)


def checkpoint_reference(run: ReferenceRun, checkpoints: Mapping[str, Checkpoint], dtype: str = "f32") -> Reference:
    """Checkpoints by role, run in PyTorch."""

    def activations(clip: Clip, task: Task, response: Response) -> Activations:
        every = {checkpoint.folder: checkpoint for checkpoint in checkpoints.values()}  # files may be made of one
        nbytes = sum(tensor.nbytes for checkpoint in every.values() for tensor in checkpoint.tensors.values())
        with phase("reference in PyTorch", nbytes):
            return run(checkpoints, clip, task, response, dtype)

    return Reference(activations, checkpoints=checkpoints)


def has_pytorch() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def need_pytorch(source: str) -> None:
    """Raise NoPyTorchError, about the checkpoint `source`, if PyTorch is not installed."""
    if not has_pytorch():
        todo = f"{installation('reference').phrase}, {OTHERWISE}"
        raise NoPyTorchError(source, f"{TAKES_PYTORCH} is not installed", todo=todo)


def pytorch_reference(source: str, system: SystemType) -> ReferenceRun:
    """Import a family's PyTorch reference, before long work. Raises InputError, about the checkpoint `source`, if that
    fails."""
    need_pytorch(source)
    run: ReferenceRun = import_reference(source, system.reference)
    return run


def import_reference(source: str, module: str, function: str = "run") -> Any:
    """A function of a module that takes PyTorch. Raises InputError, about the checkpoint `source`, if it cannot
    be imported."""
    try:
        return getattr(import_module(module), function)
    except Exception as error:  # whatever its libraries raise
        what = f"{TAKES_PYTORCH} cannot be imported ({type(error).__name__}: {error})"
        raise InputError(source, what, todo=f"install it again, {OTHERWISE}") from error


def file_reference(open_system: Callable[[], System]) -> Reference:
    """Other GGUF files as reference, with their own response."""
    system = cache(open_system)

    def activations(clip: Clip, task: Task, response: Response) -> Activations:
        return system().run(clip, task, keep_stages=True)

    return Reference(activations)


def check_convertible(checkpoint: Checkpoint, family: Family) -> None:
    """Raise InputError for a checkpoint that could not be converted: missing tensors, an incomplete vocabulary."""
    make_request(model_of_checkpoint(checkpoint, family), [F32])
