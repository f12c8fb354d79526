"""What is called as a file is, and is none."""

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory


def a_pipe(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, TemporaryDirectory() as folder:  # a socket's path must be short
        server.bind(f"{folder}/s")
        os.replace(f"{folder}/s", path)


def a_device(path: Path) -> None:
    """A link to a character device that never ends."""
    path.symlink_to("/dev/zero")
