"""Validate the token that the Hub's library would send, without showing it."""

import os
import re
import stat
from pathlib import Path

from huggingface_hub import constants

from quantize.errors import InputError

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # where the library looks first, in this order
SENDABLE = re.compile("[!-~]+")  # what an HTTP header takes of a token (RFC 9110, field values; RFC 6750, b64token)
MOST_BYTES = 10_000
EXPECTED = "a token of the Hub, such as hf_…: letters and digits"


def check_token() -> None:
    """Raise InputError, naming the token's source but not the token, if it cannot be sent in a header."""
    if constants.HF_HUB_OFFLINE:
        return  # nothing is sent
    where, token = find_token()
    token = token.replace("\r", "").replace("\n", "").strip()  # as the library does
    if token and not SENDABLE.fullmatch(token):
        at = next(i for i, character in enumerate(token, 1) if not SENDABLE.fullmatch(character))
        what = f"holds a token that cannot be sent: character {at} of {len(token)} is {kind(token[at - 1])}"
        raise InputError(where, what, expected=EXPECTED, todo=f"set it right, or {todo(where)}")


def find_token() -> tuple[str, str]:
    """The source and value of the token; empty if there is none."""
    for name in VARIABLES:
        if os.environ.get(name):
            return name, os.environ[name]
    path = Path(constants.HF_TOKEN_PATH)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(path, "is not a regular file", expected=EXPECTED, todo=todo(str(path)))
        with path.open("rb") as file:
            data = file.read(MOST_BYTES)
        return str(path), data.decode()
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        raise InputError(path, f"the token cannot be read: {error.strerror}", todo=todo(str(path))) from error
    except UnicodeDecodeError:  # not as the cause: it holds the token
        raise InputError(
            path, "holds a token that cannot be sent: it is not UTF-8", expected=EXPECTED, todo=todo(str(path))
        ) from None


def kind(character: str) -> str:
    """What is wrong with a character, without showing it."""
    return "a space" if character == " " else "not ASCII" if ord(character) > 126 else "a control character"


def todo(where: str) -> str:
    """How to remove the token."""
    return f"unset {where}" if where in VARIABLES else "log in with `hf auth login`"
