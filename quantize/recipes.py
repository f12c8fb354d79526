"""Choose a tensor's ggml type: by its role and the requested type, or by the user's rules, which come first."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import InputError
from .patterns import SHOWN, compile_pattern
from .types import F16, F32, TYPES, Type, did_you_mean

# What a role asks for; None: the requested type. Codebooks stay exact because a code is an argmin: half precision
# flips it. Convolution kernels are never block-quantized.
ROLE_TYPES: dict[str, Type | None] = {
    "norm": F32,
    "bias": F32,
    "codebook": F32,
    "table": F32,
    "convolution": F16,
    "matrix": None,
    "encoder_matrix": None,
    "vocoder_matrix": None,
    "embedding": None,
    "head": None,
}

# The smallest type that a role gets unless a rule says otherwise, also in place of another one of as many bits. An
# encoder's error is in all that follows; a vocoder's, of log-magnitudes and phases, is amplified by exp.
LEAST_TYPES = {"encoder_matrix": TYPES["q8_0"], "vocoder_matrix": F16}

# Of a recipe. A rule about one tensor alone has 30 to 60 characters, and some 4 to 60 instructions.
MAX_RULES = 1_000
MAX_RECIPE = 100_000  # characters
MAX_PROGRAMS = 20_000  # instructions of RE2, all rules together


@dataclass(frozen=True)
class Rule:
    """`REGEX=TYPE`: tensors in whose name `pattern` is found get `ggml_type`. `where` is its source for messages;
    `regex` is the compiled pattern."""

    pattern: str
    ggml_type: Type
    where: str
    regex: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.pattern}={self.ggml_type.name}"

    def is_found_in(self, name: str) -> bool:
        """Whether the pattern is found in a tensor's name."""
        return self.regex.search(name.encode(errors="replace")) is not None

    def matches(self, name: str, role: str) -> bool:
        """Whether the rule applies to a tensor; types that the role fixes (norms, biases, codebooks, convolutions)
        cannot be ruled."""
        return ROLE_TYPES[role] is None and self.is_found_in(name)


def make_rule(pattern: str, ggml_type: Type, where: str) -> Rule:
    """Make a rule. Raises InputError for a pattern that is not in RE2 syntax, or too large."""
    return Rule(pattern, ggml_type, where, compile_pattern(pattern, where))


def parse_rule(text: str, where: str) -> Rule:
    """Parse `REGEX=TYPE`, a line of printable characters. Raises InputError for anything else."""
    regex, equals, name = text.rpartition("=")
    ggml_type = TYPES.get(name.strip().lower())
    if not equals or not regex.strip() or not regex.strip().isprintable() or ggml_type is None:
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        expected = f"REGEX=TYPE, the type one of {' '.join(TYPES)}"
        meant = did_you_mean(name) if ggml_type is None and equals else ""
        raise InputError(where, f"{shown!r} is not a rule", expected=expected, todo=meant)
    return make_rule(regex.strip(), ggml_type, where)


def parse_recipe(text: str, where: str) -> list[Rule]:
    """Parse a recipe: a rule per line; empty lines and lines that begin with `#` are skipped.

    Raises InputError for any other line, and for a recipe beyond the size limits.
    """
    if len(text) > MAX_RECIPE:
        raise InputError(where, f"has {len(text):,} characters", expected=f"at most {MAX_RECIPE:,}")
    lines = ((i, line.strip()) for i, line in enumerate(text.splitlines(), 1))
    rules = (parse_rule(line, f"{where}:{i}") for i, line in lines if line and not line.startswith("#"))
    return list(bounded(rules, where))


def bounded(rules: Iterable[Rule], where: str) -> Iterator[Rule]:
    """Yield `rules`, which are used together. Raises InputError at the first that exceeds the size limits."""
    n_instructions = 0
    for n, rule in enumerate(rules, 1):
        if n > MAX_RULES:
            raise InputError(where, f"holds more than {MAX_RULES:,} rules", expected="fewer, about more tensors each")
        n_instructions += rule.regex.programsize
        if n_instructions > MAX_PROGRAMS:
            expected = f"at most {MAX_PROGRAMS:,} instructions of RE2, all together"
            raise InputError(where, f"its first {n} rules are too large", expected=expected)
        yield rule


