"""Tell by a webhook: the message is posted as JSON.

The URL gives whoever has it the right to post: only its host is ever shown.
"""

import ipaddress
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from mimo_convert import __version__
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

from .channel import NotSentError

TRIES = 3
FIRST_WAIT = 1.0  # seconds before the second try, unless the server says how long; each further wait is twice as long
LONGEST_WAIT = 30.0
TIMEOUT = 10.0  # seconds of a try, with the look-up of its host
BUSY = 429
URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
# Characters that mean something to those who show it: Slack wants the first three as entities
# (https://docs.slack.dev/messaging/formatting-message-text), and a name behind @ would call somebody.
MEANING = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"})


@dataclass(frozen=True)
class Webhook:
    """The webhook at `url`, empty if the environment variable `variable` is not set."""

    variable: str
    url: str = field(repr=False)

    @property
    def name(self) -> str:
        return host_of(self.url) or "the webhook"

    @property
    def missing(self) -> str:
        return "" if self.url else f"{self.variable} is not set"

    def about(self) -> str:
        return f"posts to {self.name} ({self.variable})"

    def size(self, text: str) -> int:
        return len(body_of(text))

    def send(self, text: str) -> None:
        """Post the message; again if the server is busy, or the connection failed."""
        if self.missing:
            raise NotSentError(self.missing)
        why, wait = "", 0.0
        for n in range(TRIES):
            time.sleep(wait)
            try:
                within(TIMEOUT, self.url, body_of(text))
                return
            except HTTPError as error:
                why, wait = status_text(error.code), seconds_to_wait(error, FIRST_WAIT * 2**n)
                if error.code != BUSY and error.code < 500:
                    break
            except (OSError, HTTPException, ValueError) as error:
                why, wait = reason(error), FIRST_WAIT * 2**n
        raise NotSentError(f"{self.name}: {why}")


def webhook_of(variable: str) -> Webhook:
    """The webhook whose URL is in an environment variable. Raises InputError for one that cannot be used."""
    url = os.environ.get(variable, "").strip()
    if url:
        check_url(variable, url)
    return Webhook(variable, url)


def check_url(variable: str, url: str) -> None:
    """Raise InputError unless `url` is of https, or of http and this machine."""
    expected = "https://…, or http:// to this machine (localhost, 127.0.0.1)"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not URL.fullmatch(url) or not host:
        raise InputError(variable, "does not hold a URL that can be used", expected=expected)
    if "@" in parts.netloc:
        raise InputError(variable, f"holds a URL of {host} with a user name", expected="one without")
    if parts.scheme != "https" and not is_loopback(host):
        raise InputError(variable, f"holds an http:// URL of {host}, where others can read along", expected=expected)


def host_of(url: str) -> str:
    """The host of a URL; empty if it has none."""
    return urlsplit(url).hostname or ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def body_of(text: str) -> bytes:
    """The message as Slack, Mattermost and others take it."""
    return json.dumps({"text": text.translate(MEANING)}, ensure_ascii=False).encode()


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────


class NoRedirects(HTTPRedirectHandler):
    """Takes a redirect for what it is: another address, that nobody has chosen."""

    def redirect_request(self, *_: Any) -> None:
        return None


def opener(url: str) -> OpenerDirector:
    """An opener that follows no redirects; with the environment's proxies, but for this machine."""
    without_proxies = [ProxyHandler({})] if urlsplit(url).scheme == "http" else []
    return build_opener(NoRedirects, *without_proxies)


def post(url: str, body: bytes) -> None:
    """Post JSON. Raises HTTPError for any other status than success, OSError, HTTPException or ValueError."""
    headers = {"Content-Type": "application/json", "User-Agent": f"mimo-check/{__version__}"}
    try:
        opener(url).open(Request(url, body, headers, method="POST"), timeout=TIMEOUT).close()
    except HTTPError as error:
        error.close()
        raise


def within(seconds: float, url: str, body: bytes) -> None:
    """Post in a thread that is left alone after `seconds`: a look-up of a host cannot be ended, and a server that sends
    a byte now and then keeps to every timeout."""
    ended: SimpleQueue[Exception | None] = SimpleQueue()

    def run() -> None:
        try:
            post(url, body)
        except Exception as error:
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error:
        raise error


def seconds_to_wait(error: HTTPError, usual: float) -> float:
    """Seconds before the next try: as long as the server asks for, within reason."""
    asked = error.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdecimal() else usual


def status_text(status: int) -> str:
    """An HTTP status in words; the server's own might repeat the URL."""
    try:
        words = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = f"HTTP {status}"
    return f"{words}, and redirects are not followed" if 300 <= status < 400 else words


def reason(error: Exception) -> str:
    """Why there was no answer, in words that hold no URL."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    if isinstance(cause, OSError):
        return quoted(reason_of(cause))
    return f"the connection failed ({cause if isinstance(cause, str) else type(cause).__name__})"
