"""Publish checked files to the Hub: card and checksums, a list of changes, one commit, and verification.

Only files that the report says were checked are published.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePath

import click
from huggingface_hub import constants

from mimo_convert import numbers_text
from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.model.checkpoint import REPO
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.outcome import GATE_FAILED, exit_status
from mimo_convert.terminal import show
from quantize.errors import InputError
from runtime_check.report.json_report import json_text
from runtime_check.report.records import Publication, PublishedFile, Report, file_name
from runtime_check.report.safe_text import with_texts
from runtime_check.report.suites import suites_of

from .card import BEGIN, END, SUMS, as_card, as_plots, own_text
from .card_parts import published_files
from .destination import Destination
from .reproduction import path as path_argument
from .reproduction import runtime_hints
from .upload import (
    UNCHANGED,
    Change,
    LocalFile,
    Remote,
    Tell,
    check_name,
    check_visibility,
    compare,
    look,
    read_small,
    upload,
    verify,
)

CARD, REPORT = "README.md", "mimo-check.json"
PUBLISHED = "what is published"  # in the place of an option that says what is written


def open_remote(to: Destination, *, dry_run: bool = False) -> Remote:
    """The repository's present state; with `dry_run`, an empty one without asking the Hub.

    Raises InputError if nothing could be published there.
    """
    if to.template and not to.template.is_file():
        raise InputError(to.template, "no such file", expected="a Jinja2 template of a model card")
    if to.base_model and not REPO.fullmatch(to.base_model):
        raise InputError("--base-model", repr(to.base_model), expected="OWNER/NAME")
    check_name(to.repo)
    if dry_run:
        return Remote(to.repo, None, asked=False)
    remote = look(to.repo)
    check_visibility(remote, to.private)
    return remote


def check_beforehand(folder: Path, to: Destination, claims: Claims, *, dry_run: bool = False) -> None:
    """Raise InputError before long work if the Hub would reject files, the card could not be written, a hand-written
    card would be lost, or an output is another option's file."""
    for name in (CARD, REPORT, SUMS):
        claims.writes(PUBLISHED, folder / name, rereads=["--report"])
    if folder.is_dir():
        check_can_write(folder / CARD)
    own_paragraphs(folder, open_remote(to, dry_run=dry_run), lambda line: None)


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


def publish(
    report: Report, folder: Path, to: Destination, opened: OpenFiles, claims: Claims, tell: Tell, *,
    dry_run: bool = False,
) -> int:  # fmt: skip
    """Publish the files of `folder` that the report is about; returns the exit status: 0, or 1 if a check or the
    verification failed.

    First writes the report, also of a check that failed, so that the files need not be checked again; then the card,
    its plots and checksums. With `dry_run` it stops there, without asking the Hub. Raises InputError for what could not
    be published, before anything is sent.
    """
    whole = report
    report = without_folders(report)
    kept = write(folder / REPORT, json_text(report))
    if not may_be_published(whole, to, tell):
        tell(f"the report is kept: {folder / REPORT}")
        return GATE_FAILED
    checked = checked_files(whole, folder)
    files = [replace(file, header_bytes=opened.header(file.path).header_bytes) for file in checked]
    status = exit_status([report.passed])
    with resume_hint(folder, to, tell):
        remote = open_remote(to, dry_run=dry_run)
        files += [*write_beside(report, folder, files, to, remote, claims, tell), kept]
        changes = compare(remote, files)
        show(as_text(changes, remote, to, {file.name: file.verdict for file in published_files(report)}))
        tell_of_others(remote, files, tell)
        for hint in runtime_hints(report, [*remote.files, *(file.name for file in files)]):
            tell(hint)
        if dry_run:
            return status
        sent = [change.file for change in changes if change.kind != UNCHANGED]
        if sent and not to.yes:
            ask(f"Upload {len(sent)} files, {numbers_text.size(sum(file.size for file in sent))}, in one commit?")
        commit = upload(remote, changes, message_of(files), to.private, tell)
        problems = verify(to.repo, commit, files)
    for problem in problems:
        show(f"✗ {problem}")
    if problems:
        page = f"{constants.ENDPOINT}/{to.repo}/commits/main"
        show(f"\nFAIL: files on the Hub differ from those that were checked: {page}")
        return GATE_FAILED
    show(f"{len(files)} files verified on the Hub: size, hash, and headers byte for byte.")
    show(f"{constants.ENDPOINT}/{to.repo}/tree/{commit}")
    return status


