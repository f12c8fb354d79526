"""The work folder of a calibration, beside its output: answers, features, and states between steps, so that an
interrupted run is resumed.

Each file is written whole, and is of no use to a run of another origin: that begins anew.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mimo_convert.files import MB, input_errors, read_bytes, write_whole
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted

from .collect import AllSums, Sums

ORIGIN, ANSWERS, FEATURES, STEP = "origin.json", "answers", "features", "step-"
SQUARES, SUMS, STATE, COUNTS = "squares ", "sums ", "state ", "counts"
SUFFIX = ".safetensors"


class WorkFolder:
    """A folder of intermediate results of the run whose `origin` is given."""

    def __init__(self, folder: Path, origin: Mapping[str, Any]) -> None:
        self.folder, self.keeps_every_step = folder, False
        with input_errors(folder, "cannot be written"):
            if folder.is_symlink() or (folder.exists() and not (folder / ORIGIN).is_file()):
                raise InputError(folder, "is in the way", expected="nothing, or the folder of an interrupted run")
            if folder.exists() and _json(folder / ORIGIN) != json.loads(json.dumps(origin)):
                tell(f"{quoted(folder)}: of another run; begun anew")
                shutil.rmtree(folder)
            elif folder.exists():
                tell(f"{quoted(folder)}: resumed")
            folder.mkdir(exist_ok=True)
        write_whole(folder / ORIGIN, json.dumps(origin).encode())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── answers and features ─────────────────────────────────────────────────────────────────────────────────────

    def answer(self, name: str, make: Callable[[], list[int]]) -> list[int]:
        """The token ids of the piece called so, as they were kept, or as they are made now."""
        path = self.folder / f"{ANSWERS}-{name}.json"
        found = _json(path)
        if not isinstance(found, list):
            found = make()
            write_whole(path, json.dumps(found).encode())
        return found

    def features(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The features of the piece called so, likewise."""
        path = self.folder / f"{FEATURES}-{name}{SUFFIX}"
        found = _tensors(path)
        if not found:
            found = {FEATURES: make().contiguous()}
            write_whole(path, safetensors.torch.save(found))
        return found[FEATURES]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, number: int) -> Path:
        """The file of the states before a step."""
        return self.folder / f"{STEP}{number:03d}{SUFFIX}"

    def keep(self, number: int, states: Sequence[Tensor], sums: AllSums) -> None:
        """Keep the states before step `number`, and the sums of the steps before it, in the place of earlier ones."""
        tensors = {f"{STATE}{i}": state.contiguous() for i, state in enumerate(states)}
        tensors |= {f"{SQUARES}{name}": of.squares for name, of in sums.items()}
        tensors |= {f"{SUMS}{name}": of.sums for name, of in sums.items()}
        counts = json.dumps({name: of.count for name, of in sums.items()})
        write_whole(self.step(number), safetensors.torch.save(tensors, {COUNTS: counts}))
        if not self.keeps_every_step:
            self.step(number - 1).unlink(missing_ok=True)

    def resume(self, n_steps: int) -> tuple[int, list[Tensor], AllSums]:
        """The last step whose states were kept, these states, and the sums of the steps before it; 0 and nothing if
        there is none."""
        for number in reversed(range(1, n_steps)):
            found = _tensors(self.step(number))
            if found:
                counts = json.loads(_metadata(self.step(number))[COUNTS])
                sums = {name: Sums(found[f"{SQUARES}{name}"], found[f"{SUMS}{name}"], n) for name, n in counts.items()}
                n_clips = sum(name.startswith(STATE) for name in found)
                return number, [found[f"{STATE}{i}"] for i in range(n_clips)], sums
        return 0, [], {}


def _json(path: Path) -> Any:
    """The value in a JSON file; None if there is none, or it is damaged."""
    with suppress(InputError, ValueError):
        return json.loads(read_bytes(path, 64 * MB))
    return None


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; none if there is none, or it is damaged."""
    with suppress(OSError, SafetensorError):
        found: dict[str, Tensor] = safetensors.torch.load_file(path)
        return found
    return {}


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata() or {}
