"""Whether a model's matrices are laid out anew for ggml's fastest products, and which: it takes time and memory once,
and saves time for each position that is read."""

import re
from pathlib import Path

from mimo_convert.gguf_file import GGUFFile
from mimo_convert.model_file import is_asr_only, is_fused
from mimo_convert.models import Family
from quantize.kernels import is_float

AUTO, ON, OFF = "auto", "on", "off"
CHOICES = (AUTO, ON, OFF)

# As long as reading so many positions saves, repacking takes, whatever the size of the model (docs/benchmarks.md);
# a step saves less than a position of a prompt, because memory, not arithmetic, is its bound.
REPAYS_AFTER = 100
STEP = 0.5
MEMORY_LEFT = 1.25  # times what it takes must be free


def worth_repacking(choice: str, positions: float, nbytes: int) -> bool:
    """Whether to repack `nbytes` of weights when so many positions are to be read with them."""
    if choice != AUTO:
        return choice == ON
    return positions > REPAYS_AFTER and nbytes * MEMORY_LEFT < available_memory()


def multiplied(file: GGUFFile, family: Family, dims: object) -> list[str]:
    """The tensors that recognition multiplies with and that are quantized: what repacking is about."""
    return [
        tensor.name
        for tensor in family.tensors(dims, is_fused(file), is_asr_only(file, family))
        if tensor.role in ("matrix", "head")
        and not is_float(file.tensors[tensor.name].type)
        and not re.fullmatch(family.speech_generation, tensor.name)
    ]


def available_memory() -> int:
    """Bytes that can be taken without swapping; all there is, where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 1 << 62
