"""Plans as text."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mimo_convert.disk import free_bytes
from mimo_convert.formats.tensor import shape_text
from mimo_convert.model.uses import Use, UseTypes, types_by_use
from mimo_convert.numbers_text import NOTHING, brief
from mimo_convert.terminal import show, wants_details
from quantize.quoting import quoted
from quantize.recipes import ROLE_TYPES

from .mix import Mix
from .plan import Plan, PlannedTensor

NUMBER = re.compile(r"(?<=\.)(\d+)(?=\.)")


class Row(NamedTuple):
    """A line of a plan: a name that stands for `n` tensors like this one."""

    name: str
    n: int
    tensor: PlannedTensor


def print_plans(plans: Sequence[Plan], out: Path, nbytes: int, room: int, there: Mapping[str, str]) -> None:
    """Print the totals of the disk and of each file, then its tensors with type, shape and bytes, those of layers that
    are alike in one line; all of them where more is asked for. `nbytes` are still to be written, for which `room` bytes
    are needed. `there` are notes on files that exist, by name."""
    free = free_bytes(out)
    show(f"{nbytes:,} bytes to write to {quoted(out)}; {free:,} bytes free{'' if free > room else ': NOT ENOUGH'}")
    for plan in plans:
        note = there.get(plan.file_name, "")
        show(f"{quoted(plan.file_name)}: {describe(plan)}{f'; {note}' if note else ''}")
    for plan in plans:
        show(f"\n{quoted(plan.file_name)}")
        rows = [Row(tensor.name, 1, tensor) for tensor in plan.tensors]
        table(rows if wants_details() else folded(rows))
        if plan.mix:
            show(f"\n{choice(plan, plan.mix)}")


def choice(plan: Plan, mix: Mix) -> str:
    """What was chosen for a given size, as text: a line for each use of the tensors that have one."""
    types = types_by_use(plan.family.uses, chosen_types(plan.tensors))
    names = {tensor.name: use_name(use) for use, tensor in uses_of(plan)}
    lines = [Line("use", "tensors", "bytes", "predicted KL", "types")]
    for of_use in types:
        name = use_name(of_use)
        tensors = [t for t in plan.tensors if names.get(t.name) == name]
        known = [mix.predicted[t.name] for t in tensors if t.name in mix.predicted]
        kl = brief(sum(known)) if known else NOTHING
        lines.append(Line(name, str(len(tensors)), f"{sum(t.nbytes for t in tensors):,}", kl, types_text(of_use)))
    width = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    said = [
        f"  {use:<{width[0]}}  {n:>{width[1]}}  {nbytes:>{width[2]}}  {kl:>{width[3]}}  {of_use}"
        for use, n, nbytes, kl, of_use in lines
    ]
    first = f"types for {mix.target}: predicted KL divergence {brief(mix.kl)} nats a token"
    return "\n".join([first, *said, *unknown(mix)])


class Line(NamedTuple):
    """A line of the table of a choice, as text."""

    use: str
    n: str
    nbytes: str
    kl: str
    types: str


def chosen_types(tensors: Iterable[PlannedTensor]) -> list[tuple[str, str]]:
    """Names and types of those tensors whose types their role does not decide."""
    return [(tensor.name, tensor.ggml_type.name) for tensor in tensors if ROLE_TYPES[tensor.role] is None]


def uses_of(plan: Plan) -> Iterator[tuple[Use, PlannedTensor]]:
    """The tensors of a plan that have a use, and whose types their role does not decide."""
    for tensor in (one for one in plan.tensors if ROLE_TYPES[one.role] is None):
        yield from ((use, tensor) for use in plan.family.uses if use.layer_of(tensor.name) is not None)


def use_name(use: Use | UseTypes) -> str:
    """A use in a table: `model.layers attention_q`."""
    return f"{use.stack} {use.use}".strip()


def types_text(of_use: UseTypes) -> str:
    """The types of a use: with the layers that have each, such as `q4_k 0…5,7; q6_k 6`, or else their number."""
    by_type: dict[str, list[str]] = {}
    for i, one in enumerate(of_use.types):
        by_type.setdefault(one, []).append(str(i))
    if len(by_type) == 1:
        return next(iter(by_type))
    if of_use.stack:
        return "; ".join(f"{name} {number_ranges(layers)}" for name, layers in by_type.items())
    return ", ".join(f"{len(layers)} {name}" for name, layers in by_type.items())


def unknown(mix: Mix) -> list[str]:
    """A line about the tensors of which the calibration knows nothing, if there are any."""
    n = len(mix.unknown)
    if not n:
        return []
    named = f"{', '.join(mix.unknown[:3])}{', …' * (n > 3)}"
    return [f"  of {n} tensor{'s' * (n != 1)} nothing is known, so that no type is better for one: {named}"]


def table(rows: Sequence[Row]) -> None:
    """Print tensors in columns."""
    width = max(len(row.name) for row in rows)
    for name, n, tensor in rows:
        shape, times = shape_text(tensor.shape), f"{n} ×" if n > 1 else ""
        type_name, size = tensor.ggml_type.name, f"{tensor.nbytes:,}"
        line = f"  {name:<{width}}  {times:>5} {type_name:<6}  {shape:>13}  {size:>13}  {tensor.note}"
        show(line.rstrip())


def folded(rows: Iterable[Row]) -> list[Row]:
    """Tensors that differ only in the numbers in their names, as one row: `blk.0…35.attn_q.weight`."""
    alike: dict[tuple[object, ...], list[str]] = {}
    first: dict[tuple[object, ...], PlannedTensor] = {}
    for name, _, tensor in rows:
        key = (NUMBER.sub("#", name), tensor.ggml_type.name, tensor.shape, tensor.note)
        alike.setdefault(key, []).append(name)
        first.setdefault(key, tensor)
    return [Row(name_of(names), len(names), first[key]) for key, names in alike.items()]


def name_of(names: Sequence[str]) -> str:
    """One name for names that differ in numbers: `0…35` where these are all from 0 to 35, else those that there are."""
    parts = [NUMBER.split(name) for name in names]  # text, number, text, …
    columns = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
    return "".join(number_ranges(column) if i % 2 else column[0] for i, column in enumerate(columns))


def number_ranges(numbers: Sequence[str]) -> str:
    """`3`, `0…35`, or `0,2,5…7`."""
    runs: list[list[int]] = []
    for n in sorted(map(int, numbers)):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(f"{run[0]}…{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def describe(plan: Plan) -> str:
    """A plan in one line: its mix of types, tensors by type, size, bits per weight, and notes."""
    types = Counter(tensor.ggml_type.name for tensor in plan.tensors)
    parts = [
        *([plan.label] if plan.mixed else []),
        f"{len(plan.tensors)} tensors ({', '.join(f'{n} {type_name}' for type_name, n in types.most_common())})",
        f"{plan.n_weights:,} weights",
        f"{plan.size:,} bytes",
        f"{plan.bits_per_weight:.2f} bits per weight",
    ]
    if plan.mix:
        parts.append(f"for {plan.mix.target}: predicted KL divergence {brief(plan.mix.kl)} nats a token")
    if plan.quantizer:
        parts.append(f"quantized by {plan.quantizer}")
    for note, n in Counter(tensor.note for tensor in plan.tensors if tensor.note).items():
        parts.append(f"{n} × {note}")
    for reason, n in Counter(plan.skipped.values()).items():
        parts.append(f"skipped {n} tensor{'s' * (n != 1)}: {reason}")
    return "; ".join(parts)
