"""Addresses of schedulers: encrypted, or on this machine, unless somebody says that the network is safe."""

import ipaddress
import re
from importlib.util import find_spec

from mimo_convert.installation import installation
from quantize.errors import InputError

OPTION, INSECURE = "--cluster", "--insecure-cluster"
TLS, TCP = "tls", "tcp"
FORM = re.compile(
    rf"(?:(?P<protocol>{TLS}|{TCP})://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s/:\[\]@]+):(?P<port>[0-9]{{1,5}})"
)
EXPECTED = f"{TLS}://HOST:PORT, or {TCP}://HOST:PORT"


def check_cluster(address: str, *, insecure: bool) -> None:
    """Raise InputError, before anything is opened, for a cluster (empty: none) that cannot be used as options say."""
    if insecure and not address:
        raise InputError(INSECURE, f"there is no {OPTION}", todo="leave it out")
    if address:
        checked_address(address, insecure=insecure)
        if find_spec("distributed") is None:
            raise InputError(OPTION, "takes Dask, which is not installed", todo=installation("cluster").phrase)


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
