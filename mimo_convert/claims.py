"""Claims on files: no output of a command may be one of its inputs, or another output.

Files are identified by device and inode, through links. A file that does not exist yet is identified by its folder and
name.
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
    """The files that the options of a command read and write, by identity: (option, whether it writes)."""

    owners: dict[Hashable, tuple[str, bool]] = field(default_factory=dict)

    def reads(self, option: str, path: Path) -> None:
        """Claim `path`, or the files in it if it is a folder, for reading. Raises InputError if another option writes
        one."""
        for file in files_of(path):
            key = identity(file)
            owner, writes = self.owners.setdefault(key, (option, False))
            if writes:
                raise collision(owner, file, option, "reads it")

    def writes(self, option: str, path: Path, rereads: Iterable[str] = ()) -> None:
        """Claim the file `path`, which may exist, for writing.

        Raises InputError if another option reads or writes it, except for an option of `rereads`, whose file is
        rewritten. Pipes and devices may be written by any number of options.
        """
        if is_stream(path):
            return
        key = identity(path)
        owner, writes = self.owners.setdefault(key, (option, True))
        if owner != option and (writes or owner not in rereads):
            raise collision(option, path, owner, "writes it, too" if writes else "reads it")
        self.owners[key] = option, True


def collision(writer: str, path: Path, other: str, what: str) -> InputError:
    """The error for two options that name the same file."""
    return InputError(writer, f"would replace {quoted(path)}: {other} {what}", todo="give another name")


def files_of(path: Path) -> list[Path]:
    """The file itself, or the files in a folder; empty if there is none."""
    try:
        mode = os.stat(path).st_mode
        return [Path(entry.path) for entry in os.scandir(path)] if stat.S_ISDIR(mode) else [path]
    except (OSError, ValueError):  # whoever reads it says so
        return []


def identity(path: Path) -> Hashable:
    """The identity of a file: (device, inode), or its folder and name if it does not exist."""
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
