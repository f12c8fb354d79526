"""A folder for millions of short-lived files: in memory, where there is room."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

IN_MEMORY = Path("/dev/shm")
ROOM = 1 << 30  # bytes


@contextmanager
def scratch() -> Iterator[Path]:
    usable = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM
    with TemporaryDirectory(prefix="fuzz", dir=IN_MEMORY if usable else None) as folder:
        yield Path(folder)
