"""Patterns of rules: regular expressions in RE2 syntax, of bounded size, matched in time linear in the name.

Rules are recorded in files, whose authors are not trusted: a backtracking matcher could take exponential time.
Constructs that RE2 does not support are rejected by name.
"""

import re
from typing import Any, NamedTuple

import re2

from .errors import InputError

MAX_PATTERN = 2_000  # characters
MAX_PROGRAM = 2_000  # instructions: what RE2 makes of a pattern
MAX_MEMORY = 1 << 20  # bytes of a program and of the states it goes through, beyond which RE2 is slower
SHOWN = 100  # characters of a pattern in an error

IN_LINEAR_TIME = "which rules cannot: they are matched by RE2 in linear time"
NOT_AS_PYTHON = "which rules cannot: RE2 does not read it as Python does, and files may hold either"


class Construct(NamedTuple):
    """A construct that Python's `re` supports and rules do not: its regex, its name, why, and what to write instead."""

    regex: str
    name: str
    why: str = IN_LINEAR_TIME
    instead: str = "a pattern in RE2 syntax"


CONSTRUCTS = (
    Construct(r"\(\?[=!]", "look-ahead"),
    Construct(r"\(\?<[=!]", "look-behind"),
    Construct(r"\(\?P=\w*\)?|\\(?![1-3][0-7]{2})[1-9]\d?", "a back-reference"),
    Construct(r"\(\?>", "an atomic group"),
    Construct(r"\(\?\(", "a conditional"),
    Construct(r"\(\?#", "a comment"),
    Construct(r"\(\?[imsU-]*[aLux]", "a flag"),
    Construct(r"(?:[*+?]|\{\d+(?:,\d*)?\})\+", "a possessive quantifier"),
    Construct(r"\\Z", "the end of the text", instead="$"),
    Construct(r"\\[NuU]", "a Unicode escape", instead=r"\x{…}"),
    Construct(r"\{,\d*\}", "a repetition without a minimum", NOT_AS_PYTHON, "{0,…}"),
    Construct(r"\{(?:\d+,)?\d{5,}(?:,\d*)?\}", "a repetition too often", NOT_AS_PYTHON, "at most 1000 times"),
    Construct(r"\[\^?\]?(?:\\.|[^\]\\])*?\[:\^?\w*:\]", "a POSIX class", NOT_AS_PYTHON, r"a class such as [a-z] or \w"),
)  # fmt: skip
# A pattern's next token: a construct, or else text that is none, though it may hold what looks like one.
TOKEN = re.compile(
    r"\\Q.*?(?:\\E|$)|"
    + "".join(f"(?P<c{i}>{construct.regex})|" for i, construct in enumerate(CONSTRUCTS))
    + r"\\[1-3][0-7]{2}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|."
)


def compile_pattern(text: str, where: str) -> Any:
    """Compile `text` with RE2. Raises InputError for other syntax, or a program beyond the size limits."""
    shown = repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
    if len(text) > MAX_PATTERN:
        raise InputError(where, f"{shown} has {len(text):,} characters", expected=f"at most {MAX_PATTERN:,}")
    for token in TOKEN.finditer(text):
        if token.lastgroup:
            construct = CONSTRUCTS[int(token.lastgroup[1:])]
            found = token[0] if len(token[0]) <= SHOWN else f"{token[0][:SHOWN]}…"
            raise InputError(
                where, f"{shown} uses {construct.name} {found}, {construct.why}", expected=construct.instead
            )
    options = re2.Options()
    options.max_mem, options.log_errors = MAX_MEMORY, False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        [reason] = error.args
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        if "too large" not in said:
            why = said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
            raise InputError(where, f"{shown} is not a regular expression: {why}", expected="RE2 syntax") from error
    else:
        if compiled.programsize <= MAX_PROGRAM:
            return compiled
    raise InputError(where, f"{shown} is too large for a rule", expected=f"at most {MAX_PROGRAM:,} instructions of RE2")
