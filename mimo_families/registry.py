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
from .qwen3_asr.llama_cpp.system import SYSTEM as QWEN3_ASR_PAIR
from .qwen3_asr.system import SYSTEM as QWEN3_ASR

__all__ = [
    "SYSTEMS",
    "UPGRADES",
    "families",
    "in_layout",
    "is_companion",
    "made_of",
    "subject_of_earlier",
    "system_of",
    "systems",
]

GROUP = "mimo_convert.families"
SYSTEMS = (MIMO_AUDIO, MIMO_TOKENIZER, QWEN3_ASR, QWEN3_ASR_PAIR)
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


def in_layout(system: SystemType, runtime: str) -> SystemType:
    """The system of the same model in the files that `runtime` loads; empty: `system` itself. Raises InputError if
    there is none."""
    layouts = [other for other in systems() if other.layout_of == system.name]
    found = next((other for other in (layouts if runtime else [system]) if runtime in ("", other.runtime)), None)
    if found is None:
        expected = " or ".join(other.runtime for other in layouts)
        what = f"{runtime} loads no file of {system.family.architecture}"
        raise InputError("--runtime", what, expected=expected, todo="" if expected else "leave it out")
    return found


def made_of(family: Family) -> Family:
    """The family of the checkpoint that files of `family` are made of: its own, unless they are of another layout."""
    for system in systems():
        if system.layout_of and family in system.families:
            return next(other.family for other in systems() if other.name == system.layout_of)
    return family


def is_companion(family: Family) -> bool:
    """Whether files of `family` belong to others, and are no system of their own."""
    return all(system.family.architecture != family.architecture for system in systems())


def system_of(family: Family) -> SystemType:
    """The system whose main file is of `family`. Raises InputError if its files are companions only."""
    for system in systems():
        if system.family.architecture == family.architecture:
            return system
    raise InputError(family.architecture, "cannot be run by itself", todo="give the file that it belongs to")
