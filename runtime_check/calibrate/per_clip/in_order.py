"""Sums of packs that come in any order, and are added in the order of their numbers.

What came too early waits in the work folder of the run; the total of what was added lies there, too, so that an
interrupted run is resumed: no pack is lost, and none counts twice.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..work import SUFFIX, Array, arrays_of, get, put, sums_in
from .sums import AllSums, add_up

TOTAL, PACK, NEXT = "sums", "pack-", "next"


class PackSums:
    """The sums of packs 0, 1, … in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = get(self._path(TOTAL)) or {NEXT: np.array(0)}
        self.next = int(found.pop(NEXT))  # of the packs that were added, there are so many
        self.total = sums_in(found)
        self._add_those_that_wait()

    def has(self, number: int) -> bool:
        """Whether the sums of a pack are there."""
        return number < self.next or get(self._pack(number)) is not None

    def keep(self, number: int, clips: Sequence[AllSums]) -> None:
        """Keep the sums of the clips of a pack, in order; those of a pack that is there are ignored. Raises InputError
        if they cannot be written."""
        if self.has(number):
            return
        if number > self.next:
            put(
                self._pack(number),
                {f"{i} {key}": x for i, one in enumerate(clips) for key, x in arrays_of(one).items()},
            )
            return
        add_up(self.total, clips)
        self.next += 1
        self._add_those_that_wait()
        put(self._path(TOTAL), {NEXT: np.array(self.next), **arrays_of(self.total)})
        self._drop_those_that_were_added()

    def _add_those_that_wait(self) -> None:
        """Add the packs that come next, as far as they are there."""
        while found := get(self._pack(self.next)):
            add_up(self.total, clips_in(found))
            self.next += 1

    def _drop_those_that_were_added(self) -> None:
        for path in self.folder.glob(f"{PACK}*{SUFFIX}"):
            if path < self._pack(self.next):
                path.unlink(missing_ok=True)

    def _pack(self, number: int) -> Path:
        return self._path(f"{PACK}{number:06d}")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


def clips_in(found: dict[str, Array]) -> list[AllSums]:
    """The sums of the clips in a pack's file."""
    parts: dict[int, dict[str, Array]] = {}
    for key, array in found.items():
        number, _, rest = key.partition(" ")
        parts.setdefault(int(number), {})[rest] = array
    return [sums_in(parts[number]) for number in sorted(parts)]
