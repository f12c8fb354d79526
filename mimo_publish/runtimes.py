"""What users of other runtimes need to know of published files."""

from collections.abc import Collection, Iterator

from mimo_families.registry import systems
from runtime_check.report.records import Report, file_name


def runtime_hints(report: Report, published: Collection[str]) -> Iterator[str]:
    """A line for each runtime that finds a companion only by a name that none of the published files has."""
    beside = {check.main.architecture: check.files[1] for check in reversed(report.checks) if len(check.files) > 1}
    for system in systems():
        companion = beside.get(system.family.architecture)
        for runtime in system.runtimes:
            if companion and runtime.finds and runtime.finds not in published:
                told = f"{runtime.companion_option} {file_name(companion.file)}"
                yield f"{runtime.name} looks for {runtime.finds}, which is not among the files: give it {told}"
