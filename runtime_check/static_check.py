"""The integrity of a GGUF file, without running it and without its checkpoint: what it says of itself must all agree.

Rules are named as the reports show them. Each finds all that is wrong; one whose question another's answer has made
meaningless, such as the shapes of a file that lost its sizes, is left out.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice, product, takewhile
from pathlib import Path
from time import perf_counter
from typing import Any

from gguf import GGUFValueType

from mimo_convert.files import open_regular
from mimo_convert.gguf_file import ARCHITECTURE, GGUFFile, align, is_array, read_gguf, shown
from mimo_convert.model_file import (
    FILE_TYPE,
    QUANTIZER,
    RECIPE,
    dimensions_of_file,
    rules_of_file,
    type_of_file,
)
from mimo_convert.models import FAMILIES, Family, Tensor, family_named
from mimo_convert.stored import StoredTensor, shape_text
from mimo_convert.stored_model import QUANTIZATION_VERSION
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.recipes import ROLE_TYPES, Rule, choose_type
from quantize.types import F32, TYPES

from .static_vocabulary import findings
from .static_weights import Looks, constant, look_at_weights, numbers, scales

LISTED = 10  # problems of a rule; the others are counted
LONGEST = 500  # characters of one

STRING, U32, I32 = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.INT32
VERSION_KEY = "general.quantization_version"
# Keys of every family that are read by others: type, and whether it is that of a list's elements.
COMMON_KEYS = {
    "general.name": (STRING, False),
    "general.alignment": (U32, False),
    "general.license": (STRING, False),
    "general.languages": (STRING, True),
    "general.tags": (STRING, True),
    FILE_TYPE: (U32, False),
    VERSION_KEY: (U32, False),
    QUANTIZER: (STRING, False),
    RECIPE: (STRING, False),
    "tokenizer.ggml.model": (STRING, False),
    "tokenizer.ggml.pre": (STRING, False),
    "tokenizer.ggml.tokens": (STRING, True),
    "tokenizer.ggml.token_type": (I32, True),
    "tokenizer.ggml.merges": (STRING, True),
    "tokenizer.ggml.eos_token_id": (U32, False),
    "tokenizer.ggml.padding_token_id": (U32, False),
}
# What the fields of a family's sizes can be in a model that works: published ones have thetas of 640,000 and 10,000.
PLAUSIBLE = {"rope_theta": (1e3, 1e9), "input_rope_theta": (1e3, 1e9), "rms_norm_eps": (1e-12, 1e-2)}


@dataclass(frozen=True)
class RuleResult:
    """A rule, how many things it looked at, and a line for each that is wrong."""

    name: str
    checked: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class StaticCheck:
    """The result: every rule that could be examined."""

    path: Path
    size: int
    rules: tuple[RuleResult, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def reasons(self) -> list[str]:
        """Every problem, with its rule: `shapes: tensor …`."""
        return [f"{rule.name}: {problem}" for rule in self.rules for problem in rule.problems]


def check_static(path: Path, threads: int, weights: bool = True) -> StaticCheck:
    """Hold a file against every rule; reads it once. Raises InputError only if it cannot be read.

    Without `weights` only what stands before them is read: of a file of the full size, the rest need not be there.
    """
    begin = perf_counter()
    open_regular(path, expected="a GGUF file").close()  # what is no file at all is no finding
    try:
        file = read_gguf(path)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        size, rules = path.stat().st_size, [_result("structure", 1, [_text(path, error)])]
    else:
        size, rules = file.size, list(_rules(file, threads, weights))
    return StaticCheck(path, size, tuple(rules), perf_counter() - begin)


def _rules(file: GGUFFile, threads: int, weights: bool) -> Iterator[RuleResult]:
    yield _result("structure", len(file.metadata) + len(file.tensors), _structure(file))
    family = family_named(file.architecture)
    yield _result("architecture", 1, [] if family else _unknown(file))
    expected: Mapping[str, Tensor] = {}
    if family:
        metadata = list(_metadata(file, family))
        dims, more = _dimensions(file, family, metadata)
        yield _result("metadata", len(file.metadata), [*metadata, *more])
        if dims is not None:
            layout = _layout(file, family, dims)
            expected = layout.tensors(dims)
            found = len(expected.keys() & file.tensors.keys())
            yield _result("tensors", len(expected), _missing_and_extra(file, layout, expected))
            yield _result("shapes", found, _shapes(file, layout, dims, expected))
        if family.has_vocabulary:
            yield from (_result(*finding) for finding in findings(file, family, _vocab_size(file, family)))
    looks = look_at_weights(file, threads) if weights else None
    rules = _recipe(file)
    if expected and rules is not None:
        yield _result("types", found, _types(file, expected, rules, looks))
    if looks is not None:
        yield from _weights(looks.values())


def _weights(looks: Collection[Looks]) -> Iterator[RuleResult]:
    yield _result("numbers", sum(look.n_weights for look in looks), chain.from_iterable(map(numbers, looks)))
    yield _result("constant tensors", len(looks), chain.from_iterable(map(constant, looks)))
    blocks = [look for look in looks if look.n_blocks]
    if blocks:
        yield _result("scales", sum(look.n_blocks for look in blocks), chain.from_iterable(map(scales, blocks)))


def _result(name: str, checked: int, problems: Iterable[str]) -> RuleResult:
    lines = iter(problems)
    listed = [quoted(line, LONGEST) for line in islice(lines, LISTED)]
    more = sum(1 for _ in lines)
    return RuleResult(name, checked, tuple([*listed, f"… and {more:,} more"] if more else listed))


def _text(path: Path, error: InputError) -> str:
    """An error without the name of the file, which the report gives."""
    return error.said if error.where == str(path) else str(error).removeprefix(f"{quoted(path, LONGEST)}: ")


def _structure(file: GGUFFile) -> Iterator[str]:
    """What `read_gguf` has not refused."""
    end = align(max((tensor.begin + tensor.nbytes for tensor in file.tensors.values()), default=file.size))
    if file.size > end:
        yield f"{file.size - end:,} bytes follow the last tensor; expected {end:,} bytes in all, found {file.size:,}"
    elif file.size < end:
        yield f"{end - file.size} bytes of padding are missing behind the last tensor; expected {end:,} bytes in all"


def _unknown(file: GGUFFile) -> Iterator[str]:
    known = " or ".join(family.gguf for family in FAMILIES)
    yield f"key {ARCHITECTURE} is {file.architecture!r}; expected {known}"


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _metadata(file: GGUFFile, family: Family) -> Iterator[str]:
    """Keys that are missing, of another type than readers take them for, or that say what cannot be."""
    types, sizes = dict(COMMON_KEYS), set[str]()
    for key in family.keys:
        elements = list(takewhile(file.metadata.__contains__, (f"{key.key}.{i}" for i in count())))
        types |= dict.fromkeys(elements or [key.key], (key.type, False))
        sizes.update(elements or [key.key])
        if key.default is None and not elements and key.key not in file.metadata:
            yield f"key {key.key} is missing; expected {_type_text(key.type)}"
    for name, expected in types.items():
        if name in file.metadata:
            value = file.metadata[name]
            found = file.value_types[name], is_array(value)
            if found != expected:
                yield f"key {name} {shown(value)}, {_type_text(*found)}; expected {_type_text(*expected)}"
            elif name in sizes and value == 0 and expected[0] == U32:
                yield f"key {name} is 0; expected a positive number"
    version = file.metadata.get(VERSION_KEY, QUANTIZATION_VERSION)
    if not isinstance(version, int) or version != QUANTIZATION_VERSION:
        yield f"key {VERSION_KEY} {shown(version)}; expected {QUANTIZATION_VERSION}"
    try:
        rules_of_file(file)
    except InputError as error:
        yield _text(file.path, error)


def _type_text(type: GGUFValueType, is_list: bool = False) -> str:
    return f"a list of {type.name.lower()}" if is_list else type.name.lower()


def _dimensions(file: GGUFFile, family: Family, known: Sequence[str]) -> tuple[Any, list[str]]:
    """The sizes, None if they cannot be told, and what is wrong with them that is not `known` yet."""
    try:
        dims = dimensions_of_file(family, file.path, file.metadata)
    except InputError as error:
        key = " ".join(error.what.split()[:2])
        return None, [] if any(problem.startswith(key) for problem in known) else [_text(file.path, error)]
    wrong = [*family.conflicts(dims), *family.oddities(dims)]
    for field, key, *_ in family.keys:
        least, most = PLAUSIBLE.get(field, (None, None))
        if least is not None and not least <= getattr(dims, field) <= most:
            wrong.append((f"key {key} is {getattr(dims, field):g}", f"{least:g} to {most:g}"))
    return dims, [f"{what}; expected {expected}" for what, expected in wrong]


def _vocab_size(file: GGUFFile, family: Family) -> int | None:
    """What the file says, also if other sizes are missing."""
    [key] = [key.key for key in family.keys if key.field == "vocab_size"]
    found = file.metadata.get(key)
    return found if type(found) is int else None


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Layout:
    """One of the ways to lay out a family's file; sizes that lie may promise more than `limit` tensors."""

    family: Family
    fused: bool
    asr_only: bool
    limit: int

    def tensors(self, dims: Any) -> dict[str, Tensor]:
        every = self.family.tensors(dims, self.fused, self.asr_only)
        return {tensor.name: tensor for tensor in islice(every, self.limit)}


