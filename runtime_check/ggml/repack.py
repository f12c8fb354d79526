"""Choose whether to repack weights: it costs time and memory once, and saves time per position."""

from pathlib import Path

from mimo_convert.model.model_file import ModelFile
from quantize.kernels import is_float
from runtime_check.choices import AUTO, GGML, ON
from runtime_check.products.library import variants

# Seconds of one thread for a byte of Q4_K, of which repacking repays last: to repack it, and what each position of a
# prompt then saves. Threads share both alike.
REPACK_SECONDS = 2.3e-9
SAVED_SECONDS = 18.5e-12
MEMORY_LEFT = 1.25  # times what it takes must be free


def worth_repacking(choice: str, positions: float, nbytes: int) -> bool:
    """Whether to repack `nbytes` of weights that are used for `positions` positions of prompts.

    AUTO compares cost with savings, by the least favourable measurements of `python -m benchmarks.harness` and
    `benchmarks.harness.repacking` (docs/benchmarks.md). Decoding steps are not counted: repacked weights make them
    faster or slower, depending on the processor. Nor is reading the file, which its hash takes in any case.
    """
    if choice != AUTO:
        return choice == ON
    cost, saving = nbytes * REPACK_SECONDS, nbytes * positions * SAVED_SECONDS
    return saving > cost and nbytes * MEMORY_LEFT < available_memory()


def may_repack(choice: str, products: str) -> bool:
    """Whether weights may be repacked: on request, or if ggml multiplies and it pays off."""
    return choice == ON or (choice == AUTO and (products == GGML or not variants()))


def multiplied(model: ModelFile) -> list[str]:
    """The block-quantized matrices that recognition multiplies with, without optional parts."""
    return [
        tensor.name
        for tensor in model.family.tensors(model.dims, model.layout)
        if tensor.role in ("matrix", "encoder_matrix", "head")
        and not is_float(model.file.tensors[tensor.name].ggml_type)
        and model.family.part_of(tensor.name) is None
    ]


def available_memory() -> int:
    """Bytes of memory available without swapping; unlimited if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 1 << 62
