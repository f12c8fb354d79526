"""Registry of families: those of this package, and those of installed packages by the entry point group
`mimo_convert.families` (docs/families.md)."""

from functools import cache
from importlib.metadata import entry_points

from mimo_convert.model.family import Family
from quantize.errors import InputError
from runtime_check.run.system import SystemType

from .mimo_audio.earlier import SCHEMA_1, as_schema_2
from .mimo_audio.earlier import subject_of as subject_of_earlier
from .mimo_audio.system import SYSTEM as MIMO_AUDIO
from .mimo_tokenizer.system import SYSTEM as MIMO_TOKENIZER
from .qwen3_asr.system import SYSTEM as QWEN3_ASR

__all__ = ["SYSTEMS", "UPGRADES", "families", "subject_of_earlier", "system_of", "systems"]

GROUP = "mimo_convert.families"
SYSTEMS = (MIMO_AUDIO, MIMO_TOKENIZER, QWEN3_ASR)
UPGRADES = {SCHEMA_1: as_schema_2}  # of JSON reports that earlier versions wrote


@cache
def systems() -> tuple[SystemType, ...]:
    """Every system, those of this package first."""
    found = [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]
    return (*SYSTEMS, *found)


@cache
def families() -> tuple[Family, ...]:
    """Every family, once."""
    return tuple({family.architecture: family for system in systems() for family in system.families}.values())


def system_of(family: Family) -> SystemType:
    """The system whose main file is of `family`. Raises InputError if its files are companions only."""
    for system in systems():
        if system.family.architecture == family.architecture:
            return system
    raise InputError(family.architecture, "cannot be run by itself", todo="give the file that it belongs to")
