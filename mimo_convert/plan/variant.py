"""The variant of a file: what distinguishes a mix of types from other files of its type, in its name."""

import re
from pathlib import Path
from typing import NamedTuple

from quantize.errors import InputError

MIX = "mix"  # of files whose rules come from the command line, and from no recipe that has a name
LONGEST = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{LONGEST - 1}}}")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+]+")


class Variant(NamedTuple):
    """The name of a variant. Files that rules apply to have it in their names; with `always`, every file has it.

    `recorded`: it is written into those files, too.
    """

    name: str = MIX
    always: bool = False
    recorded: bool = False


UNNAMED = Variant()


def variant_of(name: str | None, recipe: Path | None) -> Variant:
    """The variant called `name`; if that is None, as the file of the recipe is called, or MIX.

    Raises InputError for a name that cannot be part of a file's name on every system, and on the Hub.
    """
    if name is None:
        stem = NOT_IN_NAMES.sub("-", recipe.stem).strip("-._+")[:LONGEST] if recipe else ""
        return Variant(stem or MIX)
    if not NAME.fullmatch(name):
        expected = f"at most {LONGEST} letters, digits and . _ + -, of which the first is a letter or a digit"
        raise InputError("--name", repr(name), expected=expected)
    return Variant(name, always=True, recorded=True)


def file_name(stem: str, type_name: str, variant: str = "") -> str:
    """The name of a GGUF file: `stem-TYPE.gguf`, or `stem-TYPE-VARIANT.gguf`."""
    return f"{'-'.join(filter(None, (stem, type_name, variant)))}.gguf"
