"""Which files a command reads and which it writes: no output may be an input, or another output.

Files are told apart by device and inode, through links, so that two names of one file are one. A file that is not there
yet is told by its name in its folder.
"""

import os
import stat
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from quantize.errors import InputError
from quantize.quoting import quoted

from .files import is_stream, target_of


@dataclass
class Claims:
    """What the options of one command say that they read and write, each by the identity of the file.

    `owners` has the option, and whether it writes.
    """

    owners: dict[Hashable, tuple[str, bool]] = field(default_factory=dict)

    def reads(self, option: str, path: Path) -> None:
        """`option` reads `path`; of a folder, the files in it. Raises InputError if another writes one of them."""
        for file in files_of(path):
            key = identity(file)
            owner, writes = self.owners.setdefault(key, (option, False))
            if writes:
                raise collision(owner, file, option, "reads it")

    def writes(self, option: str, path: Path, rereads: Iterable[str] = ()) -> None:
        """`option` writes the file `path`, which may be there already.

        Raises InputError if another option reads or writes it, but for those of `rereads`, whose file it renews. Pipes
        and devices are written to by any number.
        """
        if is_stream(path):
            return
        key = identity(path)
        owner, writes = self.owners.setdefault(key, (option, True))
        if owner != option and (writes or owner not in rereads):
            raise collision(option, path, owner, "writes it, too" if writes else "reads it")
        self.owners[key] = option, True


def collision(writer: str, path: Path, other: str, what: str) -> InputError:
    """Two options that name the same file."""
    return InputError(writer, f"would replace {quoted(path)}: {other} {what}", todo="give another name")


def files_of(path: Path) -> list[Path]:
    """The file itself, or those in the folder; nothing if there is none."""
    try:
        mode = os.stat(path).st_mode
        return [Path(entry.path) for entry in os.scandir(path)] if stat.S_ISDIR(mode) else [path]
    except (OSError, ValueError):  # whoever reads it says so
        return []


def identity(path: Path) -> Hashable:
    """What tells a file from others; of one that is not there, its name in the folder that it would be in."""
    try:
        status = os.stat(path)
        return status.st_dev, status.st_ino
    except (OSError, ValueError):
        target = target_of(path)
        try:
            folder = os.stat(target.parent)
        except (OSError, ValueError):
            return str(target)
        return folder.st_dev, folder.st_ino, target.name
