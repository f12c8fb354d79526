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

import torch
from safetensors.torch import load, save
from torch import Tensor

from mimo_convert.files import input_errors
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted

from .collect import AllSums, Sums

ORIGIN, ANSWERS, FEATURES, STEP = "origin", "answers", "features", "step-"
SQUARES, SUMS, COUNT, STATE = "squares ", "sums ", "count ", "state "
SUFFIX, HASH_BYTES = ".safetensors", 32


class WorkFolder:
    """A folder of intermediate results of the run whose `origin` is given."""

    def __init__(self, folder: Path, origin: Mapping[str, Any]) -> None:
        self.folder = folder
        self.origin_sha256 = sha256(json.dumps(origin).encode()).hexdigest()
        with input_errors(folder, "cannot be written"):
            if not (is_free(folder) or (folder / ORIGIN).is_file()) or folder.is_symlink():
                raise InputError(folder, "is in the way", expected="nothing, or the folder of an interrupted run")
            if not is_free(folder) and get_json(folder / ORIGIN) != json.loads(json.dumps(origin)):
                tell(f"{quoted(folder)}: of another run; begun anew")
                shutil.rmtree(folder)
            elif not is_free(folder):
                tell(f"{quoted(folder)}: resumed")
            folder.mkdir(exist_ok=True)
        put(folder / ORIGIN, json.dumps(origin).encode())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── answers and features ─────────────────────────────────────────────────────────────────────────────────────

    def answer(self, name: str, make: Callable[[], list[int]]) -> list[int]:
        """The token ids of the piece called so, as they were kept, or as they are made now."""
        path = self.folder / f"{ANSWERS}-{name}.json"
        found: list[int] | None = get_json(path)
        if found is None:
            found = make()
            put(path, json.dumps(found).encode())
        return found

    def features(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The features of the piece called so, likewise."""
        path = self.folder / f"{FEATURES}-{name}{SUFFIX}"
        data = get(path)
        if data is None:
            data = save({FEATURES: make().contiguous()})
            put(path, data)
        return load(data)[FEATURES]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, number: int) -> Path:
        """The file of the states before a step."""
        return self.folder / f"{STEP}{number:03d}{SUFFIX}"

    def keep(self, number: int, states: Sequence[Tensor], sums: AllSums) -> None:
        """Keep the states before step `number`, and the sums of the steps before it, in the place of earlier ones."""
        tensors = {f"{STATE}{i}": state.contiguous() for i, state in enumerate(states)}
        for name, of in sums.items():
            tensors |= {f"{SQUARES}{name}": of.squares, f"{SUMS}{name}": of.sums}
            tensors[f"{COUNT}{name}"] = torch.tensor(of.count)
        put(self.step(number), save(tensors))
        self.step(number - 1).unlink(missing_ok=True)

    def resume(self, n_steps: int) -> tuple[int, list[Tensor], AllSums]:
        """The last step whose states were kept, these states, and the sums of the steps before it; 0 and nothing if
        there is none."""
        for number in reversed(range(1, n_steps)):
            data = get(self.step(number))
            if data is not None:
                found = load(data)
                return number, states_in(found), sums_in(found)
        return 0, [], {}


def states_in(found: Mapping[str, Tensor]) -> list[Tensor]:
    """The states of all clips in a step's file."""
    n = sum(name.startswith(STATE) for name in found)
    return [found[f"{STATE}{i}"] for i in range(n)]


def sums_in(found: Mapping[str, Tensor]) -> AllSums:
    """The sums in a step's file."""
    names = [name.removeprefix(COUNT) for name in found if name.startswith(COUNT)]
    return {
        name: Sums(found[f"{SQUARES}{name}"], found[f"{SUMS}{name}"], int(found[f"{COUNT}{name}"])) for name in names
    }


# ── files of the folder ──────────────────────────────────────────────────────────────────────────────────────────


def is_free(folder: Path) -> bool:
    """Whether nothing is at a path, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def put(path: Path, data: bytes) -> None:
    """Write a file whole, with its hash at its end. It is not flushed to the disk: what a power loss leaves of it is
    found out by the hash, and made again. Raises InputError if it cannot be written."""
    new = path.with_name(f"{path.name}.new")
    with input_errors(path, "cannot be written"):
        with open(new, "wb") as file:
            file.write(data)
            file.write(sha256(data).digest())
        os.replace(new, path)


def get(path: Path) -> bytes | None:
    """What `put` wrote; None if there is no such file, or it is damaged."""
    with suppress(OSError):
        data = path.read_bytes()
        content = data[:-HASH_BYTES]
        return content if sha256(content).digest() == data[-HASH_BYTES:] else None
    return None


def get_json(path: Path) -> Any:
    """The value in a JSON file of the folder; None if there is none."""
    data = get(path)
    return None if data is None else json.loads(data)
