"""Where the files of a model's tensors come from: here, they are on this machine; in `hub.py`, they arrive."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from .hub_folder import downloaded


class LocalShards:
    """Files that are on this machine, and stay."""

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
        """Bytes of the whole file."""
        return file.stat().st_size

    def open(self, file: Path) -> AbstractContextManager[BinaryIO]:
        """The file from its beginning, to read its header."""
        return file.open("rb")

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
        """What changes whenever the file's content does."""
        status = os.stat(file)
        return f"{file.name} {status.st_size} {status.st_mtime_ns}"
