"""Lint a GGUF file: check its consistency without running it and without its checkpoint.

Rules are named as in reports. Each lists all its findings; a rule that another's finding makes meaningless, such as
shapes without valid sizes, is skipped.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from gguf import GGUFValueType

from mimo_convert.formats.gguf import ARCHITECTURE, GGUFFile, align, is_array, shown
from mimo_convert.formats.tensor import TensorSlice, shape_text
from mimo_convert.model.edition import BASENAME, FINETUNE, TAGS
from mimo_convert.model.family import Family, Layout, Tensor, family_named
from mimo_convert.model.gguf_facts import (
    FILE_TYPE,
    QUANTIZER,
    RECIPE,
    SizeError,
    dimensions_of_file,
    records_rules,
    rules_of_file,
    type_of_file,
)
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import FEEDBACK, IMATRIX
from mimo_convert.model.source_model import QUANTIZATION_VERSION
from mimo_convert.plan.mix import FLOORS, OWN_RULES, PREDICTED_KL, TARGET, parse_target
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.recipes import ROLE_TYPES, Rule, choose_type
from quantize.types import F32, TYPES

from .records import LintResult, RuleResult, lint_result
from .vocabulary import findings
from .weights import TensorStats, constant_findings, nonfinite_findings, scale_findings, scan_weights

LISTED = 10  # problems of a rule; the others are counted
LONGEST = 500  # characters of one

STRING, U32, I32 = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.INT32
VERSION_KEY = "general.quantization_version"
# Keys of every family that are read by others: type, and whether it is that of a list's elements.
COMMON_KEYS = {
    "general.name": (STRING, False),
    "general.alignment": (U32, False),
    BASENAME: (STRING, False),
    FINETUNE: (STRING, False),
    "general.license": (STRING, False),
    "general.languages": (STRING, True),
    TAGS: (STRING, True),
    FILE_TYPE: (U32, False),
    VERSION_KEY: (U32, False),
    QUANTIZER: (STRING, False),
    RECIPE: (STRING, False),
    TARGET: (STRING, False),
    PREDICTED_KL: (STRING, False),
    OWN_RULES: (STRING, False),
    FLOORS: (STRING, False),
    IMATRIX: (STRING, False),
    FEEDBACK: (STRING, False),
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


def lint(path: Path, files: OpenFiles, threads: int, *, weights: bool = True, hashed: bool = False) -> LintResult:
    """Apply every lint rule to a file, which is read once, and `hashed` in the same reading. Raises InputError only if
    it cannot be read.

    Without `weights` only the header is read; the rest of the file may be sparse.
    """
    begin, role = perf_counter(), ""
    try:
        file = files.header(path)
    except InputError as error:
        if not path.is_file() or isinstance(error.__cause__, OSError):  # which is not a finding
            raise
        size, rules = path.stat().st_size, [_result("structure", 1, [_text(path, error)])]
    else:
        family = family_named(files.families, file.architecture)
        role = family.role if family else ""
        size, rules = file.size, list(_rules(file, family, files, threads, weights, hashed))
    return lint_result(str(path), size, perf_counter() - begin, role, tuple(rules))


def _rules(
    file: GGUFFile, family: Family | None, files: OpenFiles, threads: int, weights: bool, hashed: bool
) -> Iterator[RuleResult]:
    yield _result("structure", len(file.metadata) + len(file.tensors), _structure(file))
    yield _result("architecture", 1, [] if family else _unknown(file, files.families))
    expected: Mapping[str, Tensor] = {}
    if family:
        metadata = list(_metadata(file, family))
        dims, more = _dimensions(file, family, {finding.key for finding in metadata})
        yield _result("metadata", len(file.metadata), [*(finding.text for finding in metadata), *more])
        if dims is not None:
            layout = family.layout_of(file.tensors.keys(), dims)
            limit = 10 * len(file.tensors) + 1000  # sizes that lie may promise more
            expected = _tensors(family, dims, layout, limit)
            found = len(expected.keys() & file.tensors.keys())
            yield _result("tensors", len(expected), _missing_and_extra(file, family, layout, expected, limit))
            yield _result("shapes", found, _shapes(file, family, dims, layout, expected, limit))
        if family.text:
            ids = {key.key: family.text.ids[key.field] for key in family.keys if key.field in family.text.ids}
            of_vocabulary = findings(file, family.text, _vocab_size(file, family), ids)
            yield from (_result(*finding) for finding in of_vocabulary)
    if TARGET in file.metadata:
        yield _result("target", 1, _target(file))
    stats = scan_weights(file, files, threads, hashed) if weights else None
    rules = _recipe(file)
    if expected and rules is not None:
        judged = expected if records_rules(file) else _of_fixed_type(expected)
        yield _result("types", len(judged.keys() & file.tensors.keys()), _types(file, judged, rules, stats))
    if stats is not None:
        yield from _weights(stats.values())


def _weights(stats: Collection[TensorStats]) -> Iterator[RuleResult]:
    yield _result("numbers", sum(one.n_weights for one in stats), chain.from_iterable(map(nonfinite_findings, stats)))
    yield _result("constant tensors", len(stats), chain.from_iterable(map(constant_findings, stats)))
    blocks = [one for one in stats if one.n_blocks]
    if blocks:
        yield _result("scales", sum(one.n_blocks for one in blocks), chain.from_iterable(map(scale_findings, blocks)))


def _result(name: str, checked: int, problems: Iterable[str]) -> RuleResult:
    lines = iter(problems)
    listed = [quoted(line, LONGEST) for line in islice(lines, LISTED)]
    more = sum(1 for _ in lines)
    return RuleResult(name, checked, tuple([*listed, f"… and {more:,} more"] if more else listed))


def _text(path: Path, error: InputError) -> str:
    """An error without the file's name, which the report has."""
    return error.message if error.where == str(path) else str(error).removeprefix(f"{quoted(path, LONGEST)}: ")


