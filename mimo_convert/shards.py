"""Where the files of a model's tensors come from: here, they are on this machine; in `hub.py`, they arrive."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO


class LocalShards:
    """Files that are on this machine, and stay."""

    def exists(self, file: Path) -> bool:
        """Whether there is such a file."""
        return file.exists()

    def size(self, file: Path) -> int:
        """Bytes of the whole file."""
        return file.stat().st_size

    def open(self, file: Path) -> AbstractContextManager[BinaryIO]:
        """The file from its beginning, to read its header."""
        return file.open("rb")

    def fetch(self, file: Path) -> None:
        """Return as soon as all of the file can be read."""

    def release(self, file: Path) -> None:
        """The conversion that `fetch`ed the file has no more use for it."""

    def identity(self, file: Path) -> str:
        """What changes whenever the file's content does."""
        status = os.stat(file)
        return f"{file.name} {status.st_size} {status.st_mtime_ns}"
