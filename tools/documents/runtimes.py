"""The table of programs that run the files: families × runtimes, as the registry has them."""

from collections.abc import Iterator, Sequence

from runtime_check.run.system import SystemType

OURS = "`mimo-check`"
UNKNOWN = "?"
FILE, COMPANION, CLIP = "{}-q4_k.gguf", "{}-q8_0.gguf", "talk.wav"


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
    names = [system.published.get(family.role, system.name).rpartition("/")[2] for family in system.families]
    architectures = ", ".join(f"`{family.architecture}`" for family in system.families)
    alone = "" if system.companions else " alone"
    return f"{' with '.join(names)}{alone} ({architectures})"


def answer(system: SystemType, name: str) -> str:
    """Whether the program of that name runs the files of a system."""
    if any(runtime.name == name for runtime in system.runtimes):
        return "**yes**"
    return "no" if any(program.name == name for program in system.not_run_by) else UNKNOWN


def commands(systems: Sequence[SystemType]) -> Iterator[str]:
    """How each program that runs files is called."""
    for system in systems:
        places = {"file": FILE.format(system.family.file_stem), "clip": CLIP}
        if system.companions:
            places["companion"] = COMPANION.format(system.companions[0].file_stem)
        for runtime in system.runtimes:
            yield f"In {runtime.name}: `{' '.join(runtime.command).format(**places)}`."