def recipe_text(rules: Iterable[Rule], where: str = "recipe") -> str:
    """Write rules as the text that `parse_recipe` reads. Raises InputError if it exceeds the size limits."""
    text = "\n".join(re.sub("^#", r"\\#", str(rule)) for rule in bounded(rules, where))
    if len(text) > MAX_RECIPE:
        raise InputError(where, f"its rules have {len(text):,} characters", expected=f"at most {MAX_RECIPE:,}")
    return text


def rule_for(name: str, ggml_type: Type, where: str) -> Rule:
    """Make the rule that gives the tensor `name` alone a type."""
    return make_rule(f"^{re.escape(name)}$", ggml_type, where)


def check_rules(rules: Iterable[Rule], tensors: Sequence[tuple[str, str]]) -> None:
    """Raise InputError for a rule that applies to none of `tensors`, (name, role) each, or rules beyond the size
    limits."""
    for rule in bounded(rules, "rules"):
        if not any(rule.matches(name, role) for name, role in tensors):
            fixed = sum(rule.is_found_in(name) for name, _ in tensors)
            what = f"matches only {fixed} tensors whose type is fixed" if fixed else "matches no tensor"
            raise InputError(rule.where, f"{rule} {what}", todo="--dry-run lists every tensor")


def choose_type(
    role: str, row: int, requested: Type, name: str = "", rules: Iterable[Rule] = (), *, stored: bool = False
) -> tuple[Type, str]:
    """Choose the type of a tensor with rows of `row` weights; returns it with a note if it is not the requested one.

    The first matching rule wins, then the role's own or smallest type; the latter not over the type that a file to copy
    has it `stored` in. An F32 file is F32 except for rules. If the row is not a multiple of the block, the type's
    fallbacks are tried in order.
    """
    rule = next((rule for rule in rules if rule.matches(name, role)), None)
    least = requested if stored else at_least(requested, role)
    asked = F32 if requested is F32 else ROLE_TYPES[role] or least
    wanted = rule.ggml_type if rule else asked
    chosen = fitting(wanted, row)
    note = "" if chosen is wanted else f"rows of {row} are not a multiple of {wanted.block}: {chosen.name}"
    return chosen, note


def fitting(wanted: Type, row: int) -> Type:
    """The type for rows of `row` weights where `wanted` is asked for: the first of its fallbacks whose block divides
    them."""
    while row % wanted.block:
        wanted = TYPES[wanted.fallback]
    return wanted


def at_least(requested: Type, role: str) -> Type:
    """The requested type, or the smallest one of the role."""
    least = LEAST_TYPES.get(role, requested)
    return least if requested.bits_per_weight <= least.bits_per_weight else requested


# ── the mix of a file ────────────────────────────────────────────────────────────────────────────────────────────────


class Typed(NamedTuple):
    """A tensor with its type: its name, its role, and the number of weights in a row."""

    name: str
    role: str
    row: int
    ggml_type: Type


def mixed_types(tensors: Iterable[Typed], base: Type, rules: Sequence[Rule] | None) -> dict[str, int]:
    """Count the tensors of other types that `rules` chose in a file of type `base`: type → tensors, most first.

    Tensors that `base` itself gives another type (norms, rows that no block divides) are not among them. With `rules`
    None, since the file does not record any, every matrix of another type counts.
    """
    found = Counter(
        tensor.ggml_type.name
        for tensor in tensors
        if ROLE_TYPES[tensor.role] is None
        and (rules is None or any(rule.matches(tensor.name, tensor.role) for rule in rules))
        and choose_type(tensor.role, tensor.row, base)[0] is not tensor.ggml_type
    )
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def type_label(base: str, mixed: Mapping[str, int], recipe: str = "") -> str:
    """What a file's type is called with its mix, such as `q4_k + 2 q6_k`, or `q4_k_m: q4_k + 2 q6_k` where the recipe
    has a name."""
    label = " + ".join([base, *(f"{n} {name}" for name, n in mixed.items())])
    return f"{recipe}: {label}" if recipe else label
