"""A file of a given size: the target, and the mix of types that was chosen for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from quantize.errors import InputError
from quantize.recipes import Rule

TARGET = "mimo_convert.target"
PREDICTED_KL = "mimo_convert.predicted_kl"
NO_MIX = {TARGET: "", PREDICTED_KL: ""}  # what a file records without one: nothing, also if its source does
SIZE_OPTION, BITS_OPTION = "--target-size", "--target-bpw"

UNITS = {
    "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
BITS = "bpw"
BY_LOWER = {unit.lower(): unit for unit in (*UNITS, BITS)}
SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*")
LEAST_BITS, MOST_BITS = 1, 32


class Target(NamedTuple):
    """How large a file may be: `amount` of `unit`. In bytes it is the whole file, header and padding included; in bits
    per weight (`bpw`) its tensor data with the padding, as every plan tells it."""

    amount: Decimal
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:f}{self.unit}"

    @property
    def option(self) -> str:
        """The option that gives it."""
        return f"{BITS_OPTION} {self.amount:f}" if self.unit == BITS else f"{SIZE_OPTION} {self}"

    def most(self, header: int, n_weights: int) -> int:
        """The most bytes of tensor data, padding included, of a file with a header of so many bytes."""
        if self.unit == BITS:
            return int(self.amount * n_weights / 8)
        return int(self.amount * UNITS[self.unit]) - header


def parse_target(text: str, where: str) -> Target:
    """Parse a size such as `4.6GB`, or `4.5bpw`. Raises InputError for anything else."""
    found = SIZE.fullmatch(text)
    unit = BY_LOWER.get(found[2].lower()) if found else None
    if not found or unit is None:
        expected = f"a number and one of {' '.join(UNITS)}, such as 4.6GB"
        raise InputError(where, f"{text!r} is not a size", expected=expected)
    amount = Decimal(found[1]).normalize()
    if not amount or (unit == BITS and not LEAST_BITS <= amount <= MOST_BITS):
        expected = f"{LEAST_BITS} to {MOST_BITS} bits per weight" if unit == BITS else "a positive size"
        raise InputError(where, f"is {text}", expected=expected)
    return Target(amount, unit)


@dataclass(frozen=True)
class Mix:
    """The types that were chosen for a target: as the rules of a recipe, which come after the user's own.

    `predicted` is the KL divergence, in nats a token, that each tensor of the file adds by its type; tensors of which
    the calibration knows nothing are not in it, but in `unknown`. `gap`: by what share of the sum another choice could
    at most be better.
    """

    target: Target
    rules: tuple[Rule, ...]
    predicted: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    gap: float = 0.0

    @property
    def kl(self) -> float:
        """The predicted KL divergence of the file, in nats a token."""
        return sum(self.predicted.values())

    @property
    def told(self) -> dict[str, str]:
        """What a file records of it."""
        return {TARGET: str(self.target), PREDICTED_KL: f"{self.kl:.3g}"}
