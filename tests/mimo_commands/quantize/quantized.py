"""Run mimo-quantize, and compare what it wrote."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from click.testing import CliRunner, Result

from mimo_commands.quantize import main
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from tests.opened import make_request, options_of
from tests.readers import Stored, ggml_tensors, gguf_metadata

BLOCKS = {type.name: type.block for type in TYPES.values()}
TYPE_NAMES = {type.file_type: name for name, type in TYPES.items()}
BELOW_8_BITS = [name for name, type in TYPES.items() if type.bits_per_weight < 8]
UP_SOURCE, UP = "model.layers.1.mlp.up_proj.weight", "model.layers.1.ffn.up.weight"
QKV = "model.layers.0.attn.qkv.weight"  # rows of Q (128), K (64) and V (64)

QUANTIZER, RECIPE, FROM = "mimo_convert.quantizer", "mimo_convert.recipe", "mimo_convert.quantized_from"


def quantize(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def done(*arguments: Any) -> Path:
    """Run it; the file it wrote."""
    result = quantize(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return Path(arguments[1])


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def same_by_way_of(through: str, made: Path, other: Path) -> bool:
    """Whether a file is `other`, and says besides that it was made of a file of that type, where that may lose."""
    before, after = gguf_metadata(other), gguf_metadata(made)
    way = {key: after.pop(key) for key in list(after) if key.startswith(FROM)}
    assert way == (way_of(through) if through not in ("f32", TYPE_NAMES[before["general.file_type"]]) else {})
    tensors = ({n: (t.type, t.shape, t.data) for n, t in ggml_tensors(path).items()} for path in (made, other))
    return before == after and next(tensors) == next(tensors)


def way_of(through: str) -> dict[str, str]:
    """What a file says that was made of one of floats."""
    return {FROM: through, f"{FROM}.0.version": version("mimo-convert")}


def written(checkpoint: Path, out: Path, *types: str, **options: Any) -> Path:
    """What mimo-convert makes of a checkpoint: the folder."""
    request = make_request(open_checkpoint(str(checkpoint)), [TYPES[name] for name in types], options_of(**options))
    convert([request], out, threads=2)
    return out


Files = Callable[[bool, str], Path]


def dequantized(stored: Stored) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a tensor stands for, by the `gguf` library: (rows, row)."""
    rows = np.frombuffer(stored.data, np.uint8).reshape(len(stored.data) // row_bytes(stored), -1)
    if stored.type in ("f32", "f16"):
        return rows.view(f"f{4 if stored.type == 'f32' else 2}").astype(np.float32)
    return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[stored.type.upper()])


def row_bytes(stored: Stored) -> int:
    return TYPES[stored.type].nbytes(int(np.prod(stored.shape[1:])) if len(stored.shape) > 1 else stored.shape[0])
