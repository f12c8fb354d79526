"""Values of untrusted mappings (JSON objects, database rows), validated one by one as they are taken."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from quantize.errors import InputError
from quantize.quoting import quoted

LONGEST = 120  # characters of a value in a message
LARGEST = 1 << 53  # of a whole number: what JSON's readers agree on
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # characters, and halves of such, that no name should hold


def shown(value: object) -> str:
    """A value as Python writes it, escaped and shortened for a message. Never raises."""
    try:
        return quoted(repr(value[: LONGEST + 1] if isinstance(value, (str, bytes)) else value), LONGEST)
    except (ValueError, RecursionError):  # a number of too many digits, or lists in lists without end
        return f"a {type(value).__name__} that is too large to be shown"


def one_of(wrong: str, known: Sequence[str]) -> dict[str, str]:
    """Arguments of an InputError: the nearest known name, or all of them."""
    near = get_close_matches(wrong[:100], known, 1)
    return {"todo": f"did you mean {near[0]!r}?"} if near else {"expected": "one of " + ", ".join(known)}


class Fields:
    """The named fields in `values`; `where` names their source in messages. Each method returns a field of one kind.

    All raise InputError(where, "NAME is FOUND", expected=…) for a field that is missing or of another kind.
    """

    def __init__(self, where: object, values: object, what: str = "it") -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise InputError(where, f"{what} is {shown(values)}", expected="named fields")
        self.values: Mapping[str, Any] = values

    def text(self, name: str, form: str = "", expected: str = "text") -> str:
        """A string that fully matches the regular expression `form` (empty: any string)."""
        return str(self._take(name, expected, lambda x: isinstance(x, str) and (not form or re.fullmatch(form, x))))

    def one_of(self, name: str, choices: Collection[str]) -> str:
        """A string out of `choices`."""
        return str(self._take(name, " or ".join(choices), lambda x: isinstance(x, str) and x in choices))

    def flag(self, name: str) -> bool:
        """A boolean."""
        return bool(self._take(name, "true or false", lambda x: isinstance(x, bool)))

    def whole(self, name: str, most: int = LARGEST) -> int:
        """An integer from 0 to `most`."""
        return int(self._take(name, f"a whole number from 0 to {most}", lambda x: is_whole(x) and 0 <= x <= most))

    def number(self, name: str, most: float) -> float:
        """A finite number from 0 to `most`."""
        return float(self._take(name, f"a number from 0 to {most:g}", lambda x: is_number(x) and 0 <= x <= most))

    def measured(self, name: str) -> float | None:
        """Any number, or None; NaN and infinity become None."""
        value = self._take(name, "a number, or nothing", lambda x: x is None or is_number(x))
        return None if value is None or not math.isfinite(value) else float(value)

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        holds = lambda x: isinstance(x, list) and all(isinstance(one, str) for one in x)  # noqa: E731
        return list(self._take(name, "a list of texts", holds))

    def named_texts(self, name: str) -> dict[str, str]:
        """A mapping of strings to strings."""
        holds = lambda x: isinstance(x, dict) and all(isinstance(s, str) for one in x.items() for s in one)  # noqa: E731
        return dict(self._take(name, "a text for each name", holds))

    def objects(self, name: str) -> list["Fields"]:
        """A list of mappings."""
        found = self._take(name, "a list", lambda x: isinstance(x, list))
        return [Fields(self.where, one, f"{name} {number}") for number, one in enumerate(found, 1)]

    def only(self, names: Collection[str]) -> None:
        """Raise InputError for a field that is not in `names`."""
        for name in self.values:
            if name not in names:
                raise InputError(self.where, f"has a field {shown(name)}", expected=", ".join(names))

    def _take(self, name: str, expected: str, holds: Callable[[Any], object]) -> Any:
        if name not in self.values:
            raise InputError(self.where, f"has no {name}", expected=expected)
        if not holds(self.values[name]):
            raise InputError(self.where, f"{name} is {shown(self.values[name])}", expected=expected)
        return self.values[name]


def is_whole(value: object) -> bool:
    """Whether a value is an integer, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
