"""What a process that answers jobs, and its parent, send each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quantize.errors import InputError

from ..jobs import Model, Outcome
from ..places import Places


@dataclass(frozen=True)
class Setup:
    """What a process needs beside jobs: the models, where files are, its number of threads, and for how many seconds
    it waits for a job before it ends (None: for ever)."""

    models: Sequence[Model]
    places: Places
    threads: int
    idle: float | None = None


class Said(NamedTuple):
    """A message about the work at hand."""

    line: str


class Refused(NamedTuple):
    """The parts of an InputError, which ends the command."""

    where: str
    what: str
    expected: str
    todo: str

    @property
    def error(self) -> InputError:
        """The error."""
        return InputError(self.where, self.what, expected=self.expected, todo=self.todo)


READY = "ready"
Message = Outcome | Said | Refused | str
