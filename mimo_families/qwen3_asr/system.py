"""One file as a system: clip → log-mel features → audio tokens → prompt → response."""

from collections.abc import Mapping

from mimo_convert.model.model_file import ModelFile
from quantize.errors import InputError
from runtime_check.run.system import NO_WORK, Compute, System, SystemType, Work

from . import REPO
from .layout import FAMILY


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open a file. Raises InputError: it cannot be run yet."""
    raise InputError(files[FAMILY.role].path, "cannot be run yet", todo="convert with --no-check")


SYSTEM = SystemType(
    name="qwen3_asr",
    family=FAMILY,
    stages=(),
    open=open_system,
    reference=f"{__package__}.reference",
    published={FAMILY.role: REPO},
)