def _structure(file: GGUFFile) -> Iterator[str]:
    """Structural findings beyond those of `read_gguf`."""
    end = align(max((tensor.begin + tensor.nbytes for tensor in file.tensors.values()), default=file.size))
    if file.size > end:
        yield f"{file.size - end:,} bytes follow the last tensor; expected {end:,} bytes in all, found {file.size:,}"
    elif file.size < end:
        yield f"{end - file.size} bytes of padding are missing behind the last tensor; expected {end:,} bytes in all"


def _target(file: GGUFFile) -> Iterator[str]:
    """Find that a file is larger than it was made to be."""
    try:
        target = parse_target(str(file.metadata[TARGET]), f"key {TARGET}")
    except InputError as error:
        yield str(error)
        return
    begin = min((tensor.begin for tensor in file.tensors.values()), default=file.size)
    most = target.most(begin, sum(math.prod(tensor.shape) for tensor in file.tensors.values()))
    if file.size - begin > most:
        yield f"key {TARGET} is {target}; expected at most {begin + most:,} bytes, found {file.size:,}"


def _unknown(file: GGUFFile, families: Iterable[Family]) -> Iterator[str]:
    known = " or ".join(family.architecture for family in families)
    yield f"key {ARCHITECTURE} is {file.architecture!r}; expected {known}"


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Finding(NamedTuple):
    """A finding about a metadata key."""

    key: str
    text: str


