"""Publish checked files to the Hub: card and checksums, a list of changes, one commit, and verification.

Only files that the report says were checked are published.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import constants

from mimo_agreement.records import Agreement
from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write
from mimo_convert.model.checkpoint import REPO
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import show, show_whole, wants_details
from quantize.errors import InputError
from runtime_check.report.json_report import json_text
from runtime_check.report.records import Publication, PublishedFile, Report, file_name
from runtime_check.report.suites import suites_of

from .beside import (
    AGREEMENT,
    CARD,
    PUBLISHED,
    REPORT,
    described_in,
    names_beside,
    own_paragraphs,
    texts_beside,
    without_folders,
    write,
    write_beside,
)
from .card import SUMS
from .card_parts import published_files
from .destination import Destination, publish_command
from .reproduction import runtime_hints
from .upload.changes import UNCHANGED, Change, LocalFile, compare
from .upload.collection import add_to_collection
from .upload.commit import Published, upload
from .upload.confirm import agree, as_text, tell_of_others
from .upload.deletions import Deletions, find_deletions, is_agreed, listed, tell_of_deletions, way_back
from .upload.refs import Tell, create_tag
from .upload.remote import Remote, check_name, check_tag, check_visibility, look
from .upload.verify import check_published, still_published, verify

# ── before long work ─────────────────────────────────────────────────────────────────────────────────────────────


def open_remote(to: Destination, *, dry_run: bool = False) -> Remote:
    """The repository's present state; with `dry_run`, an empty one without asking the Hub, unless what would happen
    depends on it.

    Raises InputError if nothing could be published there.
    """
    to.check()
    if to.template and not to.template.is_file():
        raise InputError(to.template, "no such file", expected="a Jinja2 template of a model card")
    if to.base_model and not REPO.fullmatch(to.base_model):
        raise InputError("--base-model", repr(to.base_model), expected="OWNER/NAME")
    check_name(to.repo)
    if dry_run and not to.delete and not to.card_only:
        return Remote(to.repo, None, asked=False, revision=to.revision)
    remote = look(to)
    check_visibility(remote, to.private)
    return remote


def check_beforehand(
    folder: Path, names: Collection[str], to: Destination, claims: Claims, *, dry_run: bool = False
) -> Remote:
    """The repository's present state, for files of these names.

    Raises InputError before long work if the Hub would reject files, the card could not be written, a hand-written card
    would be lost, an output is another option's file, or files would be deleted that nobody agreed to.
    """
    for name in (CARD, REPORT, SUMS):
        claims.writes(PUBLISHED, folder / name, rereads=["--report"])
    if to.agreement:
        claims.writes(PUBLISHED, folder / AGREEMENT, rereads=["--agreement"])
    if folder.is_dir():
        check_can_write(folder / CARD)
    remote = open_remote(to, dry_run=dry_run)
    own_paragraphs(folder, remote, lambda line: None)
    deletions = find_deletions(remote, to.delete, names_beside(names, to))
    if deletions.files and not dry_run:
        check_agreed(deletions, remote, to)
    return remote


def check_agreed(deletions: Deletions, remote: Remote, to: Destination) -> None:
    """`is_agreed`, of whose InputError the list of files is part."""
    try:
        is_agreed(deletions, to)
    except InputError:
        show(listed(deletions, remote))
        raise


def check_card_covers(remote: Remote, to: Destination, described: Sequence[LocalFile]) -> None:
    """Raise InputError unless the files that a card alone is to be about are those on the Hub, and all of them.

    All are those that the checksums on the Hub list and this commit does not delete; of others, no card ever spoke.
    """
    on_card = described_in(remote)
    if not described:
        expected = ", ".join(on_card) or "files that are published"
        raise InputError("--card-only", f"no file that was checked is in {remote.repo}", expected=expected)
    check_published(remote, described)
    names = {file.name for file in described}
    gone = {file.name for file in find_deletions(remote, to.delete, names_beside(names, to)).files}
    if missing := [name for name in on_card if name not in names | gone]:
        raise InputError(
            f"{remote.repo}/{missing[0]}", "is on the published card, and would not be on the new one",
            expected=f"a report that is also about {', '.join(missing)}",
        )  # fmt: skip


# ── of a report ──────────────────────────────────────────────────────────────────────────────────────────────────


def publication(report: Report, to: Destination) -> Publication:
    """The publication record of a report (docs/json.md)."""
    files = tuple(PublishedFile(file.name, file.sha256, file.size) for file in checked_files(report, Path()))
    return Publication(to.repo, files, to.even_if_failed, to.base_model)


def checked_files(report: Report, folder: Path) -> list[LocalFile]:
    """Every GGUF file of the report's checks, by name, with the hash it had then; the files are in `folder`."""
    files: dict[str, LocalFile] = {}
    for facts in (facts for check in report.checks for facts in check.files):
        name = file_name(facts.file)
        file = LocalFile(name, folder / name, facts.bytes, facts.sha256)
        if files.setdefault(name, file) != file:
            raise InputError(name, "is in the report with two different hashes", todo="check the files again")
    return [files[name] for name in sorted(files)]


