"""Measured divergences of types, by tensor: kept in a file beside the calibration, so that a second size of a file
needs no second reading of the weights, and an interrupted one is resumed."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimo_convert.files import MB, read_bytes, write_whole
from mimo_convert.formats.json_file import parse_json
from quantize.errors import InputError

SUFFIX = ".errors.json"
FORMAT = "mimo-convert errors 1"
MOST_BYTES = 64 * MB
DIGITS = 6  # of a divergence: what lies beyond is the order of sums, which differs between processors


@dataclass
class Errors:
    """The divergence of each tensor by type, in nats a token, by names; `absmax` of tensors with a weight beyond F16's
    range. `identity` is of the weights, the calibration and the quantization kernels: other ones have other errors."""

    path: Path
    identity: str
    by_type: dict[str, dict[str, float]] = field(default_factory=dict)
    absmax: dict[str, float] = field(default_factory=dict)

    def lacks(self, name: str, type_name: str) -> bool:
        """Whether the divergence of a tensor in a type is yet to be measured."""
        return type_name not in self.by_type.get(name, {}) and name not in self.absmax

    def add(self, name: str, type_name: str, divergence: float) -> None:
        """Record the divergence of a tensor in a type."""
        self.by_type.setdefault(name, {})[type_name] = float(f"{divergence:.{DIGITS - 1}e}")

    def write(self) -> None:
        """Replace the file. Raises InputError if it cannot be written."""
        record = {"format": FORMAT, "identity": self.identity, "absmax": self.absmax, "errors": self.by_type}
        write_whole(self.path, json.dumps(record, indent=1).encode())


def errors_path(calibration: Path) -> Path:
    """Where the errors of a calibration file are kept."""
    return calibration.with_name(f"{calibration.stem}{SUFFIX}")


def read_errors(path: Path, identity: str) -> Errors:
    """The errors in a file, if they are of that identity; else, and of a file that is damaged, none."""
    with suppress(InputError, ValueError, TypeError, AttributeError):
        record = parse_json(read_bytes(path, MOST_BYTES))
        if record["format"] == FORMAT and record["identity"] == identity:
            by_type = {name: checked(of_type) for name, of_type in record["errors"].items()}
            return Errors(path, identity, by_type, checked(record["absmax"]))
    return Errors(path, identity)


def checked(found: Mapping[Any, Any]) -> dict[str, float]:
    """Positive numbers by name. Raises ValueError or AttributeError for anything else."""
    for name, value in found.items():
        if not isinstance(name, str) or type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ValueError(name)
    return dict(found)
