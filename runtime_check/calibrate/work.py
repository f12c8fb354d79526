"""The work folder of a calibration, beside its output: answers, features, and states between steps, so that an
interrupted run is resumed.

Files of another origin are of no use: such a run begins anew.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mimo_convert.files import input_errors
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted

from .per_clip.sums import AllSums, Sums

ORIGIN, ANSWERS, FEATURES, STEP = "origin.npz", "answers", "features", "step-"
SQUARES, SUMS, COUNT, STATE = "squares ", "sums ", "count ", "state "
VALUES, SUFFIX = "values", ".npz"

Array = npt.NDArray[Any]


class WorkFolder:
    """A folder of intermediate results of the run whose `origin` is given."""

    def __init__(self, folder: Path, origin: Mapping[str, Any]) -> None:
        text = json.dumps(origin, sort_keys=True)
        self.folder, self.origin_sha256 = folder, sha256(text.encode()).hexdigest()
        with input_errors(folder, "cannot be written"):
            if not (is_free(folder) or (folder / ORIGIN).is_file()) or folder.is_symlink():
                raise InputError(folder, "is in the way", expected="nothing, or the folder of an interrupted run")
            if not is_free(folder) and get_text(folder / ORIGIN) != text:
                tell(f"{quoted(folder)}: of another run; begun anew")
                shutil.rmtree(folder)
            elif not is_free(folder):
                tell(f"{quoted(folder)}: resumed")
            folder.mkdir(exist_ok=True)
        put(folder / ORIGIN, {VALUES: np.array(text)})

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── answers and features ─────────────────────────────────────────────────────────────────────────────────────

    def answer(self, name: str, make: Callable[[], list[int]]) -> list[int]:
        """The token ids of the piece called so, as they were kept, or as they are made now."""
        return [int(token) for token in self._kept(f"{ANSWERS}-{name}", lambda: np.array(make(), np.int64))]

    def features(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The features of the piece called so, likewise."""
        return torch.from_numpy(self._kept(f"{FEATURES}-{name}", lambda: make().numpy()))

    def _kept(self, name: str, make: Callable[[], Array]) -> Array:
        """The array in the file called so, or the one that is made now."""
        path = self.folder / f"{name}{SUFFIX}"
        found = get(path)
        if found is None:
            found = {VALUES: make()}
            put(path, found)
        return found[VALUES]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, number: int) -> Path:
        """The file of the states before a step."""
        return self.folder / f"{STEP}{number:03d}{SUFFIX}"

    def keep(self, number: int, states: Sequence[Tensor], sums: AllSums) -> None:
        """Keep the states before step `number`, and the sums of the steps before it, in the place of earlier ones."""
        put(self.step(number), {f"{STATE}{i}": state.numpy() for i, state in enumerate(states)} | arrays_of(sums))
        self.step(number - 1).unlink(missing_ok=True)

    def resume(self, n_steps: int) -> tuple[int, list[Tensor], AllSums]:
        """The last step whose states were kept, these states, and the sums of the steps before it; 0 and nothing if
        there is none."""
        for number in reversed(range(1, n_steps)):
            found = get(self.step(number))
            if found is not None:
                return number, states_in(found), sums_in(found)
        return 0, [], {}


def states_in(found: Mapping[str, Array]) -> list[Tensor]:
    """The states of all clips in a step's file."""
    n = sum(name.startswith(STATE) for name in found)
    return [torch.from_numpy(found[f"{STATE}{i}"]) for i in range(n)]


def arrays_of(sums: AllSums) -> dict[str, Array]:
    """Sums as a file has them."""
    arrays: dict[str, Array] = {}
    for name, of in sums.items():
        arrays |= {f"{SQUARES}{name}": of.squares, f"{SUMS}{name}": of.sums, f"{COUNT}{name}": np.array(of.count)}
    return arrays


def sums_in(found: Mapping[str, Array]) -> AllSums:
    """The sums in a file."""
    counts = {name.removeprefix(COUNT): int(n) for name, n in found.items() if name.startswith(COUNT)}
    return {name: Sums(found[f"{SQUARES}{name}"], found[f"{SUMS}{name}"], n) for name, n in counts.items()}


# ── files of the folder ──────────────────────────────────────────────────────────────────────────────────────────


def is_free(folder: Path) -> bool:
    """Whether nothing is at a path, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def put(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file whole, with a checksum each. It is not flushed to the disk: what a power loss leaves of it
    is found out by the checksums, and made again. Raises InputError if it cannot be written."""
    new = path.with_name(f"{path.name}.new")
    with input_errors(path, "cannot be written"):
        with open(new, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(new, path)


def get(path: Path) -> dict[str, Array] | None:
    """What `put` wrote; None if there is no such file, or it is damaged."""
    with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(path, allow_pickle=False) as found:
        return dict(found)
    return None


def get_text(path: Path) -> str:
    """The text in a file of the folder; empty if there is none."""
    found = get(path)
    return "" if found is None else str(found[VALUES])
