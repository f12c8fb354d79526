"""The table of programs that run the files: families × runtimes, as the registry has them."""

import shlex
from collections.abc import Iterator, Sequence

from mimo_convert.plan.variant import file_name
from runtime_check.run.system import SystemType

OURS = "`mimo-check`"
UNKNOWN = "?"
TYPE, TYPE_BESIDE, CLIP = "q4_k", "q8_0", "talk.wav"


def lines(systems: Sequence[SystemType]) -> list[str]:
    """The table, a row a system, and the command of each program that runs one."""
    urls = {one.name: one.url for system in systems for one in (*system.runtimes, *system.not_run_by)}
    columns = [OURS, *(f"[{name}]({url})" for name, url in urls.items())]
    return [
        f"| files | {' | '.join(columns)} |",
        "| --- |" + " --- |" * len(columns),
        *(f"| {files_of(system)} | yes | {' | '.join(answer(system, name) for name in urls)} |" for system in systems),
        "",
        *commands(systems),
    ]


def files_of(system: SystemType) -> str:
    """What a system's files are made of, and the architectures that they name."""
    families = (
        system.families[:1] if system.layout_of else system.families
    )  # the others are made of the same checkpoint
    names = [system.published.get(family.role, system.name).rpartition("/")[2] for family in families]
    architectures = ", ".join(f"`{family.architecture}`" for family in system.families)
    alone = f" by `--runtime {system.runtime}`" if system.layout_of else "" if system.companions else " alone"
    return f"{' with '.join(names)}{alone} ({architectures})"


def answer(system: SystemType, name: str) -> str:
    """Whether the program of that name runs the files of a system."""
    if any(runtime.name == name for runtime in system.runtimes):
        return "**yes**"
    return "no" if any(program.name == name for program in system.not_run_by) else UNKNOWN


def commands(systems: Sequence[SystemType]) -> Iterator[str]:
    """How each program that runs files is called."""
    for system in systems:
        main = file_name(system.family.file_stem, system.family.spelled(TYPE))
        places = {"file": main, "clip": CLIP}
        for companion in system.companions:
            stem = system.companion_prefix + system.family.file_stem if system.companion_prefix else companion.file_stem
            places["companion"] = file_name(stem, companion.spelled(TYPE_BESIDE))
        for runtime in system.runtimes:
            yield f"In {runtime.name}: `{shlex.join(word.format(**places) for word in runtime.command)}`."