def may_be_published(report: Report, to: Destination, tell: Tell) -> bool:
    """Whether every file passed, or `even_if_failed` is set.

    Raises InputError if nothing was compared.
    """
    failed = [suite.name for suite in suites_of(report) if suite.failed]
    if failed and not to.even_if_failed:
        names = ", ".join(dict.fromkeys(failed))
        tell(f"nothing is published: {names} failed; --even-if-failed publishes them, and the card says so")
        return False
    if not report.checks:
        raise InputError("report", "no file in it was run", todo="publish with a --reference, and without --no-check")
    if report.passed is None:
        raise InputError(
            "report", "the files were run, but compared with nothing", todo="give a --reference to compare them with"
        )
    return True


# ── the publication ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Prepared:
    """What is to be published: `files` are compared with `remote` in `changes`; `described` are the GGUF files that the
    card is about."""

    remote: Remote
    files: Sequence[LocalFile]
    described: Sequence[LocalFile]
    changes: Sequence[Change]
    deletions: Deletions


@dataclass(frozen=True)
class PublishResult:
    """What came of a publication: the report; the commit and the pull request, refs/pr/N (empty: none was made); and
    whether the files arrived as they were sent."""

    report: Report
    commit: str = ""
    pull_request: str = ""
    arrived: bool = True

    @property
    def passed(self) -> bool:
        """Whether every check passed, and every file arrived."""
        return self.report.passed is not False and self.arrived


def publish(
    report: Report, folder: Path, to: Destination, opened: OpenFiles, claims: Claims, tell: Tell, *,
    preview_of: Path | None = None, agreement: Agreement | None = None,
) -> PublishResult:  # fmt: skip
    """Publish the files of `folder` that the report is about, or their card alone.

    First writes the report, also of a check that failed, so that the files need not be checked again; then the card,
    its plots and checksums. As a preview of what the report in the file `preview_of` would publish, nothing is written
    or sent. Raises InputError for what could not be published, before anything is sent, and for what could not be done
    after that, which it says.
    """
    if preview_of:
        with TemporaryDirectory() as scratch:
            return preview(report, preview_of, folder, Path(scratch), to, opened, tell, agreement)
    kept = write(folder / REPORT, json_text(without_folders(report)))
    if not may_be_published(report, to, tell):
        tell(f"the report is kept: {kept.path}")
        offer("to publish nevertheless:", folder, kept.path, replace(to, even_if_failed=True), tell)
        return PublishResult(report)
    with resume_hint(folder, to, tell):
        new = prepare(report, folder, folder, to, opened, kept, claims, tell, agreement)
        show_plan(new, report, to, tell)
        agree(new.changes, new.deletions, new.remote, to)
        made = upload(new.remote, to, new.changes, new.deletions.files, message_of(new, to), tell)
    if made.pull_request:  # it is there, and gets what is still to be done
        to = replace(to, create_pr=False, revision=made.pull_request)
    with resume_hint(folder, to, tell):
        return PublishResult(report, made.commit, made.pull_request, finish(new, to, made, tell))


def preview(
    report: Report, given: Path, folder: Path, scratch: Path, to: Destination, opened: OpenFiles, tell: Tell,
    agreement: Agreement | None,
) -> PublishResult:  # fmt: skip
    """Print what the report in the file `given` would publish, with the card where details are wanted."""
    if may_be_published(report, to, tell):
        kept = write(scratch / REPORT, json_text(without_folders(report)))
        new = prepare(report, folder, scratch, to, opened, kept, Claims(), tell, agreement, dry_run=True)
        show_plan(new, report, to, tell)
        if wants_details():
            show_whole(f"\n{(scratch / CARD).read_text(encoding='utf-8')}")
        offer("to publish this:", folder, given, to, tell, n_deleted=len(new.deletions.files))
    else:
        offer("to publish nevertheless:", folder, given, replace(to, even_if_failed=True), tell)
    return PublishResult(report)


