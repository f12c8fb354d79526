"""Where the files of a model's tensors come from: here, they are on this machine; in `hub.py`, they arrive."""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from quantize.errors import WorthlessError

from .files import input_errors, open_regular
from .hub_folder import downloaded


class LocalShards:
    """Files that are on this machine, and stay. `states` has what each was when its header was read."""

    def __init__(self) -> None:
        self.states: dict[Path, str] = {}

    def files(self, folder: Path) -> list[Path]:
        """Every safetensors file of the checkpoint in `folder`, in order."""
        return sorted(folder.glob("*.safetensors"))

    def exists(self, file: Path) -> bool:
        """Whether there is such a file."""
        return file.exists()

    def is_here(self, file: Path) -> bool:
        """Whether all of the file can be read now."""
        return True

    def size(self, file: Path) -> int:
        """Bytes of the whole file. Raises InputError if it is gone."""
        with input_errors(file, "cannot be read"):
            return file.stat().st_size

    def open(self, file: Path) -> AbstractContextManager[BinaryIO]:
        """The file from its beginning, to read its header."""
        self.note(file)
        return open_regular(file, expected="a safetensors file")

    def expect(self, files: Sequence[Path]) -> None:
        """These files will be fetched, in this order."""

    def room(self, files: Sequence[Path], folder: Path) -> int:
        """Bytes that are to arrive on the disk that holds `folder`, or will."""
        return 0

    def fetch(self, file: Path) -> None:
        """Return as soon as all of the file can be read. What is to be read of the one fetched before, was."""

    def release(self, file: Path) -> None:
        """The conversion that `fetch`ed the file has no more use for it."""

    def published_sha256(self, file: Path) -> str:
        """The sha256 that the Hub gives for the file; empty where it is not from there, as far as is known."""
        return downloaded(file).sha256

    def identity(self, file: Path) -> str:
        """What changes whenever the file's content does, from one run to the next. Raises InputError if it is gone."""
        self.note(file)
        return f"{file.name} {self.states[file]}"

    def note(self, file: Path) -> None:
        """Remember what the file is, before anything is read of it. Raises InputError if it is gone."""
        if file not in self.states:
            self.states[file] = self.state(file)

    def check_unchanged(self, files: Iterable[Path]) -> None:
        """Raises WorthlessError for a file that is not what it was before it was read."""
        for file in files:
            if file in self.states and self.is_here(file) and self.state(file) != self.states[file]:
                todo = "let nothing write to it, and run the command again"
                raise WorthlessError(file, "was changed while it was being read", todo=todo)

    def state(self, file: Path) -> str:
        """What changes whenever a file that is here is written to, replaced, or made to look as it did: no program can
        set a ctime. Raises InputError if it is gone."""
        with input_errors(file, "cannot be read"):
            status = os.stat(file)
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
