"""A command of this package as a user starts it, and the files that it writes when nothing happens to it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mimo_convert.disk import sha256_of

BIN = Path(sys.executable).parent
UNFINISHED = (".part", ".part.journal")


@dataclass(frozen=True)
class Command:
    """A console script with its arguments, of which `OUT` stands for the folder it writes into.

    `files` are the sha256 of what it writes, by name; `environment` is added to ours.
    """

    script: str
    arguments: Sequence[object]
    environment: Mapping[str, str]
    files: dict[str, str] = field(default_factory=dict)

    def start(self, out: Path, *more: object, **environment: str) -> "subprocess.Popen[str]":
        words = [str(argument).replace("OUT", str(out)) for argument in (*self.arguments, *more)]
        return subprocess.Popen(
            [str(BIN / self.script), *words],
            env=os.environ | self.environment | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def run(self, out: Path, *more: object, **environment: str) -> tuple[int, str]:
        """The exit status, or minus the signal, and stderr."""
        process = self.start(out, *more, **environment)
        said = process.communicate()[1]
        return process.returncode, said

    def undisturbed(self, out: Path) -> "Command":
        """The same, with the files that it has now written into `out`. Raises RuntimeError if it fails."""
        status, said = self.run(out)
        if status or said:
            raise RuntimeError(f"exit status {status}: {said}")
        return Command(self.script, self.arguments, self.environment, hashes(out))

    def wrong(self, out: Path) -> list[str]:
        """Files under final names that are not those of an undisturbed run."""
        found = hashes(out, but=UNFINISHED)
        return [name for name, sha256 in found.items() if self.files.get(name) != sha256]

    def finishes(self, out: Path, *more: object) -> tuple[str, str]:
        """What is wrong when the command runs once more, undisturbed, and should complete its files; and its stderr."""
        status, said = self.run(out, *more)
        if status:
            return f"rerun: exit status {status}: {said}", said
        return self.differs(out), said

    def differs(self, out: Path) -> str:
        """What in the folder is not as an undisturbed run leaves it; empty if nothing."""
        found = hashes(out)
        names = [name for name in {*found, *self.files} if found.get(name) != self.files.get(name)]
        return f"in the end not as of an undisturbed run: {', '.join(sorted(names))}" if names else ""


def hashes(folder: Path, but: tuple[str, ...] = ()) -> dict[str, str]:
    """The sha256 of each file in a folder that there may be, by name, `but` those whose names end so."""
    files = sorted(folder.iterdir()) if folder.exists() else []
    return {file.name: sha256_of(file) for file in files if not (but and file.name.endswith(but))}
