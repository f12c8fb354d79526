"""Addresses of schedulers: encrypted, or on this machine, unless somebody says that the network is safe."""

import ipaddress
import re

from quantize.errors import InputError

OPTION, INSECURE = "--cluster", "--insecure-cluster"
TLS, TCP = "tls", "tcp"
FORM = re.compile(
    rf"(?:(?P<protocol>{TLS}|{TCP})://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s/:\[\]@]+):(?P<port>[0-9]{{1,5}})"
)
EXPECTED = f"{TLS}://HOST:PORT, or {TCP}://HOST:PORT"


def checked_address(text: str, *, insecure: bool) -> str:
    """The address as Dask takes it. Raises InputError for another text, and for an address elsewhere without TLS,
    unless `insecure`: whoever reads or changes what is sent there can run anything on every machine."""
    found = FORM.fullmatch(text)
    if not found:
        raise InputError(OPTION, f"{text!r} is not the address of a scheduler", expected=EXPECTED)
    protocol, host = found["protocol"] or TCP, found["host"]
    if protocol == TCP and not insecure and not is_loopback(host.strip("[]")):
        todo = f"use {TLS}://, or {INSECURE} in a network where nobody else is"
        raise InputError(OPTION, f"{text} is not encrypted, and not on this machine", todo=todo)
    return f"{protocol}://{host}:{found['port']}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
