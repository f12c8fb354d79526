"""What was recorded of a file earlier: by checksums beside it, and by reports."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mimo_convert.files import MB, read_text
from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.model.gguf_facts import recorded_rules, type_of_file
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import hashes_of_text, provenance_of
from quantize.errors import InputError
from runtime_check.run.records import FileFacts

from .json_report import Upgrades, read_report
from .records import file_name, files_run

MOST_SUMS = MB


class Record(NamedTuple):
    """The sha256 of a file, and where it is recorded."""

    where: Path
    sha256: str


def check_unaltered(path: Path, files: OpenFiles, sums: Path, reports: Iterable[Path], upgrades: Upgrades) -> bool:
    """Whether checksums or reports record a file. Raises InputError if it is not the one that they record under its
    name.

    A record of an earlier file, of another version or other options, does not count; nor does one that cannot be read.
    """
    records = list(records_of(path, files, sums, reports, upgrades))
    for record in records:
        if record.sha256 != files.sha256(path):
            raise InputError(
                path, f"was altered: its sha256 is {files.sha256(path)}",
                expected=f"{record.sha256}, by {record.where}", todo="--force makes it anew",
            )  # fmt: skip
    return bool(records)


def records_of(
    path: Path, files: OpenFiles, sums: Path, reports: Iterable[Path], upgrades: Upgrades
) -> Iterator[Record]:
    """The records of a file."""
    earlier: set[str] = set()
    for report in reports:
        for facts in facts_in(report, path.name, upgrades):
            if is_about(facts, files.header(path)):
                yield Record(report, facts.sha256)
            else:
                earlier.add(facts.sha256)
    with suppress(InputError):
        sha256 = hashes_of_text(read_text(sums, MOST_SUMS)).get(path.name)
        if sha256 and sha256 not in earlier:
            yield Record(sums, sha256)


def facts_in(report: Path, name: str, upgrades: Upgrades) -> list[FileFacts]:
    """The facts of the files of a name in a report; none if it cannot be read."""
    with suppress(InputError):
        return [facts for facts in files_run(read_report(report, upgrades).checks) if file_name(facts.file) == name]
    return []


def is_about(facts: FileFacts, file: GGUFFile) -> bool:
    """Whether facts are those of a file by what decides its bytes: size, provenance, type and recipe."""
    outtype = type_of_file(file)
    own = (file.size, provenance_of(file), outtype.name if outtype else "", tuple(map(str, recorded_rules(file)[0])))
    return own == (facts.bytes, facts.provenance, facts.outtype, facts.recipe)