def prepare(
    report: Report, folder: Path, place: Path, to: Destination, opened: OpenFiles, kept: LocalFile, claims: Claims,
    tell: Tell, agreement: Agreement | None, *, dry_run: bool = False,
) -> Prepared:  # fmt: skip
    """Ask for the repository's state, write what goes beside the files into the folder `place`, and find out what
    changes."""
    described = checked_files(report, folder)
    remote = open_remote(to, dry_run=dry_run)
    texts = texts_beside(without_folders(report), folder, described, to, remote, tell, agreement)
    deletions = find_deletions(remote, to.delete, {kept.name, *texts, *(file.name for file in described)})
    if to.card_only:
        check_card_covers(remote, to, described)
    files = [*write_beside(place, texts, claims), kept]
    if not to.card_only:
        files = [replace(one, header_bytes=opened.header(one.path).header_bytes) for one in described] + files
    changes = compare(remote, files)
    check_tag(remote, to, changed=bool(deletions.files) or any(one.kind != UNCHANGED for one in changes))
    return Prepared(remote, files, described, changes, deletions)


def show_plan(new: Prepared, report: Report, to: Destination, tell: Tell) -> None:
    """Print what would change."""
    verdicts = {file.name: file.verdict for file in published_files(without_folders(report))}
    show(as_text(new.changes, new.deletions, new.remote, to, verdicts))
    tell_of_deletions(new.deletions, to.repo, tell)
    tell_of_others(new.remote, new.deletions, {file.name for file in new.described}, tell)
    for hint in runtime_hints(report, [*new.remote.files, *(file.name for file in new.described)]):
        tell(hint)


def message_of(new: Prepared, to: Destination) -> str:
    """The commit message."""
    if to.message is not None:
        return to.message
    if to.card_only:
        return "Update the model card"
    names = [file.name for file in new.described]
    return f"Publish {', '.join(names)}" if len(names) <= 3 else f"Publish {names[0]} and {len(names) - 1} other files"


def finish(new: Prepared, to: Destination, made: Published, tell: Tell) -> bool:
    """Verify the commit, tag it, and add the repository to the collection; whether the files arrived as they were sent.

    Raises InputError, which says that they are published.
    """
    gone = new.deletions.files
    if gone and not made.pull_request:
        show(f"deleted {new.deletions.summary}; still in the revision before, {way_back(new.remote)}")
    problems = verify(to.repo, made.commit, new.files, gone)
    for problem in problems:
        show(f"✗ {problem}")
    if problems:
        page = f"{constants.ENDPOINT}/{to.repo}/commits/{to.revision}"
        show(f"\nFAIL: files on the Hub differ from those that were checked: {page}")
        return False
    show(f"{len(new.files)} files verified on the Hub: size, hash, and headers byte for byte.")
    show(f"{constants.ENDPOINT}/{to.repo}/{made.page}")
    tag_and_collect(new.remote, to, made.commit, tell)
    return True


def tag_and_collect(remote: Remote, to: Destination, commit: str, tell: Tell) -> None:
    """Tag the commit, and add the repository to the collection, if that was asked for. Raises as `finish`."""
    if to.tag is not None and to.tag not in remote.refs.tags:
        with still_published(to.repo, commit, "not tagged", "it makes the tag"):
            create_tag(to.repo, to.tag, commit, tell)
        show(f"tagged {to.tag}: {constants.ENDPOINT}/{to.repo}/tree/{to.tag}")
    if remote.collection:
        with still_published(to.repo, commit, "not in the collection", "it adds the repository"):
            add_to_collection(remote.collection, to.repo, tell)
        show(f"in the collection: {constants.ENDPOINT}/collections/{remote.collection}")


# ── commands to go on with ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def resume_hint(folder: Path, to: Destination, tell: Tell) -> Iterator[None]:
    """If the block is interrupted, print the command that publishes without checking again."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        offer("the files were checked; to resume:", folder, folder / REPORT, to, tell)
        raise


def offer(what: str, folder: Path, report: Path, to: Destination, tell: Tell, *, n_deleted: int = 0) -> None:
    """Print a command that publishes the files of `folder` with their `report`, on a line of its own.

    Where there is no terminal to ask at, it agrees to the upload, and to `n_deleted` deletions, which have been listed.
    """
    if not sys.stdin.isatty():
        to = replace(to, yes=True, delete_confirmed=n_deleted or to.delete_confirmed)
    tell(f"{what}\n  {publish_command(folder, report, to)}")
