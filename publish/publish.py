"""From checked files to a repository of the Hub: card and checksums beside them, what would change, one commit, and a
look at what arrived.

Only the report decides: what it does not say was checked is not published.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import click

from mimo_convert.checkpoint import REPO
from mimo_convert.claims import Claims
from mimo_convert.console import exit_status
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.outcome import GATE_FAILED
from mimo_convert.terminal import show
from quantize.errors import InputError
from runtime_check import page_numbers
from runtime_check.report import json_text
from runtime_check.verdicts import Report, file_name, verdicts

from .card import BEGIN, END, HUB, SUMS, as_card, as_plots, own_text
from .card_parts import LM, TOKENIZER, published_files
from .commands import path as path_argument
from .hub import (
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


@dataclass(frozen=True)
class Destination:
    """Where files go, and what the publisher said about it. `base_model` is for files that do not tell theirs."""

    repo: str
    private: bool = False
    yes: bool = False
    even_if_failed: bool = False
    template: Path | None = None
    base_model: str | None = None

    def look(self, *, dry_run: bool = False) -> Remote:
        """The repository as it is now, or with `dry_run`, which does not ask the Hub, as if there were none.

        Raises InputError if nothing could be published there.
        """
        if self.template and not self.template.is_file():
            raise InputError(self.template, "no such file", expected="a Jinja2 template of a model card")
        if self.base_model and not REPO.fullmatch(self.base_model):
            raise InputError("--base-model", repr(self.base_model), expected="OWNER/NAME")
        check_name(self.repo)
        if dry_run:
            return Remote(self.repo, None)
        remote = look(self.repo)
        check_visibility(remote, self.private)
        return remote


def check_beforehand(folder: Path, to: Destination, claims: Claims, *, dry_run: bool = False) -> None:
    """What can be known before long work: that the Hub would take files, and a card could be written beside them.

    Raises InputError if not; so does a card that is there already, and would be lost, and a file that would be written
    there and is another option's.
    """
    for name in (CARD, REPORT, SUMS):
        claims.writes(PUBLISHED, folder / name, rereads=["--report"])
    if folder.is_dir():
        check_can_write(folder / CARD)
    own_paragraphs(folder, to.look(dry_run=dry_run), lambda line: None)


def publication(report: Report, to: Destination) -> dict[str, Any]:
    """What the report says of its publication (docs/json.md)."""
    files = [{"file": file.name, "sha256": file.sha256, "bytes": file.size} for file in checked_files(report, Path())]
    return {"repo": to.repo, "files": files, "even_if_failed": to.even_if_failed, "base_model": to.base_model}


def checked_files(report: Report, folder: Path) -> list[LocalFile]:
    """Every GGUF file that the report has run, by name, as it was then; they lie in `folder` now."""
    every = [check[role] for check in report.get("checks") or [] for role in (LM, TOKENIZER) if check.get(role)]
    files: dict[str, LocalFile] = {}
    for facts in every:
        name = file_name(facts["file"])
        file = LocalFile(name, folder / name, facts["bytes"], facts["sha256"])
        if files.setdefault(name, file) != file:
            raise InputError(name, "stands in the report with two contents", todo="check the files again")
    return [files[name] for name in sorted(files)]


def publish(report: Report, folder: Path, to: Destination, claims: Claims, tell: Tell, *, dry_run: bool = False) -> int:
    """Publish the files of `folder` that the report, with its `publication`, is about; returns the exit status.

    That is 0, or 1 if a check failed, also if they were published all the same, or what arrived is not what was sent.

    Writes the report beside them first, so that nothing need be checked again whatever happens; then the card, its
    plots and checksums. With `dry_run` that is all, and the Hub is not asked. Raises InputError for what could not be
    published, before anything is sent.
    """
    if not may_be_published(report, to, tell):
        return GATE_FAILED
    files = checked_files(report, folder)
    report = without_folders(report)
    kept = write(folder / REPORT, json_text(report))
    status = exit_status([report["passed"]])
    with told_how_to_go_on(folder, to, tell):
        remote = to.look(dry_run=dry_run)
        files += [*write_beside(report, folder, files, to, remote, claims, tell), kept]
        changes = compare(remote, files)
        show(as_text(changes, remote, to, {file.name: file.verdict for file in published_files(report)}))
        tell_of_others(remote, files, tell)
        if dry_run:
            return status
        sent = [change.file for change in changes if change.kind != UNCHANGED]
        if sent and not to.yes:
            ask(f"Upload {len(sent)} files, {page_numbers.size(sum(file.size for file in sent))}, in one commit?")
        commit = upload(remote, changes, message_of(files), to.private, tell)
        problems = verify(to.repo, commit, files)
    for problem in problems:
        show(f"✗ {problem}")
    if problems:
        show(f"\nFAIL: not all that is on the Hub was found to be what was checked: {HUB}/{to.repo}/commits/main")
        return GATE_FAILED
    show(f"{len(files)} files are there, size and hash, and their headers byte for byte.")
    show(f"{HUB}/{to.repo}/tree/{commit}")
    return status


@contextmanager
def told_how_to_go_on(folder: Path, to: Destination, tell: Tell) -> Iterator[None]:
    """Whatever ends the block early: the files need not be checked again."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        command = ["mimo-publish", path_argument(str(folder)), "--to", to.repo]
        command += ["--report", path_argument(str(folder / REPORT)), *options_of(to)]
        tell(f"the files were checked; this goes on from here: {shlex.join(command)}")
        raise


