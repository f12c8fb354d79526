"""What the disk is asked: how much room there is, and to keep names."""

import os
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, or will."""
    while not os.path.exists(folder):
        folder = folder.resolve().parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def flush_folder(folder: Path) -> None:
    """See the names in a folder onto the disk: they, too, must survive a power loss."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