def _metadata(file: GGUFFile, family: Family) -> Iterator[Finding]:
    """Find keys that are missing, of the wrong type, or with an invalid value."""
    types, sizes = dict(COMMON_KEYS), set[str]()
    for key in family.keys:
        if key.axis is not None:
            continue  # the rules of tensors are about it
        names = key.names(file.metadata) or [key.key]
        types |= dict.fromkeys(names, (key.value_type, key.is_list))
        sizes.update(names if key.least else ())
        if key.default is None and not key.names(file.metadata):
            yield Finding(key.key, f"key {key.key} is missing; expected {_type_text(key.value_type, key.is_list)}")
    types |= {constant.key: (constant.value_type, False) for constant in family.constants}
    yield from _constants(file, family)
    for name, expected in types.items():
        if name in file.metadata:
            value = file.metadata[name]
            found = file.value_types[name], is_array(value)
            if found != expected:
                text = f"key {name} {shown(value)}, {_type_text(*found)}; expected {_type_text(*expected)}"
                yield Finding(name, text)
            elif name in sizes and value == 0 and expected[0] == U32:
                yield Finding(name, f"key {name} is 0; expected a positive number")
    version = file.metadata.get(VERSION_KEY, QUANTIZATION_VERSION)
    if not isinstance(version, int) or version != QUANTIZATION_VERSION:
        yield Finding(VERSION_KEY, f"key {VERSION_KEY} {shown(version)}; expected {QUANTIZATION_VERSION}")
    try:
        rules_of_file(file)
    except InputError as error:
        yield Finding(RECIPE, _text(file.path, error))


def _constants(file: GGUFFile, family: Family) -> Iterator[Finding]:
    """Find entries that are missing, or have another value than every file of the family."""
    for constant in family.constants:
        name = next((one for one in (constant.key, constant.other_key) if one in file.metadata), "")
        if not name and not constant.may_be_missing:
            yield Finding(constant.key, f"key {constant.key} is missing; expected {_type_text(constant.value_type)}")
        if name and file.value_types[name] == constant.value_type and not constant.accepts(file.metadata[name]):
            expected = constant.words or repr(constant.value)
            yield Finding(name, f"key {name} {shown(file.metadata[name])}; expected {expected}")


def _type_text(value_type: GGUFValueType, is_list: bool = False) -> str:
    return f"a list of {value_type.name.lower()}" if is_list else value_type.name.lower()


def _dimensions(file: GGUFFile, family: Family, known: Set[str]) -> tuple[Any, list[str]]:
    """The sizes, None if invalid, and findings about them beyond the keys that are `known` to be wrong."""
    try:
        dims = dimensions_of_file(family, file.path, file.metadata, file.tensors)
    except InputError as error:
        key = next((key for key in family.keys if isinstance(error, SizeError) and key.key == error.key), None)
        is_known = key is not None and not known.isdisjoint({key.key, *key.names(file.metadata)})
        return None, [] if is_known else [_text(file.path, error)]
    wrong = [*family.config_errors(dims), *family.config_warnings(dims)]
    for key in family.keys:
        least, most = PLAUSIBLE.get(key.field, (None, None))
        if least is not None and not least <= getattr(dims, key.field) <= most:
            wrong.append((f"key {key.key} is {getattr(dims, key.field):g}", f"{least:g} to {most:g}"))
    return dims, [f"{what}; expected {expected}" for what, expected in wrong]


def _vocab_size(file: GGUFFile, family: Family) -> int | None:
    """The file's vocab_size, also if other sizes are missing; None if there is none."""
    values = (key.value(file.metadata, file.tensors) for key in family.keys if key.field == "vocab_size")
    found = next(values, None)
    return found if type(found) is int else None


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _tensors(family: Family, dims: Any, layout: Layout, limit: int) -> dict[str, Tensor]:
    """The first `limit` tensors of a layout."""
    return {tensor.name: tensor for tensor in islice(family.tensors(dims, layout), limit)}


def _missing_and_extra(
    file: GGUFFile, family: Family, layout: Layout, expected: Mapping[str, Tensor], limit: int
) -> Iterator[str]:
    if len(expected) == limit:
        yield f"its sizes imply {limit:,} tensors or more; expected {len(file.tensors):,}, as in the file"
    for name, tensor in expected.items():
        if name not in file.tensors:
            yield f"missing tensor {name}; expected shape {shape_text(tensor.shape)}"
    without = sorted(layout.without - family.unwritten_parts)
    kind = "".join(f" without {family.parts[part].words}" for part in without)
    kind += " with fused QKV" if layout.fuse_qkv else ""
    file_kind = f"{family.architecture} file{kind}"
    for name in file.tensors:
        if name not in expected:
            yield f"extra tensor {name}; expected none of that name in a {file_kind} of these sizes"


