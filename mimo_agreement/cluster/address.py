"""Addresses of schedulers: encrypted, or on this machine, unless somebody says that the network is safe."""

import ipaddress
import re
from dataclasses import dataclass
from importlib.util import find_spec

from mimo_convert.installation import installation
from quantize.errors import InputError

OPTION, INSECURE = "--cluster", "--insecure-cluster"
TLS, TCP = "tls", "tcp"
FORM = re.compile(
    rf"(?:(?P<protocol>{TLS}|{TCP})://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s/:\[\]@]+):(?P<port>[0-9]{{1,5}})"
)
EXPECTED = f"{TLS}://HOST:PORT, or {TCP}://HOST:PORT"


@dataclass(frozen=True)
class ClusterAddress:
    """The address of a scheduler as the user wrote it (empty: none), and whether it may be `insecure`: one elsewhere
    without TLS. `option` and `insecure_option` are where both were said, `resume` is how what is kept is gone on
    with."""

    text: str
    insecure: bool = False
    option: str = OPTION
    insecure_option: str = INSECURE
    resume: str = "with --store, the same command resumes"

    def check(self) -> None:
        """Raise InputError, before anything is opened, for a cluster that cannot be used."""
        if self.insecure and not self.text:
            raise InputError(self.insecure_option, f"there is no {self.option}", todo="leave it out")
        if self.text:
            self.checked()
            if find_spec("distributed") is None:
                raise InputError(self.option, "takes Dask, which is not installed", todo=installation("cluster").phrase)

    def checked(self) -> str:
        """The address as Dask takes it. Raises InputError for another text, and for an address elsewhere without TLS,
        unless it may be: whoever reads or changes what is sent there can run anything on every machine."""
        found = FORM.fullmatch(self.text)
        if not found:
            raise InputError(self.option, f"{self.text!r} is not the address of a scheduler", expected=EXPECTED)
        protocol, host = found["protocol"] or TCP, found["host"]
        if protocol == TCP and not self.insecure and not is_loopback(host.strip("[]")):
            todo = f"use {TLS}://, or {self.insecure_option} in a network where nobody else is"
            raise InputError(self.option, f"{self.text} is not encrypted, and not on this machine", todo=todo)
        return f"{protocol}://{host}:{found['port']}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
