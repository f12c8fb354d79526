"""A message to a webhook arrives once, whole, at the one address that was chosen; and nobody learns the address."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mimo_nightly.notify import webhook
from mimo_nightly.notify.channel import NotSentError
from mimo_nightly.notify.webhook import Webhook, webhook_of
from quantize.errors import InputError

from .receiver import SECRET, Receiver, receiving

VARIABLE = "MIMO_WEBHOOK"
URL = f"https://hooks.example.org{SECRET}"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_WAIT", 0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def failure(hook: Webhook) -> str:
    with pytest.raises(NotSentError) as error:
        hook.send("hello")
    said = str(error.value)
    assert SECRET not in said
    assert "verySecretPart" not in said
    return said


def test_a_message_arrives_as_it_is(receiver: Receiver) -> None:
    text = "asr: PASS → FAIL\n  “ü” is \\ wrong, <!channel> & @here"
    Webhook(VARIABLE, receiver.url).send(text)
    assert receiver.texts == [text]
    assert receiver.types == ["application/json"]
    body = receiver.posted[0].decode()
    assert "<!channel>" not in body, "nobody is called by what a file holds"
    assert "@here" not in body


@pytest.mark.parametrize("answers", [[500, 503], [429, 502]])
def test_a_server_that_is_busy_is_asked_three_times(answers: list[int]) -> None:
    with receiving(answers) as receiver:
        Webhook(VARIABLE, receiver.url).send("hello")
        assert receiver.texts == ["hello"] * 3
    with receiving([*answers, 500]) as receiver:
        assert failure(Webhook(VARIABLE, receiver.url)) == "127.0.0.1: HTTP 500 Internal Server Error"
        assert len(receiver.posted) == 3


@pytest.mark.parametrize(
    ("status", "says"),
    [(400, "HTTP 400 Bad Request"), (404, "HTTP 404 Not Found"), (410, "HTTP 410 Gone"), (499, "HTTP 499")],
)
def test_what_it_refuses_it_is_not_asked_again(status: int, says: str) -> None:
    """And its own words, which hold the address, are not repeated."""
    with receiving([status]) as receiver:
        assert failure(Webhook(VARIABLE, receiver.url)) == f"127.0.0.1: {says}"
        assert len(receiver.posted) == 1


def test_a_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with receiving([429, 429], {"Retry-After": "7"}) as receiver:
        Webhook(VARIABLE, receiver.url).send("hello")
    with receiving([503], {"Retry-After": "86400"}) as receiver:
        Webhook(VARIABLE, receiver.url).send("hello")
    assert waited == [0, 7, 7, 0, webhook.LONGEST_WAIT]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    with receiving([status], {"Location": receiver.url}) as first:
        assert "and redirects are not followed" in failure(Webhook(VARIABLE, first.url))
    assert receiver.posted == []


def test_who_does_not_answer_is_left_alone(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.1)
    receiver.hangs = threading.Event()
    assert failure(Webhook(VARIABLE, receiver.url)) == "127.0.0.1: no answer within 0 s"
    assert len(receiver.posted) == 3


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}{SECRET}"
        assert failure(Webhook(VARIABLE, url)) == "127.0.0.1: Connection refused"


def test_what_is_not_http_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(webhook.TRIES):
                with server.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(f"{SECRET} \x1b[2J\r\n\r\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}{SECRET}"
        said = failure(Webhook(VARIABLE, url))
    assert said.startswith("127.0.0.1: ")
    assert said.isprintable()


def test_a_proxy_is_for_other_machines(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for this one would else be sent around as plain text."""
    with receiving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        Webhook(VARIABLE, receiver.url).send("hello")
        assert (receiver.texts, proxy.posted) == (["hello"], [])
        said = failure(Webhook(VARIABLE, URL))  # which asks the proxy for a tunnel, and it knows none
    assert said.startswith("hooks.example.org: Tunnel connection failed")


def test_a_variable_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "  "):
        monkeypatch.setenv(VARIABLE, value)
        hook = webhook_of(VARIABLE)
        assert failure(hook) == hook.missing == "MIMO_WEBHOOK is not set"
        assert hook.about() == "posts to the webhook (MIMO_WEBHOOK)"


@pytest.mark.parametrize(
    "url",
    [URL, f"https://user.example.org:8443{SECRET}?a=b&c", "http://localhost:80/x", "http://127.0.0.5/x",
     "http://[::1]:8000/x", "HTTPS://HOOKS.example.org/x"],
)  # fmt: skip
def test_a_url_that_can_be_used_shows_its_host_alone(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(VARIABLE, url)
    hook = webhook_of(VARIABLE)
    shown = f"{hook.name} {hook.about()} {hook!r}"
    assert url not in shown
    assert "verySecretPart" not in shown
    assert (hook.about(), hook.missing) == (f"posts to {hook.name} (MIMO_WEBHOOK)", "")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            f"http://hooks.example.org{SECRET}",
            "holds an http:// URL of hooks.example.org, where others",
        ),
        (f"http://10.0.0.1{SECRET}", "holds an http:// URL of 10.0.0.1"),
        (f"http://127.0.0.1.example.org{SECRET}", "holds an http:// URL of 127.0.0.1.example.org"),
        (f"http://localhost@example.org{SECRET}", "holds a URL of example.org with a user name"),
        (f"https://me:secret@example.org{SECRET}", "holds a URL of example.org with a user name"),
        (f"ftp://example.org{SECRET}", "does not hold a URL that can be used"),
        (f"file://{SECRET}", "does not hold a URL that can be used"),
        (f"https://{SECRET}", "does not hold a URL that can be used"),
        (f"https://example.org:port{SECRET}", "does not hold a URL that can be used"),
        (f"https://[::1{SECRET}", "does not hold a URL that can be used"),
        (f"https://example.org/a b{SECRET}", "does not hold a URL that can be used"),
        (f"https://example.org/\x1b{SECRET}", "does not hold a URL that can be used"),
        (SECRET, "does not hold a URL that can be used"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_without_it(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(InputError) as error:
        webhook_of(VARIABLE)
    said = str(error.value)
    assert said.startswith(f"{VARIABLE}: {says}")
    assert "ecret" not in said