def _shapes(
    file: GGUFFile, family: Family, dims: Any, layout: Layout, expected: Mapping[str, Tensor], limit: int
) -> Iterator[str]:
    other: dict[str, Mapping[str, Tensor]] = {}  # the tensors that the file would have if this key had another value
    for name, tensor in expected.items():
        found = file.tensors.get(name)
        if found is None or found.shape == tensor.shape:
            continue
        other = other or {key: _tensors(family, new, layout, limit) for key, new in _changed(family, dims)}
        keys = [key for key, tensors in other.items() if _differs(tensors.get(name), tensor, found)]
        why = f", by {' and '.join(keys)}" if keys else ""
        yield f"tensor {name} is {shape_text(found.shape)}; expected {shape_text(tensor.shape)}{why}"


def _changed(family: Family, dims: Any) -> Iterator[tuple[str, Any]]:
    """Sizes with one key changed, each with that key."""
    for key in family.keys:
        value = getattr(dims, key.field)
        if isinstance(value, int):
            yield key.key, replace(dims, **{key.field: value + 1})
        elif isinstance(value, tuple):
            yield f"{key.key}.N", replace(dims, **{key.field: tuple(element + 1 for element in value)})


def _differs(other: Tensor | None, expected: Tensor, found: TensorSlice) -> bool:
    """Whether changing a key affects exactly the dimensions that are wrong."""
    if other is None or len(found.shape) != len(expected.shape):
        return False
    sizes = zip(other.shape, expected.shape, found.shape, strict=True)
    return any(changed != wanted != there for changed, wanted, there in sizes)


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _types(
    file: GGUFFile, expected: Mapping[str, Tensor], rules: Sequence[Rule], stats: Mapping[str, TensorStats] | None
) -> Iterator[str]:
    """Find tensors whose type does not follow from their role, the recipe, the file's type and their row size.

    A tensor may be F32 because a weight overflows its type; without `stats` no F32 tensor is checked.
    """
    ggml_type = type_of_file(file)
    if ggml_type is None:
        known = ", ".join(f"{ggml_type.file_type} ({ggml_type.name})" for ggml_type in TYPES.values())
        yield f"key {FILE_TYPE} {shown(file.metadata.get(FILE_TYPE))}; expected one of {known}"
    for name, tensor in expected.items():
        found, fixed = file.tensors.get(name), ROLE_TYPES[tensor.role] is F32
        if found is None or (ggml_type is None and not fixed):
            continue
        wanted, _ = choose_type(tensor.role, found.shape[-1], ggml_type or F32, name, rules)
        absmax = stats[name].absmax if stats is not None else math.inf
        kept = found.ggml_type is F32 and absmax >= wanted.overflow  # a weight that would be infinite there
        if found.ggml_type is not wanted and not kept:
            by_rule = [f"rule {rule}" for rule in rules if rule.matches(name, tensor.role)]
            by_role = [f"{tensor.role}: always"] if fixed else []
            why = [*by_role, *by_rule, f"{FILE_TYPE} {file.metadata.get(FILE_TYPE)}"][0]
            without = f" without a weight beyond {absmax:.4g}" if found.ggml_type is F32 else ""
            yield f"tensor {name} is {found.ggml_type.name}{without}; expected {wanted.name} ({why})"


def _of_fixed_type(expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors whose role decides their type, whatever the file's rules are."""
    return {name: tensor for name, tensor in expected.items() if ROLE_TYPES[tensor.role] is F32}


def _recipe(file: GGUFFile) -> tuple[Rule, ...] | None:
    """The file's rules; None if its recipe is malformed."""
    try:
        return rules_of_file(file)
    except InputError:
        return None