@contextmanager
def resume_hint(folder: Path, to: Destination, tell: Tell) -> Iterator[None]:
    """If the block is interrupted, print the command that publishes without checking again."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        command = ["mimo-publish", path_argument(str(folder)), "--to", to.repo]
        command += ["--report", path_argument(str(folder / REPORT)), *options_of(to)]
        tell(f"the files were checked; resume with: {shlex.join(command)}")
        raise


def options_of(to: Destination) -> list[str]:
    """The options of the destination as arguments, without --yes."""
    flags = {"--private": to.private, "--even-if-failed": to.even_if_failed}
    values = {"--card-template": to.template, "--base-model": to.base_model}
    given = [word for option, value in values.items() if value for word in (option, str(value))]
    return [*(flag for flag, is_set in flags.items() if is_set), *given]


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


# ── what goes with the files ─────────────────────────────────────────────────────────────────────────────────────


def write_beside(
    report: Report, folder: Path, files: Sequence[LocalFile], to: Destination, remote: Remote, claims: Claims,
    tell: Tell,
) -> list[LocalFile]:  # fmt: skip
    """Write the card, its plots and the checksums into the folder, each atomically."""
    own = own_paragraphs(folder, remote, tell)
    texts = {CARD: as_card(report, to.template, own), **as_plots(report)}
    texts[SUMS] = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    for name in texts:
        claims.writes(PUBLISHED, folder / name)
        check_can_write(folder / name)
    return [write(folder / name, text) for name, text in texts.items()]


def write(path: Path, text: str) -> LocalFile:
    """Write a file to publish."""
    data = text.encode()
    write_whole(path, data)
    return LocalFile(path.name, path, len(data), sha256(data).hexdigest())


def without_folders(report: Report) -> Report:
    """Replace paths in the report by file names: the publisher's folders are private."""
    paths = set(paths_in(report))
    shorter = {path: name for path in paths if (name := file_name(path))}
    # What lies beside them, too; but a folder as short as `o` is the end of many a name on the Hub.
    absolute = {str(PurePath(path).parent) for path in paths if path.startswith("/")} - {"/"}
    shorter |= {f"{folder}/": "" for folder in absolute}
    if not shorter:
        return report
    known = "|".join(map(re.escape, sorted(shorter, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w./-])(?:{known})")
    cleaned: Report = with_texts(report, lambda text: pattern.sub(lambda found: shorter[found[0]], text))
    return cleaned


def paths_in(report: Report) -> Iterator[str]:
    """Every path in a report."""
    yield from (one.file for one in report.conversions)
    yield from (one.file for one in report.lint)
    yield from (one.file for one in report.tensors)
    yield from (one.source for one in report.tensors if not is_of_the_hub(one.source))
    for check in report.checks:
        yield check.clip.file
        yield from (file.file for file in check.files)
        if check.reference:
            yield from (source for source in check.reference.checkpoints if not is_of_the_hub(source))
    yield from (file.file for file in (report.publication.files if report.publication else ()))


def is_of_the_hub(source: str) -> bool:
    """Whether a source is a Hub id, OWNER/NAME or OWNER/NAME@REVISION."""
    return REPO.fullmatch(source.partition("@")[0]) is not None


def own_paragraphs(folder: Path, remote: Remote, tell: Tell) -> str:
    """The publisher's own text: of the card in the folder, else of the one on the Hub; empty if neither has any.

    Raises InputError for a hand-written card without markers, which would be lost.
    """
    path = folder / CARD
    try:
        here = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    there = read_small(remote, CARD) or b""
    ours, theirs = own_of(here, str(path)), own_of(there, f"{remote.repo}/{CARD}")
    if not ours.strip():  # as in a card of a dry run, or one that was published before text was written on the Hub
        return theirs or ours
    if theirs.strip() and ours != theirs:
        tell(f"{path}: your own text differs from the one on the Hub, and replaces it")
    return ours


def own_of(data: bytes, where: str) -> str:
    """The publisher's own text in a card. Raises InputError if it has content but no markers."""
    try:
        card = data.decode()
        own = own_text(card)
    except UnicodeDecodeError as error:
        raise InputError(where, "is not UTF-8", todo="put it right, or take it away") from error
    except InputError as error:
        raise InputError(where, error.what, expected=error.expected, todo=error.todo) from error
    if own is None and without_metadata(card).strip():
        raise InputError(
            where, "was not written by mimo-publish, and would be replaced",
            todo=f"put the lines {BEGIN} and {END} into it, around what is to stay",
        )  # fmt: skip
    return own or ""


def without_metadata(card: str) -> str:
    """A card without its YAML front matter."""
    parts = card.split("---", 2)
    return parts[2] if card.startswith("---") and len(parts) == 3 else card


# ── what the publisher sees ──────────────────────────────────────────────────────────────────────────────────────


def as_text(changes: Sequence[Change], remote: Remote, to: Destination, checked: dict[str, str]) -> str:
    """The changes, a line per file."""
    private = remote.private if remote.exists else to.private
    state = "the Hub was not asked" if not remote.asked else "private" if private else "public"
    lines = ["", f"{to.repo}  {state}{'' if remote.exists or not remote.asked else ', new'}"]
    width = max(len(change.file.name) for change in changes)
    for change in changes:
        name, size = change.file.name, numbers_text.size(change.file.size)
        lines.append(f"  {name:<{width}}  {size:>12}  {change.kind:<9}  {checked.get(name, '')}".rstrip())
    return "\n".join([*lines, ""])


def tell_of_others(remote: Remote, files: Sequence[LocalFile], tell: Tell) -> None:
    """Warn about GGUF files in the repository that the new card will not mention."""
    names = {file.name for file in files}
    others = [name for name in remote.files if name.endswith(".gguf") and name not in names]
    if others:
        tell(
            f"{remote.repo} also holds {', '.join(others)}, which the card will not mention: "
            "`mimo-publish` a folder with all of them"
        )


def ask(question: str) -> None:
    """Ask for confirmation. Raises KeyboardInterrupt if it is denied, InputError without a terminal."""
    if not sys.stdin.isatty():
        raise InputError("--yes", "there is no terminal to ask at", todo="give --yes to upload without being asked")
    try:
        agreed = click.confirm(question)
    except click.Abort:  # Ctrl-C, or the end of what is typed
        agreed = False
    if not agreed:
        raise KeyboardInterrupt("nothing was uploaded")


def message_of(files: Sequence[LocalFile]) -> str:
    """The commit message."""
    names = [file.name for file in files if file.path.suffix == ".gguf"]
    return f"Publish {', '.join(names)}" if len(names) <= 3 else f"Publish {names[0]} and {len(names) - 1} other files"
