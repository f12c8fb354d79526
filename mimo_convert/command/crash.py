"""Unexpected exceptions: one line for the user, and a traceback file for a bug report."""

import os
import re
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from quantize.quoting import quoted

SECRET = re.compile(r"hf_[A-Za-z0-9]+|(?<=Bearer )\S+")  # access tokens of the Hugging Face Hub


def report_line(error: BaseException, doing: str) -> str:
    """A line about `error`, raised while `doing`; it names the file with the traceback."""
    what = quoted(without_secrets(f"{type(error).__name__}: {error}"), 300)
    file = write_traceback(error)
    todo = f"please report it, with {file}" if file else "please report it, with what --debug shows"
    return f"internal error in {doing}: {what}; this is a bug in mimo-convert: {todo}"


def write_traceback(error: BaseException) -> Path | None:
    """Write the traceback to a new private file in the user's cache folder; None if that fails.

    It contains code, names and exception texts; no values of variables, no environment, no tokens.
    """
    with suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(".txt", "traceback-", folder)  # of mode 0600
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(without_secrets("".join(traceback.format_exception(error))))
        return Path(name)
    return None


def cache_folder() -> Path:
    """The user's cache folder (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimo-convert"


def without_secrets(text: str) -> str:
    """Replace access tokens in `text`: whatever has their form, and the value of HF_TOKEN."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return SECRET.sub("***", text.replace(token, "***") if token else text)