def _layout(file: GGUFFile, family: Family, dims: Any) -> Layout:
    """The layout that the file is nearest to."""
    limit = 10 * len(file.tensors) + 1000
    layouts = [Layout(family, fused, asr_only, limit) for fused, asr_only in product((False, True), repeat=2)]
    return min(layouts, key=lambda layout: len(layout.tensors(dims).keys() ^ file.tensors.keys()))


def _missing_and_extra(file: GGUFFile, layout: Layout, expected: Mapping[str, Tensor]) -> Iterator[str]:
    if len(expected) == layout.limit:
        yield f"its sizes promise {layout.limit:,} tensors or more; expected {len(file.tensors):,}, which are there"
    for name, tensor in expected.items():
        if name not in file.tensors:
            yield f"missing tensor {name}; expected shape {shape_text(tensor.shape)}"
    kind = " without speech generation" * layout.asr_only + " with fused QKV" * layout.fused
    for name in file.tensors:
        if name not in expected:
            yield f"extra tensor {name}; expected none of that name in a {layout.family.gguf} file{kind} of these sizes"


def _shapes(file: GGUFFile, layout: Layout, dims: Any, expected: Mapping[str, Tensor]) -> Iterator[str]:
    other: dict[str, Mapping[str, Tensor]] = {}  # the tensors that the file would have if this key said something else
    for name, tensor in expected.items():
        found = file.tensors.get(name)
        if found is None or found.shape == tensor.shape:
            continue
        other = other or {key: layout.tensors(changed) for key, changed in _changed(layout.family, dims)}
        keys = [key for key, tensors in other.items() if _differs(tensors.get(name), tensor, found)]
        why = f", by {' and '.join(keys)}" if keys else ""
        yield f"tensor {name} is {shape_text(found.shape)}; expected {shape_text(tensor.shape)}{why}"


