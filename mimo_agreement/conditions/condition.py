"""Conditions as they are written: `clean`, `noise:babble:5dB`, `reverb:0.6s`, `speed:1.1`."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from mimo_convert.fields import shown
from quantize.errors import InputError

CLEAN, NOISE, REVERB, SPEED = "clean", "noise", "reverb", "speed"  # kinds of conditions
WHITE, PINK, BABBLE = "white", "pink", "babble"  # kinds of noise
NOISES = (WHITE, PINK, BABBLE)
OPTION = "--condition"


@dataclass(frozen=True)
class Condition:
    """A condition: its kind and its value, which is an SNR in dB, an RT60 in seconds or a factor of speed (clean: 1);
    `noise` is the kind of noise, empty for other conditions."""

    kind: str
    value: float = 1.0
    noise: str = ""

    @property
    def name(self) -> str:
        """The condition as it is written, each in one way: `noise:babble:5dB`."""
        return FORMS[self.kind].written.format(noise=self.noise, value=f"{self.value:.10g}")

    @property
    def needs_voices(self) -> bool:
        """Whether other clips are heard in it."""
        return self.noise == BABBLE

    def __str__(self) -> str:
        return self.name


class Form(NamedTuple):
    """How conditions of a kind are written: for people, as a regular expression, and as a format; and what the value is
    called, with the least and the most that it may be."""

    shown: str
    pattern: str
    written: str
    value: str = ""
    least: float = 0.0
    most: float = 0.0


NUMBER = r"(?P<value>-?[0-9]{1,4}(?:\.[0-9]{1,3})?)"
FORMS = {
    CLEAN: Form("clean", "clean", "clean"),
    NOISE: Form(
        f"noise:{{{','.join(NOISES)}}}:SNRdB", f"noise:(?P<noise>{'|'.join(NOISES)}):{NUMBER}dB",
        "noise:{noise}:{value}dB", "an SNR in dB", -50, 100,
    ),
    REVERB: Form("reverb:RT60s", f"reverb:{NUMBER}s", "reverb:{value}s", "an RT60 in seconds", 0.05, 10),
    SPEED: Form("speed:FACTOR", f"speed:{NUMBER}", "speed:{value}", "a factor", 0.5, 2),
}  # fmt: skip
KNOWN = ", ".join(form.shown for form in FORMS.values())


def parse_condition(text: str) -> Condition:
    """Parse a condition; numbers have at most three decimals.

    Raises InputError for another text, which lists the known forms, and for a value out of range.
    """
    for kind, form in FORMS.items():
        if found := re.fullmatch(form.pattern, text, re.IGNORECASE):
            parts = found.groupdict()
            value = float(parts.get("value", 1)) + 0.0  # no negative zero
            if form.value and not form.least <= value <= form.most:
                expected = f"{form.value} from {form.least:g} to {form.most:g}"
                raise InputError(OPTION, f"{shown(text)} is out of range", expected=expected)
            return Condition(kind, value, parts.get("noise", "").lower())
    raise InputError(OPTION, f"{shown(text)} is not a condition", expected=KNOWN)
