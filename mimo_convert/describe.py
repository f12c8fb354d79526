"""Plans in words."""

from collections import Counter
from pathlib import Path

from quantize.quoting import quoted

from .disk import free_bytes
from .plan import Plan
from .stored import shape_text
from .terminal import show


def print_plans(plans: list[Plan], out: Path) -> None:
    """Every tensor with its type, shape and bytes; then each file's totals, and the disk's."""
    for plan in plans:
        show(f"{quoted(plan.file_name)}")
        width = max(len(tensor.name) for tensor in plan.tensors)
        for tensor in plan.tensors:
            shape = shape_text(tensor.shape)
            line = f"  {tensor.name:<{width}}  {tensor.type.name:<6}  {shape:>13}  {tensor.nbytes:>13,}  {tensor.note}"
            show(line.rstrip())
        show(f"  {describe(plan)}\n")
    total, free = sum(plan.size for plan in plans), free_bytes(out)
    show(f"{total:,} bytes to write to {quoted(out)}; {free:,} bytes free{'' if free > total else ': NOT ENOUGH'}")


def describe(plan: Plan) -> str:
    """A file in a line: tensors by type, size, bits per weight, and what is notable."""
    types = Counter(tensor.type.name for tensor in plan.tensors)
    parts = [
        f"{len(plan.tensors)} tensors ({', '.join(f'{n} {type}' for type, n in types.most_common())})",
        f"{plan.n_weights:,} weights",
        f"{plan.size:,} bytes",
        f"{plan.bits_per_weight:.2f} bits per weight",
    ]
    if plan.quantizer:
        parts.append(f"quantized by {plan.quantizer}")
    for note, n in Counter(tensor.note for tensor in plan.tensors if tensor.note).items():
        parts.append(f"{n} × {note}")
    for reason, n in Counter(plan.left_out.values()).items():
        parts.append(f"left out {n} tensors: {reason}")
    return "; ".join(parts)
