"""A file of a given size: the target, and the mix of types that was chosen for it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from mimo_convert.model.uses import Use, UseTypes, types_by_use
from quantize.errors import InputError
from quantize.recipes import Rule, recipe_text
from quantize.types import Type

from .named_recipes import NamedRecipe

TARGET = "mimo_convert.target"
PREDICTED_KL = "mimo_convert.predicted_kl"
OWN_RULES = "mimo_convert.target_rules"  # those of the recipe that were given, and not chosen
FLOORS = "mimo_convert.target_floors"
# What a file records without one: nothing, also if its source does.
NO_MIX = dict.fromkeys((TARGET, PREDICTED_KL, OWN_RULES, FLOORS), "")
SIZE_OPTION, BITS_OPTION = "--target-size", "--target-bpw"

UNITS = {
    "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
BITS = "bpw"
BY_LOWER = {unit.lower(): unit for unit in (*UNITS, BITS)}
AMOUNT = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
SIZE = re.compile(rf"\s*({AMOUNT.pattern})\s*([A-Za-z]+)\s*")
NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?(e[+-]?\d{1,2})?")
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


def parse_bits(text: str) -> Target:
    """Parse the value of `--target-bpw`, such as `4.5`. Raises InputError for anything else."""
    if not AMOUNT.fullmatch(text.strip()):
        expected = f"a number of bits per weight from {LEAST_BITS} to {MOST_BITS}, such as 4.5"
        raise InputError(BITS_OPTION, f"{text!r} is not a number", expected=expected)
    return parse_target(f"{text}{BITS}", BITS_OPTION)


class SizeRequest(NamedTuple):
    """A file of a given size: its target, and rules of the smallest types."""

    target: Target
    floors: tuple[Rule, ...] = ()


def size_request(
    target: Target | str | None, calibration: Path | None, floors: Sequence[Rule], types: Sequence[Type | str],
    recipe: NamedRecipe | str | None, imatrix: Path | None = None,
) -> SizeRequest | None:  # fmt: skip
    """The request for a file of a given size; None if there is none. Raises InputError for options that contradict it,
    or need it."""
    if target is None:
        for option, value in (("--calibration", calibration), ("--floor", floors)):
            if value:
                what = "says by what types are chosen for a file of a given size"
                raise InputError(option, what, expected=f"{SIZE_OPTION} or {BITS_OPTION} with it")
        return None
    target = target if isinstance(target, Target) else parse_target(target, "size")
    option = target.option
    if calibration is None:
        todo = "give --calibration FILE, which mimo-calibrate --sensitivity makes"
        raise InputError(option, "needs to know how much the output depends on each tensor", todo=todo)
    if imatrix:
        raise InputError("--imatrix", "is given beside --calibration, which is one, too", todo="leave it out")
    if types or recipe:
        given = "--recipe" if recipe else "--outtype"
        what = f"is given beside {option}, which decides over every type"
        raise InputError(given, what, todo="leave one of them out")
    return SizeRequest(target, tuple(floors))


@dataclass(frozen=True)
class ChosenTypes:
    """What a file records of a mix: its `target` as text, the predicted KL divergence in nats a token (None: not
    known), the types that each use got, and the rules of the smallest types."""

    target: str
    predicted_kl: float | None
    uses: tuple[UseTypes, ...] = ()
    floors: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The options that ask for such a file, but for the calibration."""
        floors = (word for floor in self.floors for word in ("--floor", floor))
        return (*parse_target(self.target, TARGET).option.split(), *floors)


def recorded_choice(
    metadata: Mapping[str, Any], uses: Sequence[Use], types: Iterable[tuple[str, str]]
) -> ChosenTypes | None:
    """The choice that a file's metadata tells, with the types of its tensors, (name, type); None without a target that
    can be read."""
    target, predicted = metadata.get(TARGET), metadata.get(PREDICTED_KL)
    if not isinstance(target, str):
        return None
    try:
        parse_target(target, TARGET)
    except InputError:
        return None
    kl = float(predicted) if isinstance(predicted, str) and NUMBER.fullmatch(predicted) else None
    return ChosenTypes(target, kl, types_by_use(uses, types), recorded_lines(metadata, FLOORS))


def recorded_lines(metadata: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The rules, as text, that a file records under a key; none if it has no such key."""
    text = metadata.get(key)
    return tuple(text.splitlines()) if isinstance(text, str) else ()


@dataclass(frozen=True)
class Mix:
    """The types that were chosen for a target: as the `rules` of a recipe, which come after the user's `own`; `floors`
    are rules of the smallest types.

    `predicted` is the KL divergence, in nats a token, that each tensor of the file adds by its type; tensors of which
    the calibration knows nothing are not in it, but in `unknown`. `gap`: by what share of the sum another choice could
    at most be better.
    """

    target: Target
    rules: tuple[Rule, ...]
    own: tuple[Rule, ...] = ()
    floors: tuple[Rule, ...] = ()
    predicted: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    gap: float = 0.0

    @property
    def kl(self) -> float:
        """The predicted KL divergence of the file, in nats a token."""
        return sum(self.predicted.values())

    def chosen(self, uses: Sequence[Use], types: Iterable[tuple[str, str]]) -> ChosenTypes:
        """The choice as a record, with the types of the file's tensors, (name, type)."""
        return recorded_choice(self.told, uses, types) or ChosenTypes(str(self.target), self.kl)

    @property
    def told(self) -> dict[str, str]:
        """What a file records of it."""
        return {
            TARGET: str(self.target),
            PREDICTED_KL: f"{self.kl:.3g}",
            OWN_RULES: recipe_text(self.own),
            FLOORS: recipe_text(self.floors),
        }
