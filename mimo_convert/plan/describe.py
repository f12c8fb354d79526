"""Plans as text."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mimo_convert.disk import free_bytes
from mimo_convert.formats.tensor import shape_text
from mimo_convert.terminal import show
from quantize.quoting import quoted

from .plan import Plan


def print_plans(plans: list[Plan], out: Path, nbytes: int, room: int, there: Mapping[str, str]) -> None:
    """Print every tensor with its type, shape and bytes, and the totals of each file and of the disk: `nbytes` are
    still to be written, for which `room` bytes are needed. `there` are notes on files that exist, by name."""
    for plan in plans:
        show(f"{quoted(plan.file_name)}")
        width = max(len(tensor.name) for tensor in plan.tensors)
        for tensor in plan.tensors:
            shape = shape_text(tensor.shape)
            type_name, size = tensor.ggml_type.name, f"{tensor.nbytes:,}"
            line = f"  {tensor.name:<{width}}  {type_name:<6}  {shape:>13}  {size:>13}  {tensor.note}"
            show(line.rstrip())
        note = there.get(plan.file_name, "")
        show(f"  {describe(plan)}{f'; {note}' if note else ''}\n")
    free = free_bytes(out)
    show(f"{nbytes:,} bytes to write to {quoted(out)}; {free:,} bytes free{'' if free > room else ': NOT ENOUGH'}")


def describe(plan: Plan) -> str:
    """A plan in one line: tensors by type, size, bits per weight, and notes."""
    types = Counter(tensor.ggml_type.name for tensor in plan.tensors)
    parts = [
        f"{len(plan.tensors)} tensors ({', '.join(f'{n} {type_name}' for type_name, n in types.most_common())})",
        f"{plan.n_weights:,} weights",
        f"{plan.size:,} bytes",
        f"{plan.bits_per_weight:.2f} bits per weight",
    ]
    if plan.quantizer:
        parts.append(f"quantized by {plan.quantizer}")
    for note, n in Counter(tensor.note for tensor in plan.tensors if tensor.note).items():
        parts.append(f"{n} × {note}")
    for reason, n in Counter(plan.skipped.values()).items():
        parts.append(f"skipped {n} tensors: {reason}")
    return "; ".join(parts)
