"""Source files of a model's tensors: local ones here; those of the Hub in hub_shards.py."""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from mimo_convert.files import input_errors, open_regular
from quantize.errors import WorthlessError

from .hub_folder import downloaded


class LocalShards:
    """Local files, which stay. `states` records each file's state when its header was read."""

    def __init__(self) -> None:
        self.states: dict[Path, str] = {}

    def of_folder(self, name: str) -> "LocalShards":
        """The files in another folder of the same repository."""
        return self

    def files(self, folder: Path) -> list[Path]:
        """The safetensors files of the checkpoint in `folder`, sorted."""
        return sorted(folder.glob("*.safetensors"))

    def exists(self, file: Path) -> bool:
        """Whether the file exists."""
        return file.exists()

    def is_here(self, file: Path) -> bool:
        """Whether the whole file can be read now."""
        return True

    def size(self, file: Path) -> int:
        """Bytes of the file. Raises InputError if it was deleted."""
        with input_errors(file, "cannot be read"):
            return file.stat().st_size

    def open(self, file: Path) -> AbstractContextManager[BinaryIO]:
        """Open the file to read its header."""
        self.note(file)
        return open_regular(file, expected="a safetensors file")

    def expect(self, files: Sequence[Path]) -> None:
        """Announce the files that will be fetched, in order."""

    def room(self, files: Sequence[Path], folder: Path) -> int:
        """Bytes that will be downloaded to the disk of `folder`."""
        return 0

    def to_download(self, files: Sequence[Path]) -> int:
        """Bytes of these files that are still to be downloaded."""
        return 0

    def rate(self) -> float:
        """Bytes a second at which files come from where they are downloaded; infinite for local files."""
        return math.inf

    def fetch(self, file: Path) -> None:
        """Wait until the whole file can be read. The one fetched before has been read."""

    def release(self, file: Path) -> None:
        """Release a file that is no longer needed."""

    def published_sha256(self, file: Path) -> str:
        """The sha256 that the Hub lists for the file; empty if unknown."""
        return downloaded(file).sha256

    def identity(self, file: Path) -> str:
        """A text that changes with the file's content, from run to run. Raises InputError if it was deleted."""
        self.note(file)
        return f"{file.name} {self.states[file]}"

    def note(self, file: Path) -> None:
        """Record the file's state before anything is read of it. Raises InputError if it was deleted."""
        if file not in self.states:
            self.states[file] = self.state(file)

    def check_unchanged(self, files: Iterable[Path]) -> None:
        """Raise WorthlessError for a file that changed while it was read."""
        for file in files:
            if file in self.states and self.is_here(file) and self.state(file) != self.states[file]:
                todo = "let nothing write to it, and run the command again"
                raise WorthlessError(file, "was changed while it was being read", todo=todo)

    def state(self, file: Path) -> str:
        """A text that changes when a file is written or replaced, even if its mtime is restored (ctime cannot be set).

        Raises InputError if it was deleted.
        """
        with input_errors(file, "cannot be read"):
            status = os.stat(file)
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