def options_of(to: Destination) -> list[str]:
    """What was asked for, again; but not --yes."""
    flags = {"--private": to.private, "--even-if-failed": to.even_if_failed}
    values = {"--card-template": to.template, "--base-model": to.base_model}
    given = [word for option, value in values.items() if value for word in (option, str(value))]
    return [*(flag for flag, is_set in flags.items() if is_set), *given]


def may_be_published(report: Report, to: Destination, tell: Tell) -> bool:
    """Whether every file was compared with something, and passed, or the publisher insists.

    Raises InputError if nothing was compared: there would be nothing to say on the card.
    """
    failed = [suite.name for suite in verdicts(report) if suite.failed]
    if failed and not to.even_if_failed:
        tell(f"nothing is published: {', '.join(dict.fromkeys(failed))} failed; --even-if-failed would, and say so")
        return False
    if not report.get("checks"):
        raise InputError("report", "no file in it was run", todo="publish with a --reference, and without --no-check")
    if report.get("passed") is None:
        raise InputError(
            "report", "the files were run, but compared with nothing", todo="give a --reference to compare them with"
        )
    return True


# ── what goes with the files ─────────────────────────────────────────────────────────────────────────────────────


def write_beside(
    report: Report, folder: Path, files: Sequence[LocalFile], to: Destination, remote: Remote, claims: Claims,
    tell: Tell,
) -> list[LocalFile]:  # fmt: skip
    """Write the card, its plots and the checksums into the folder; each whole, or not at all."""
    own = own_paragraphs(folder, remote, tell)
    texts = {CARD: as_card(report, to.template, own), **as_plots(report)}
    texts[SUMS] = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    for name in texts:
        claims.writes(PUBLISHED, folder / name)
        check_can_write(folder / name)
    return [write(folder / name, text) for name, text in texts.items()]


def write(path: Path, text: str) -> LocalFile:
    """Write a file that is to be published."""
    data = text.encode()
    write_whole(path, data)
    return LocalFile(path.name, path, len(data), sha256(data).hexdigest())


