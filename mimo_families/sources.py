"""What a user names as a model or a reference: one resolver for every command, option and config (docs/sources.md).

A place says which kinds of sources it accepts; a value is of one kind, whatever the place.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gguf import GGUF_MAGIC

from mimo_convert.files import did_you_mean, open_regular
from mimo_convert.model.checkpoint import REPO
from quantize.errors import InputError, reason_of

from .registry import systems
from .repositories import CONFIG, repository_in

FILE_SUFFIXES = (".gguf", ".safetensors", ".json")  # a value with one of these is a path, and never a Hub id


class Kind(NamedTuple):
    """A kind of source: what it is, as an error lists what is accepted; and what a value was taken for."""

    words: str
    found: str
    todo: str = ""


FOLDER = Kind("a checkpoint folder", "is a folder")
HUB = Kind("a Hub id OWNER/NAME[@REVISION]", "was taken for a Hub id")
BUNDLED = Kind("", "is a bundled model")
STORED = Kind("a file of `mimo-check reference`", "is a file")
GGUF = Kind(
    "a GGUF file", "is a GGUF file",
    "`mimo-quantize` makes another type of it, `mimo-check FILE.gguf --reference` compares two",
)  # fmt: skip

Kinds = Sequence[Kind]
CHECKPOINT: Kinds = (FOLDER, HUB, BUNDLED)  # of --tokenizer and MODEL of mimo-convert and `mimo-check reference`
REFERENCE: Kinds = (STORED, *CHECKPOINT)  # of --reference of mimo-convert and mimo-publish, and of nightly.toml
COMPARED: Kinds = (*REFERENCE, GGUF)  # of --reference of mimo-check


class ModelSource(NamedTuple):
    """A source as the user wrote it, and its kind. `is_guess`: it could be a path whose last part is not there."""

    value: str
    kind: Kind
    is_guess: bool = False

    @property
    def path(self) -> Path | None:
        """Its file or folder; None if it is not on this disk."""
        return Path(self.value) if self.kind in (FOLDER, STORED, GGUF) else None


def resolve(value: str, accepted: Kinds, folder: Path | None = None) -> ModelSource:
    """The source of the name `value`; a path is relative to `folder` (None: the working directory).

    Raises InputError for a path that is not there, and a kind that is not accepted.
    """
    source = find_source(value, folder)
    if source is None:
        raise InputError(value, why_missing(value, accepted, folder), expected=words_of(accepted), todo=meant(value))
    if source.kind not in accepted:
        raise InputError(value, source.kind.found, expected=words_of(accepted), todo=instead_of(source))
    if source.kind is FOLDER and source.path and not ((source.path / CONFIG).exists() or repository_in(source.path)):
        raise InputError(source.path / CONFIG, "no such file", expected=words_of(accepted), todo=held_in(source.path))
    return source


def held_in(folder: Path) -> str:
    """What to do with a folder that is no checkpoint."""
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if files:
        return f"the folder holds GGUF files, such as {files[0]}, which mimo-quantize and mimo-check take"
    return "a checkpoint folder must hold it"


def find_source(value: str, folder: Path | None = None) -> ModelSource | None:
    """The same, of any kind; None for a path that is not there."""
    if value in bundled_names():
        return ModelSource(value, BUNDLED)
    path = os.path.join(folder, os.path.expanduser(value)) if folder else value
    if os.path.isdir(path):
        return ModelSource(path, FOLDER)
    if os.path.exists(path):
        return ModelSource(path, GGUF if is_gguf(Path(path)) else STORED)
    if is_hub_id(value):
        return ModelSource(value, HUB, is_guess=value.partition("@")[0] not in published_ids())
    return None


def is_hub_id(value: str) -> bool:
    """Whether a value has the form OWNER/NAME or OWNER/NAME@REVISION."""
    return REPO.fullmatch(value.partition("@")[0]) is not None and not value.endswith(FILE_SUFFIXES)


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does."""
    try:
        with open_regular(path) as file:
            return file.read(4) == GGUF_MAGIC.to_bytes(4, "little")
    except (InputError, OSError):  # whoever reads it says so
        return False


def bundled_names() -> tuple[str, ...]:
    """The names of the bundled models."""
    return tuple(dict.fromkeys(name for system in systems() for name in system.bundled))


def published_ids() -> frozenset[str]:
    """The Hub ids of the published checkpoints, which nobody takes for paths."""
    return frozenset(repo for system in systems() for repo in system.published.values())


def written_as(value: str, folder: Path) -> str:
    """The same source as a value that does not depend on a folder: paths relative to `folder` become absolute."""
    source = find_source(value, folder)
    return source.value if source else os.path.join(folder, os.path.expanduser(value))


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────


def words_of(accepted: Kinds) -> str:
    """The accepted kinds, as a list."""
    *others, last = [word for kind in accepted for word in ([kind.words] if kind.words else bundled_names())]
    return f"{', '.join(others)} or {last}" if others else last


def why_missing(value: str, accepted: Kinds, folder: Path | None) -> str:
    """Why there is no source of that name."""
    try:
        os.stat(os.path.join(folder or "", value))
        reason = "it cannot be read"  # it has come since
    except (FileNotFoundError, NotADirectoryError):
        reason = f"there is no such {'file or folder' if {STORED, GGUF} & set(accepted) else 'folder'}"
    except OSError as error:
        reason = f"{reason_of(error)}"
    except ValueError as error:  # a NUL in it
        reason = f"{error}"
    return f"was taken for a path, and {reason}"


def guessed(source: ModelSource, error: InputError) -> InputError:
    """`error` of the Hub over a source that may have been meant as a path, with both readings."""
    if not source.is_guess or error.where != source.value:
        return error
    what = f"there is no such folder, and as a Hub id: {error.what}"
    return InputError(error.where, what, expected=error.expected, todo=meant(source.value) or error.todo)


def meant(value: str) -> str:
    """What may have been meant by the name of something that is not there; empty if nothing is alike."""
    return did_you_mean(value, () if os.path.dirname(value) else bundled_names())


def instead_of(source: ModelSource) -> str:
    """What to give in place of a source of a kind that is not accepted; empty if that is not known."""
    path = source.path
    if source.kind is STORED and path and (path.parent / CONFIG).is_file():
        return f"give the folder {path.parent}"
    return source.kind.todo
