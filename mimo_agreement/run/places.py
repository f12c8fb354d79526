"""Where files are, by their SHA-256: a job names none by its path."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError


class Places(Protocol):
    """The files that jobs are about."""

    def path(self, sha256: str) -> Path:
        """The path of the file with that hash. Raises InputError if there is none, or if it has changed."""


@dataclass(frozen=True)
class LocalPlaces:
    """Files on this machine by their SHA-256, with the state of each when it was hashed (LocalShards.state); none for
    files that are hashed whenever they are read."""

    paths: Mapping[str, Path]
    states: Mapping[str, str] = field(default_factory=dict)

    def path(self, sha256: str) -> Path:
        found = self.paths[sha256]
        if sha256 in self.states and LocalShards().state(found) != self.states[sha256]:
            raise changed(found)
        return found


def changed(path: Path) -> InputError:
    """The error for a file that is not what it was when the command began."""
    return InputError(path, "was changed while the command ran", todo="let nothing write to it, and run it again")