def without_folders(report: Report) -> Report:
    """The report with files by their names alone: how the publisher's disk is laid out is nobody's business."""
    paths = set(paths_in(report))
    shorter = {path: name for path in paths if (name := file_name(path))}
    # What lies beside them, too; but a folder as short as `o` is the end of many a name on the Hub.
    absolute = {str(PurePath(path).parent) for path in paths if path.startswith("/")} - {"/"}
    shorter |= {f"{folder}/": "" for folder in absolute}
    known = "|".join(map(re.escape, sorted(shorter, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w./-])(?:{known})")

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(element) for key, element in value.items()}
        if isinstance(value, list):
            return [clean(element) for element in value]
        if not isinstance(value, str):
            return value
        return pattern.sub(lambda found: shorter[found[0]], value)

    cleaned: Report = clean(report) if shorter else report
    return cleaned


def paths_in(value: Any) -> Iterable[str]:
    """Every path in a report: its files, and what references were made of."""
    if isinstance(value, dict):
        for key, element in value.items():
            if key == "file" and isinstance(element, str):
                yield element
            elif key in ("source", "checkpoints"):
                texts = element if isinstance(element, list) else [element]
                yield from (text for text in texts if isinstance(text, str) and not is_of_the_hub(text))
            else:
                yield from paths_in(element)
    elif isinstance(value, list):
        for element in value:
            yield from paths_in(element)


def is_of_the_hub(source: str) -> bool:
    """Whether this is a repository's id, OWNER/NAME or OWNER/NAME@REVISION, and no folder, as far as it tells."""
    return REPO.fullmatch(source.partition("@")[0]) is not None


def own_paragraphs(folder: Path, remote: Remote, tell: Tell) -> str:
    """The publisher's own text: of the card in the folder, else of the one on the Hub; empty if neither has any.

    Raises InputError for a card that was written by hand and has no markers: it would be lost.
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
        tell(f"{path}: your own text is another one than on the Hub, and replaces it")
    return ours


def own_of(data: bytes, where: str) -> str:
    """The publisher's own text in a card. Raises InputError if there are no markers, and more than metadata."""
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
    """A card without the YAML at its top, which the Hub writes into a new repository."""
    parts = card.split("---", 2)
    return parts[2] if card.startswith("---") and len(parts) == 3 else card


# ── what the publisher sees ──────────────────────────────────────────────────────────────────────────────────────


def as_text(changes: Sequence[Change], remote: Remote, to: Destination, checked: dict[str, str]) -> str:
    """What would be uploaded, a line a file."""
    private = remote.private if remote.exists else to.private
    lines = ["", f"{to.repo}  {'private' if private else 'public'}{'' if remote.exists else ', new'}"]
    width = max(len(change.file.name) for change in changes)
    for change in changes:
        name, size = change.file.name, page_numbers.size(change.file.size)
        lines.append(f"  {name:<{width}}  {size:>12}  {change.kind:<9}  {checked.get(name, '')}".rstrip())
    return "\n".join([*lines, ""])


def tell_of_others(remote: Remote, files: Sequence[LocalFile], tell: Tell) -> None:
    """GGUF files that are there and stay, though the new card will not mention them."""
    names = {file.name for file in files}
    others = [name for name in remote.files if name.endswith(".gguf") and name not in names]
    if others:
        tell(
            f"{remote.repo} also holds {', '.join(others)}, which the card will not mention: "
            "`mimo-publish` a folder with all of them"
        )


def ask(question: str) -> None:
    """Raises KeyboardInterrupt unless the publisher agrees, InputError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise InputError("--yes", "there is no terminal to ask at", todo="give --yes to upload without being asked")
    try:
        agreed = click.confirm(question)
    except click.Abort:  # Ctrl-C, or the end of what is typed
        agreed = False
    if not agreed:
        raise KeyboardInterrupt("nothing was uploaded")


def message_of(files: Sequence[LocalFile]) -> str:
    """The commit's message."""
    names = [file.name for file in files if file.path.suffix == ".gguf"]
    return f"Publish {', '.join(names)}" if len(names) <= 3 else f"Publish {names[0]} and {len(names) - 1} other files"
