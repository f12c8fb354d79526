"""Which schedulers are spoken to."""

import pytest

from mimo_agreement.cluster.address import ClusterAddress
from quantize.errors import InputError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8786", "tcp://localhost:8786"), ("127.0.0.1:8786", "tcp://127.0.0.1:8786"),
        ("tcp://127.8.9.1:1", "tcp://127.8.9.1:1"), ("tcp://[::1]:8786", "tcp://[::1]:8786"),
        ("tls://scheduler.example:8786", "tls://scheduler.example:8786"),
    ],
)  # fmt: skip
def test_encrypted_or_on_this_machine(text: str, address: str) -> None:
    assert ClusterAddress(text, insecure=False).checked() == ClusterAddress(text, insecure=True).checked() == address


@pytest.mark.parametrize(
    "text",
    ["scheduler:8786", "tcp://10.0.0.7:8786", "localhost.evil.example:1", "tcp://[2001:db8::1]:8786", "0.0.0.0:1"],
)
def test_elsewhere_only_if_somebody_says_that_the_network_is_safe(text: str) -> None:
    with pytest.raises(InputError, match="is not encrypted, and not on this machine; use tls://, or --insecure-"):
        ClusterAddress(text, insecure=False).checked()
    assert ClusterAddress(text, insecure=True).checked().endswith(text)


@pytest.mark.parametrize("text", ["", "localhost", "http://localhost:80", "inproc://1:2", "tls://a b:1", "tcp://a@b:1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not the address of a scheduler; expected tls://HOST:PORT, or tcp://HOST"):
        ClusterAddress(text, insecure=True).checked()


def test_what_was_said_where_is_told_so() -> None:
    of_config = {"option": "cluster", "insecure_option": "insecure_cluster = true"}
    with pytest.raises(
        InputError, match=r"^cluster: far:1 is not encrypted.*; use tls://, or insecure_cluster = true in"
    ):
        ClusterAddress("far:1", **of_config).check()
    with pytest.raises(InputError, match=r"^insecure_cluster = true: there is no cluster; leave it out"):
        ClusterAddress("", True, **of_config).check()
    ClusterAddress("").check()
