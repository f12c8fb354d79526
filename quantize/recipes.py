"""Role of a tensor + requested type → its ggml type, by a table; and rules of the user's own that come before it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import InputError
from .types import F16, F32, TYPES, Type

# What a role asks for; None: the requested type. Codebooks stay exact because a code is an argmin: half precision
# flips it. Convolution kernels are never block-quantized.
ROLE_TYPES: dict[str, Type | None] = {
    "norm": F32,
    "bias": F32,
    "codebook": F32,
    "convolution": F16,
    "matrix": None,
    "embedding": None,
    "head": None,
}


@dataclass(frozen=True)
class Rule:
    """`REGEX=TYPE`: tensors in whose name `pattern` is found are to be `type`. `where` is where the user wrote it."""

    pattern: re.Pattern[str]
    type: Type
    where: str

    def __str__(self) -> str:
        return f"{self.pattern.pattern}={self.type.name}"

    def matches(self, name: str, role: str) -> bool:
        """Whether the rule is about this tensor; what a role fixes is no rule's business."""
        return ROLE_TYPES[role] is None and self.pattern.search(name) is not None


def parse_rule(text: str, where: str) -> Rule:
    """`REGEX=TYPE`, in one line of printable characters, as a rule. Raises InputError if it is not that."""
    regex, equals, name = text.rpartition("=")
    type = TYPES.get(name.strip().lower())
    if not equals or not regex.strip() or not regex.strip().isprintable() or type is None:
        raise InputError(where, f"{text!r} is no rule", expected=f"REGEX=TYPE, the type one of {' '.join(TYPES)}")
    try:
        return Rule(re.compile(regex.strip()), type, where)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(where, f"{regex.strip()!r} is no regular expression: {error}") from error


def parse_recipe(text: str, where: str) -> list[Rule]:
    """A recipe's rules: one a line; empty lines and lines that begin with `#` are not."""
    lines = ((i, line.strip()) for i, line in enumerate(text.splitlines(), 1))
    return [parse_rule(line, f"{where}:{i}") for i, line in lines if line and not line.startswith("#")]


def recipe_text(rules: Iterable[Rule]) -> str:
    """The recipe that `parse_recipe` reads these rules from."""
    return "\n".join(re.sub("^#", r"\\#", str(rule)) for rule in rules)


def rule_for(name: str, type: Type, where: str) -> Rule:
    """The rule about the tensor `name` alone."""
    return Rule(re.compile(f"^{re.escape(name)}$"), type, where)


def check_rules(rules: Iterable[Rule], tensors: Sequence[tuple[str, str]]) -> None:
    """Every rule is about at least one of `tensors` (name, role). Raises InputError for one that is not."""
    for rule in rules:
        if not any(rule.matches(name, role) for name, role in tensors):
            fixed = sum(rule.pattern.search(name) is not None for name, _ in tensors)
            what = f"matches only {fixed} tensors whose type is fixed" if fixed else "matches no tensor"
            raise InputError(rule.where, f"{rule} {what}", todo="--dry-run lists every tensor")


def choose_type(role: str, row: int, requested: Type, name: str = "", rules: Iterable[Rule] = ()) -> tuple[Type, str]:
    """The type for a tensor with rows of `row` weights, and a note where it is not the one that was asked for.

    The first rule that matches wins; then what the role asks for. An F32 file is F32 but for rules. A row that is no
    multiple of the block goes down the chain of fallbacks.
    """
    rule = next((rule for rule in rules if rule.matches(name, role)), None)
    asked = F32 if requested is F32 else ROLE_TYPES[role] or requested
    wanted = rule.type if rule else asked
    chosen = wanted
    while row % chosen.block:
        chosen = TYPES[chosen.fallback]
    note = "" if chosen is wanted else f"rows of {row} are not a multiple of {wanted.block}: {chosen.name}"
    return chosen, note