def _changed(family: Family, dims: Any) -> Iterator[tuple[str, Any]]:
    """Other sizes, each with the key that says otherwise."""
    for field, key, *_ in family.keys:
        value = getattr(dims, field)
        if isinstance(value, int):
            yield key, replace(dims, **{field: value + 1})
        elif isinstance(value, tuple):
            yield f"{key}.N", replace(dims, **{field: tuple(element + 1 for element in value)})


def _differs(other: Tensor | None, expected: Tensor, found: StoredTensor) -> bool:
    """Whether another key makes other what is wrong in a shape."""
    if other is None or len(found.shape) != len(expected.shape):
        return False
    sizes = zip(other.shape, expected.shape, found.shape, strict=True)
    return any(changed != wanted != there for changed, wanted, there in sizes)


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _types(
    file: GGUFFile, expected: Mapping[str, Tensor], rules: Sequence[Rule], looks: Mapping[str, Looks] | None
) -> Iterator[str]:
    """Tensors of another type than their role, the file's rules, its own type and their rows give them.

    A tensor in F32 may be so for a weight that would be infinite in the type it should have; without `looks` each
    might, and none of them is judged.
    """
    type = type_of_file(file)
    if type is None:
        known = ", ".join(f"{type.file_type} ({type.name})" for type in TYPES.values())
        yield f"key {FILE_TYPE} {shown(file.metadata.get(FILE_TYPE))}; expected one of {known}"
    for name, tensor in expected.items():
        found, fixed = file.tensors.get(name), ROLE_TYPES[tensor.role] is F32
        if found is None or (type is None and not fixed):
            continue
        wanted, _ = choose_type(tensor.role, found.shape[-1], type or F32, name, rules)
        peak = looks[name].peak if looks is not None else math.inf
        kept = found.type is F32 and peak >= wanted.overflow  # a weight that would be infinite there
        if found.type is not wanted and not kept:
            by_rule = [f"rule {rule}" for rule in rules if rule.matches(name, tensor.role)]
            by_role = [f"{tensor.role}: always"] if fixed else []
            why = [*by_role, *by_rule, f"{FILE_TYPE} {file.metadata.get(FILE_TYPE)}"][0]
            without = f" without a weight beyond {peak:.4g}" * (found.type is F32)
            yield f"tensor {name} is {found.type.name}{without}; expected {wanted.name} ({why})"


def _recipe(file: GGUFFile) -> tuple[Rule, ...] | None:
    """The file's rules; None if what it records is no recipe."""
    try:
        return rules_of_file(file)
    except InputError:
        return None
