"""Errors of the Hub's library: whether to retry, and one line for the user."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from quantize.errors import InputError

from .hub_token import check_token

T = TypeVar("T")

TRIES = 4  # of a request that may succeed later
FIRST_WAIT = 1.0  # seconds before the second try, unless the Hub says how long; each further wait is twice as long
LONGEST_WAIT = 900  # seconds that the Hub may ask for; if it asks for more, the user is told
TRANSPORTS = {"httpx2", "httpx", "requests", "urllib3"}  # which of them raises depends on the library's version
XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3}) ")
RESPONSE = "the Hub's response"
MALFORMED = (  # what the Hub's library raises over a response that it did not expect
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError, TypeError
)  # fmt: skip
SWITCH = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"  # as the library reads them
OFFLINE = f"the network is switched off by {SWITCH}"
ONLINE = f"unset {SWITCH}"
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

# What the Hub's library raises, in words, and what to do about it; the first that fits.
KINDS: list[tuple[type[Exception], str, str]] = [
    (OfflineModeIsEnabled, OFFLINE, ONLINE),
    (LocalTokenNotFoundError, "there is no token", LOG_IN),
    (GatedRepoError, "the repository is gated, and its owner has not let you in", "ask for access on its page"),
    (RevisionNotFoundError, "there is no such revision", "check its name"),
    (
        RepositoryNotFoundError,
        "no such repository, or it is private and there is no token for it",
        f"check the name, or {LOG_IN}",
    ),
    (EntryNotFoundError, "there is no such file in the repository", "check its name"),
]
STATUSES: dict[int, tuple[str, str]] = {
    401: ("the Hub does not accept the token", LOG_IN),
    403: ("the token does not permit it", "use one with the rights to this repository"),
    404: ("the Hub does not know it", "check the name"),
    409: ("the repository was changed meanwhile", "run the command again"),
    412: ("the repository was changed meanwhile", "run the command again"),
    413: ("it is larger than the Hub accepts", ""),
    416: ("it is shorter than what was asked for", ""),
    429: ("the Hub is asked too often", "wait some minutes, and run the command again"),
}


def retry(do: Callable[[], T], tell: Callable[[str], None] = lambda line: None) -> T:
    """Call `do`, again if the Hub is busy or the connection was cut; `tell` gets a line about each wait.

    Raises what the last attempt raised.
    """
    for n in range(TRIES):
        try:
            with silent_library():
                return do()
        except InputError:
            raise
        except Exception as error:
            wait = seconds_to_wait(error, FIRST_WAIT * 2**n)
            if wait is None or wait > LONGEST_WAIT or n == TRIES - 1:
                raise
            tell(f"{reason(error)}; trying again in {wait:.0f} s")
        time.sleep(wait)
    raise AssertionError("unreachable")


def seconds_to_wait(error: Exception, usual: float) -> float | None:
    """Seconds before the request is repeated; None if it would fail again."""
    status = status_of(error)
    if status == 0:
        return usual if is_of_network(error) else None
    if status not in (408, 429) and status < 500:
        return None
    asked = getattr(response_of(error), "headers", {}).get("Retry-After", "")
    return float(asked) if asked.isdecimal() else usual


@contextmanager
def raising_input_error(where: str, what: str) -> Iterator[None]:
    """Turn errors of the Hub's library into an InputError that begins with `what`; unexpected errors are not caught.

    Its ValueErrors are about user input: a repository's name, or a card's metadata. The token is checked first.
    """
    try:
        check_token()
        yield
    except InputError:
        raise
    except Exception as error:
        known = status_of(error) or is_of_network(error) or isinstance(error, (OSError, ValueError, RuntimeError))
        if not known:
            raise
        raise InputError(where, f"{what}: {reason(error)}", todo=todo(error)) from error


@contextmanager
def checked_response(where: str) -> Iterator[None]:
    """Turn errors of the Hub's library over a malformed response into an InputError.

    For calls of the library only: in our own code these exceptions would be bugs.
    """
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NameError,
        RecursionError,
        TypeError,
    ) as error:
        what = f"{RESPONSE} is malformed ({type(error).__name__}: {error})"
        raise InputError(where, what, expected="JSON as the Hub sends it") from error


def reason(error: Exception) -> str:
    """What went wrong, as text."""
    if any(isinstance(e, json.JSONDecodeError) for e in chain(error)):
        return f"{RESPONSE} is not the JSON that was expected"
    if type(error) is ValueError:  # the library's own words, about a card's metadata or a file
        return str(error)
    status = status_of(error)
    http = f" (HTTP {status})" if status else ""
    for kind, words, _ in KINDS:
        if any(isinstance(e, kind) for e in chain(error)):
            return words + http
    if status in STATUSES:
        return STATUSES[status][0] + http
    if status >= 500:
        return f"the Hub has trouble of its own{http}"
    if is_of_network(error):
        return f"the connection failed: {str(chain(error)[-1]) or type(error).__name__}"
    said = next((str(e.server_message) for e in chain(error) if getattr(e, "server_message", None)), "")  # type: ignore[attr-defined]
    if status:  # the library's own words hold addresses that give access
        return f"the Hub refuses{': ' + said if said else ''}{http}"
    return str(error) or type(error).__name__


def todo(error: Exception) -> str:
    """What the user can do about it."""
    for kind, _, words in KINDS:
        if any(isinstance(e, kind) for e in chain(error)):
            return words
    status = status_of(error)
    if status in STATUSES:
        return STATUSES[status][1]
    if status >= 500:
        return "run the command again later"
    if isinstance(error, HFValidationError):
        return "give OWNER/NAME"
    return "check the network, and run the command again" if is_of_network(error) else ""


def chain(error: BaseException) -> list[BaseException]:
    """An error and its causes."""
    found = [error]
    while found[-1].__cause__:
        found.append(found[-1].__cause__)
    return found


def response_of(error: BaseException) -> Any:
    """The HTTP response of an error, or None."""
    return next((e.response for e in chain(error) if getattr(e, "response", None) is not None), None)  # type: ignore[attr-defined]


def status_of(error: BaseException) -> int:
    """The HTTP status of an error, or 0. `hf_xet`, which uploads large files, has it in its message only."""
    told = next((found for e in chain(error) if (found := XET_STATUS.search(str(e)))), None)
    return getattr(response_of(error), "status_code", 0) or (int(told[1]) if told else 0)


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the Hub did not say anything: the network failed, or is switched off."""
    return is_of_network(error) or any(isinstance(e, OfflineModeIsEnabled) for e in chain(error))


def is_of_network(error: BaseException) -> bool:
    """Whether there was no response, or an incomplete one."""
    if status_of(error) or any(isinstance(e, OfflineModeIsEnabled) for e in chain(error)):
        return False
    cut = (ConnectionError, TimeoutError, json.JSONDecodeError)
    return any(isinstance(e, cut) or type(e).__module__.partition(".")[0] in TRANSPORTS for e in chain(error))


@contextmanager
def silent_library() -> Iterator[None]:
    """Silence the Hub's library, which logs each attempt with URLs that grant access."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
