"""Judge files that a command finds made already by what was recorded of them."""

from collections.abc import Callable
from pathlib import Path

from mimo_convert.model.model_file import OpenFiles
from mimo_families.registry import UPGRADES
from runtime_check.report.recorded import check_unaltered


def accept_recorded(
    files: OpenFiles, report: Path | None = None, unrecorded: list[Path] | None = None
) -> Callable[[Path], None]:
    """A function that raises InputError for a file that is not the one that the checksums and the report beside it
    record, or an earlier `report` of the same command. Files of which nothing is recorded are added to `unrecorded`."""

    def accept(path: Path) -> None:
        from mimo_publish.beside import REPORT
        from mimo_publish.card import SUMS  # late: it takes 30 MB

        reports = [path.parent / REPORT, *([report] if report else [])]
        if not check_unaltered(path, files, path.parent / SUMS, reports, UPGRADES) and unrecorded is not None:
            unrecorded.append(path)

    return accept
