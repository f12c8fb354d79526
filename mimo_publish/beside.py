"""What is published with the GGUF files: card with the publisher's own text, plots, checksums, report, agreement."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

from mimo_agreement.records import Agreement
from mimo_agreement.report.json_report import json_text as agreement_text
from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.model.checkpoint import REPO
from quantize.errors import InputError
from runtime_check.report.records import Report, file_name
from runtime_check.report.safe_text import with_texts

from .card import BEGIN, END, SUMS, as_card, as_plots, own_text
from .destination import Destination
from .sections.agreement import NAMES as AGREEMENT_PLOTS
from .sections.agreement import only_published
from .upload.changes import LocalFile
from .upload.refs import Tell
from .upload.remote import Remote, read_small

CARD, REPORT, AGREEMENT = "README.md", "mimo-check.json", "mimo-agreement.json"
PUBLISHED = "what is published"  # in the place of an option that says what is written
SUM = re.compile(r"[0-9a-f]{64} [ *](.+)")  # a line of sha256sum(1)


def names_beside(names: Collection[str], to: Destination) -> set[str]:
    """The names of GGUF files, and of what is made from their report, and agreement."""
    agreement = {AGREEMENT, *AGREEMENT_PLOTS} if to.agreement else set()
    return {CARD, REPORT, SUMS, *names, *agreement, *(f"layers-{PurePath(name).stem}.svg" for name in names)}


def described_in(remote: Remote) -> list[str]:
    """The GGUF files of the repository that the checksums beside them list: what was published with a card."""
    lines = (read_small(remote, SUMS) or b"").decode(errors="replace").splitlines()
    names = [found[1] for line in lines if (found := SUM.fullmatch(line))]
    return [name for name in names if name in remote.files and name.endswith(".gguf")]


def texts_beside(
    report: Report, folder: Path, files: Sequence[LocalFile], to: Destination, remote: Remote, tell: Tell,
    agreement: Agreement | None = None,
) -> dict[str, str]:  # fmt: skip
    """The card, its plots, the checksums of `files`, and what of the agreement is about them, by name."""
    own = own_paragraphs(folder, remote, tell)
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    about = only_published(agreement, {file.sha256 for file in files}) if agreement else None
    shown = shortened(about, set(paths_of(about))) if about else None
    texts = {CARD: as_card(report, to.template, own, shown), **as_plots(report, shown), SUMS: sums}
    return {**texts, AGREEMENT: agreement_text(shown)} if shown else texts


def write_beside(folder: Path, texts: Mapping[str, str], claims: Claims) -> list[LocalFile]:
    """Write texts into the folder, each atomically."""
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
    found: Report = shortened(report, set(paths_in(report)))
    return found


def shortened(record: Any, paths: Collection[str]) -> Any:
    """Replace these paths, and the folders of absolute ones, in every text of a record."""
    shorter = {path: name for path in paths if (name := file_name(path))}
    # What lies beside them, too; but a folder as short as `o` is the end of many a name on the Hub.
    absolute = {str(PurePath(path).parent) for path in paths if path.startswith("/")} - {"/"}
    shorter |= {f"{folder}/": "" for folder in absolute}
    if not shorter:
        return record
    known = "|".join(map(re.escape, sorted(shorter, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w./-])(?:{known})")
    return with_texts(record, lambda text: pattern.sub(lambda found: shorter[found[0]], text))


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


def paths_of(agreement: Agreement) -> Iterator[str]:
    """Every path in an agreement."""
    for file in agreement.files:
        yield from filter(None, (file.file, file.companion))
    yield from (clip.name for clip in agreement.clips)


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
