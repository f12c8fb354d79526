"""Check the GGUF files of a folder and publish them with a model card."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from jinja2 import TemplateError

from mimo_agreement.records import Agreement
from mimo_agreement.report.json_report import read_agreement
from mimo_convert.claims import Claims
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import provenance_of
from mimo_convert.numbers_text import size
from mimo_convert.terminal import show, tell
from mimo_convert.threads import default_threads
from mimo_families.adapters import adapter_for
from mimo_families.opening import OpenCheckpoints, find_reference
from mimo_families.registry import UPGRADES, families, is_companion, system_of
from mimo_families.same_model import check_reference_model, models_of
from mimo_publish.card import SUMS, as_card
from mimo_publish.destination import Destination
from mimo_publish.publication import PublishResult, check_beforehand, check_card_covers, checked_files, publication
from mimo_publish.publication import publish as publish_files
from mimo_publish.sections.agreement import check_agreement
from mimo_publish.upload.changes import LocalFile
from mimo_publish.upload.remote import Remote
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK
from runtime_check.audio.manifests import find_clips
from runtime_check.report.json_report import json_text, read_report
from runtime_check.report.records import Report
from runtime_check.report.results import NO_OUTPUTS, Outputs, Results, only_files
from runtime_check.run.members import Paths, members_of
from runtime_check.run.system import SystemType
from runtime_check.run.validate import Inputs, validate
from runtime_check.static.lint import lint

from .paths import with_paths

# What making a card of a report raises that somebody edited.
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TemplateError, TypeError, ValueError)
NAME_ALIKE = "call the one that belongs to it as the {role} is called, with `{companion}` in the place of `{stem}`"
Systems = list[tuple[SystemType, Paths]]


@dataclass(frozen=True)
class PublishOptions:
    """Options of a publication. `reference` None: the Hub checkpoint that the files record; `report` is an earlier
    report on these files. `adapter` is the folder of a LoRA adapter for the reference, or `none`."""

    folder: Path
    destination: Destination
    audio: Path = JFK
    outputs: Outputs = NO_OUTPUTS
    threads: int = field(default_factory=default_threads)
    reference_companions: Mapping[str, str | None] = field(default_factory=dict)
    reference: str | None = None
    report: Path | None = None
    repack: str = "auto"
    products: str = "auto"
    dry_run: bool = False
    adapter: str | None = None

    def __post_init__(self) -> None:
        with_paths(self)


def publish(
    options: PublishOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> PublishResult:  # fmt: skip
    """Check the files of a folder, or read an earlier report, and publish them.

    Raises InputError for files that cannot be checked, and what the Hub rejects.
    """
    with heard_by(progress, message):
        return _publish(options, claims or Claims())


def _publish(o: PublishOptions, claims: Claims) -> PublishResult:
    o.outputs.check()
    to, files = o.destination, OpenFiles(families())
    paths = gguf_files(o.folder, may_be_elsewhere=to.card_only and o.report is not None)
    for path in paths:
        claims.reads("DIR", path)
    earlier = read_earlier(o.report) if o.report else None
    agreement = read_agreement(to.agreement) if to.agreement else None
    names = [path.name for path in paths]
    if to.card_only and earlier and o.report:
        with as_a_report_should_be(o.report):
            names = [file.name for file in checked_files(earlier, Path())]
    remote = check_beforehand(o.folder, names, to, claims, dry_run=o.dry_run)
    if to.card_only:
        names = published(names, remote)
        paths = [path for path in paths if path.name in names]
    if agreement and not earlier:
        check_agreement(agreement, to.agreement, local_files(paths, files))
    if o.dry_run and not o.report:
        return preview_check(o, paths, files)
    if not earlier and not to.yes and not sys.stdin.isatty():  # a report that is made now is always something new
        raise InputError("--yes", "there is no terminal to ask at", todo="give --yes to upload without being asked")
    if earlier and o.report:
        report = earlier_report(o, o.report, earlier, names, paths, remote, files, agreement)
    else:
        if to.card_only:
            check_card_covers(remote, to, local_files(paths, files))
        report = check_files(o, paths, files)
        o.outputs.write(report)
    preview_of = o.report if o.dry_run else None
    return publish_files(report, o.folder, to, files, claims, tell, preview_of=preview_of, agreement=agreement)


def preview_check(o: PublishOptions, paths: Sequence[Path], files: OpenFiles) -> PublishResult:
    """Print what would be checked before a publication, and with what it would be compared."""
    systems = systems_of(paths, files)
    source, _ = reference_of(systems, files, o)
    check_base_model(paths, files, o.destination)
    for system, members in systems:
        first, *others = (members[role].name for role in system.roles if role in members)
        beside = f" with {' and '.join(others)}" if others else ""
        show(f"would check {first}{beside}, against {source}, on {o.audio.name}")
    total = size(sum(path.stat().st_size for path in paths))
    show(f"would publish {len(paths)} GGUF files, {total}, card, checksums and report to {o.destination.repo}")
    tell("with a --report of `mimo-convert --json` on these files, the changes are shown, and with -v the card")
    return PublishResult(Results("mimo-publish").report())


def published(names: Sequence[str], remote: Remote) -> list[str]:
    """The names of files that are in the repository; the others are told."""
    for name in names:
        if name not in remote.files:
            tell(f"{name} is not in {remote.repo}, and the card will not mention it")
    return [name for name in names if name in remote.files]


def local_files(paths: Sequence[Path], files: OpenFiles) -> list[LocalFile]:
    """Files with the hashes that they have now."""
    return [LocalFile(path.name, path, path.stat().st_size, files.sha256(path)) for path in paths]


def check_files(o: PublishOptions, paths: Sequence[Path], files: OpenFiles) -> Report:
    """Check the files."""
    systems = systems_of(paths, files)
    clips = find_clips([o.audio])
    hashes = [clip.sha256 for clip in clips]
    source, companions = reference_of(systems, files, o)
    check_base_model(paths, files, o.destination)
    main = systems[0][1][systems[0][0].family.role]
    checkpoints = OpenCheckpoints(adapter=adapter_for(main, files, o.adapter))
    reference = find_reference(
        source, companions, hashes, systems[0][0], checkpoints=checkpoints, option="--reference-tokenizer"
    )
    for system, members in systems:
        check_reference_model(system, models_of(members, files), reference, source)
    inputs = Inputs(clips, reference, repack=o.repack, products=o.products)
    inputs.check_clips()
    results = Results("mimo-publish")
    for path in paths:
        results.add(lint(path, files, o.threads, hashed=True))
    with results.as_far_as_possible():
        for checked in validate(inputs, systems, files, o.threads):
            results.add_check(checked)
    report = results.report()
    return replace(report, publication=publication(report, o.destination))


def check_base_model(paths: Sequence[Path], files: OpenFiles, to: Destination) -> None:
    """Raise InputError if the card could not name a base model, before anything is run."""
    if not to.base_model and not any(provenance_of(files.header(path)).repo for path in paths):
        names = " and ".join(path.name for path in paths)
        what = "no file says which model on the Hub it was made from, and the card must name it"
        raise InputError(names, what, todo="say it: --base-model OWNER/NAME")


def gguf_files(folder: Path, *, may_be_elsewhere: bool = False) -> list[Path]:
    """The GGUF files of a folder, sorted. Raises InputError if there are none, unless they `may_be_elsewhere`."""
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", expected="a folder with GGUF files")
    files = sorted(folder.glob("*.gguf"))
    if not files and not may_be_elsewhere:
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
    mains = [path for path in paths if not is_companion(files.family(path))]
    for path in mains or paths:
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


def read_earlier(path: Path) -> Report:
    """The report of an earlier `--json`. Raises InputError if it is not one."""
    with as_a_report_should_be(path):
        return read_report(path, UPGRADES)


def earlier_report(
    o: PublishOptions, path: Path, whole: Report, names: Sequence[str], paths: Sequence[Path], remote: Remote,
    files: OpenFiles, agreement: Agreement | None,
) -> Report:  # fmt: skip
    """What the report of an earlier `--json`, in the file `path`, says of the files of these names, unchanged, with
    their publication. Of a card alone, they are those on the Hub, otherwise those at `paths`.

    Raises InputError if the report, or the agreement, does not cover a file, or nothing can be made of it.
    """
    with as_a_report_should_be(path):
        report = only_files(whole, set(names))
    if o.destination.card_only:
        check_card_covers(remote, o.destination, checked_files(report, Path()))
    else:
        check_hashes(report, path, paths, files)
    if agreement:
        with as_a_report_should_be(path):
            checked = checked_files(report, o.folder)
        check_agreement(agreement, o.destination.agreement, checked)
    with as_a_report_should_be(path):
        report = replace(report, publication=publication(report, o.destination))
        as_card(report, o.destination.template)
        json_text(report)  # it is published, too
        o.outputs.write(report)
    return report


def check_hashes(report: Report, path: Path, paths: Sequence[Path], files: OpenFiles) -> None:
    """Raise InputError unless the report, of the file `path`, is about each of these files."""
    checked = {file.name: file.sha256 for file in checked_files(report, Path())}
    for file in paths:
        if file.name not in checked:
            raise InputError(file, f"was not run for {path}", todo="leave out --report to check it now")
        if files.sha256(file) != checked[file.name]:
            raise InputError(file, f"is not the file that {path} is about", todo="leave out --report to check it now")


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
