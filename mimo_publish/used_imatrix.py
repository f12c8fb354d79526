"""The importance matrix of a file, in the commands of a model card."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import NamedTuple

from mimo_convert.model.imatrix_facts import SYNTHETIC
from mimo_convert.model.provenance import Provenance
from quantize.backends import IMATRIX
from runtime_check.run.records import FileFacts

from .shell import path

UNNAMED = "imatrix.gguf"


class UsedImatrix(NamedTuple):
    """An importance matrix: its name as a file in the same folder, its sha256, whether the second moments beside it
    were used, too (`feedback`), and whether no clip of it is a recording (`synthetic`)."""

    name: str
    sha256: str
    feedback: bool = False
    synthetic: bool = False

    @property
    def check(self) -> str:
        """The command that tells whether a file of that name is it."""
        return f"echo '{self.sha256}  {path(self.name)}' | sha256sum --check"


NO_IMATRIX = UsedImatrix("", "")


def used_imatrix(told: Provenance) -> UsedImatrix | None:
    """The importance matrix that a file was made with; None without one. A name that is not that of a file, or that
    cannot be quoted, is replaced."""
    name = PurePath(told.imatrix_file).name
    is_plain = name.isprintable() and name not in ("", "..") and not {"'", "\\"} & set(name)
    if not told.imatrix:
        return None
    synthetic = told.imatrix_dataset.startswith(SYNTHETIC)
    return UsedImatrix(name if is_plain else UNNAMED, told.imatrix, bool(told.feedback), synthetic)


def imatrices_of(files: Iterable[tuple[str, Provenance]]) -> list[tuple[UsedImatrix, list[str]]]:
    """The importance matrices of files, by name, each with the files that were made with it."""
    found: dict[UsedImatrix, list[str]] = {}
    for name, told in files:
        if used := used_imatrix(told):
            found.setdefault(used, []).append(name)
    return list(found.items())


def lost_imatrix(facts: FileFacts) -> str:
    """What a file does not say of the importance matrices that it depends on, as the end of a sentence; empty if
    nothing."""
    if any(IMATRIX in between.quantizer.split(" + ") for between in facts.provenance.intermediates):
        return "with which importance matrix the file was quantized that it was made from"
    if IMATRIX in facts.quantizer.split(" + ") and not facts.provenance.imatrix:
        return "with which importance matrix it was quantized"
    return ""
