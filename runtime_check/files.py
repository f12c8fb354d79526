"""Small files, written whole or not at all."""

from contextlib import suppress
from pathlib import Path

from quantize.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under a name beside `path`, then give it that name. Raises InputError if it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(path, f"cannot be written: {error.strerror}") from error
