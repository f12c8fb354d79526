"""Check the GGUF files of a folder and publish them with a model card."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import TemplateError

from mimo_convert.claims import Claims
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import provenance_of
from mimo_convert.terminal import tell
from mimo_families.opening import find_reference
from mimo_families.registry import UPGRADES, families, system_of
from mimo_publish.card import SUMS, as_card
from mimo_publish.destination import Destination
from mimo_publish.publication import check_beforehand, checked_files, publication, publish
from quantize.errors import InputError
from runtime_check.audio.manifests import find_clips
from runtime_check.report.json_report import json_text, read_report
from runtime_check.report.records import Report
from runtime_check.report.results import Outputs, Results, only_files
from runtime_check.run.members import Paths, members_of
from runtime_check.run.system import SystemType
from runtime_check.run.validate import Inputs, validate
from runtime_check.static.lint import lint

# What making a card of a report raises that somebody edited.
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TemplateError, TypeError, ValueError)
NAME_ALIKE = "call the one that belongs to it as the {role} is called, with `{companion}` in the place of `{stem}`"
Systems = list[tuple[SystemType, Paths]]


@dataclass(frozen=True)
class PublishOptions:
    """Options of a publication. `reference` None: the Hub checkpoint that the files record; `report` is an earlier
    report on these files."""

    folder: Path
    destination: Destination
    outputs: Outputs
    audio: Path
    threads: int
    reference_companions: Mapping[str, str | None]
    reference: str | None = None
    report: Path | None = None
    repack: str = "auto"
    dry_run: bool = False


def run(o: PublishOptions, claims: Claims) -> int:
    """Check the files, or read an earlier report, and publish them; returns the exit status."""
    o.outputs.check()
    paths, files = gguf_files(o.folder), OpenFiles(families())
    for path in paths:
        claims.reads("DIR", path)
    check_beforehand(o.folder, o.destination, claims, dry_run=o.dry_run)
    if o.report:
        report = earlier_report(o.report, paths, files, o.destination)
        with as_a_report_should_be(o.report):
            o.outputs.write(report)
    else:
        report = check_files(o, paths, files)
        report = replace(report, publication=publication(report, o.destination))
        o.outputs.write(report)
    return publish(report, o.folder, o.destination, files, claims, tell, dry_run=o.dry_run)


def check_files(o: PublishOptions, paths: Sequence[Path], files: OpenFiles) -> Report:
    """Check the files."""
    systems = systems_of(paths, files)
    clips = find_clips([o.audio])
    hashes = [clip.sha256 for clip in clips]
    source, companions = reference_of(systems, files, o)
    reference = find_reference(source, companions, hashes, systems[0][0])
    inputs = Inputs(clips, reference, repack=o.repack)
    inputs.check_clips()
    results = Results("mimo-publish")
    for path in paths:
        results.add(lint(path, files, o.threads))
    with results.as_far_as_possible():
        for checked in validate(inputs, systems, files, o.threads):
            results.add(checked.check)
    return results.report()


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of a folder, sorted. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", expected="a folder with GGUF files")
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise InputError(folder, "holds no GGUF files", todo="make some with mimo-convert")
    for file in files:
        if "\\" in file.name or not file.name.isprintable():  # nor is what is not UTF-8
            raise InputError(
                folder, f"the name {file.name!r} cannot stand in {SUMS}, or on the Hub", todo="give it another"
            )
    return files


def systems_of(paths: Sequence[Path], files: OpenFiles) -> Systems:
    """The systems of the files: each file that has companions with them, then files that are no one's companion."""
    found = []
    for path in paths:
        system = system_of(files.family(path))
        stems = ", ".join(family.file_stem.rpartition("-")[2] for family in system.companions)
        todo = NAME_ALIKE.format(
            role=system.family.role.replace("_", " "), companion=stems, stem=system.family.file_stem.rpartition("-")[2]
        )
        found.append((system, members_of(path, system, {}, files, todo)))
    whole = [(system, members) for system, members in found if system.companions]
    used = {path for system, members in whole for role, path in members.items() if role != system.family.role}
    alone = [one for one in found if not one[0].companions and one[1][one[0].family.role] not in used]
    return [*whole, *alone]


def reference_of(systems: Systems, files: OpenFiles, o: PublishOptions) -> tuple[str, Mapping[str, str | None]]:
    """The reference and its companions: as given, or as the files record.

    Raises InputError if they record none, or different ones.
    """
    if o.reference:
        return o.reference, o.reference_companions
    made_of: dict[str, set[str]] = {}
    for _, members in systems:
        for role, path in members.items():
            made_of.setdefault(role, set()).add(checkpoint_of(path, files))
    if any(len(sources) > 1 for sources in made_of.values()):
        found = " and ".join(sorted(set().union(*made_of.values())))
        raise InputError("--reference", f"the files were made of {found}", todo="say what to compare them with")
    one_of = {role: source for role, [source] in made_of.items()}
    main = systems[0][0].family.role
    return one_of.pop(main), one_of | {role: said for role, said in o.reference_companions.items() if said}


def checkpoint_of(file: Path, files: OpenFiles) -> str:
    """The Hub id and revision that a file records. Raises InputError if it records none."""
    told = provenance_of(files.header(file))
    if not told.repo:
        raise InputError(
            file, "does not say which model on the Hub it was made from", todo="give a --reference to compare it with"
        )
    return f"{told.repo}@{told.revision}" if told.revision else told.repo


def earlier_report(path: Path, paths: Sequence[Path], files: OpenFiles, to: Destination) -> Report:
    """What the report of an earlier `--json` says of these files, unchanged, with their publication; it may be about
    others, too.

    Raises InputError if it is not a report, or does not cover a file.
    """
    with as_a_report_should_be(path):
        report = only_files(read_report(path, UPGRADES), {file.name for file in paths})
    checked = {file.name: file.sha256 for file in checked_files(report, Path())}
    for file in paths:
        if file.name not in checked:
            raise InputError(file, f"was not run for {path}", todo="leave out --report to check it now")
        if files.sha256(file) != checked[file.name]:
            raise InputError(file, f"is not the file that {path} is about", todo="leave out --report to check it now")
    with as_a_report_should_be(path):
        report = replace(report, publication=publication(report, to))
        as_card(report, to.template)
        json_text(report)  # it is published, too
    return report


@contextmanager
def as_a_report_should_be(path: Path) -> Iterator[None]:
    """Turn errors over a report that was edited by hand into InputErrors."""
    try:
        yield
    except MALFORMED as error:
        raise InputError(
            path,
            f"is not as a report should be ({type(error).__name__}: {error})",
            todo="make it again with --json",
        ) from error
