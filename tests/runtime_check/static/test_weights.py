"""Lint rules of weights: numbers, constant tensors, scales."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from quantize.types import TYPES
from runtime_check.static.weights import SCALES, bounds_of_blocks
from tests.gguf_edit import patch

from .linted import EMBED, NORM, UP, only, problems


@pytest.mark.parametrize(
    ("tensor", "at", "value", "says"),
    [
        (NORM, 4 * 9, np.float32(np.nan), "NaN in row 0"),
        (NORM, 4 * 9, np.float32(-np.inf), "infinity in row 0"),
        (UP, 34 * 8 * 77, np.float16(np.nan), "NaN in row 77, and 31 more that are not finite"),
        (UP, 34 * (8 * 77 + 7), np.float16(np.inf), " in row 77, and "),
        ("model.layers.0.attn.q.bias", 4 * 255, np.float32(np.nan), "NaN in row 0"),
    ],
)
def test_what_is_no_number_is_found_with_its_row(
    lm: Path, tmp_path: Path, tensor: str, at: int, value: Any, says: str
) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, tensor, at, np.array([value]))
    line = only(path, "numbers")
    assert line.startswith(f"tensor {tensor} holds ")
    assert says in line


@pytest.mark.parametrize("outtype", [name for name in TYPES if name != "f32"])
def test_what_is_no_number_is_found_in_every_type(tiny: Callable[[bool], Path], tmp_path: Path, outtype: str) -> None:
    path = Path(shutil.copy(tiny(True) / f"mimo-asr-{outtype}.gguf", tmp_path))
    type = TYPES[outtype]
    place = type.nbytes(256) * 77 + (2 * SCALES[outtype].scale if outtype in SCALES else 0)
    value = np.array([0x7FC0], np.uint16) if outtype == "bf16" else np.array([np.nan], np.float16)
    patch(path, UP, place, value)
    assert only(path, "numbers").startswith(f"tensor {UP} holds NaN in row 77")


@pytest.mark.parametrize(
    ("tensor", "data", "says"),
    [
        (NORM, np.zeros(256, np.float32), "each of its 256 weights is 0; expected different ones"),
        (NORM, np.full(256, 0.5, np.float32), "each of its 256 weights is 0.5; expected different ones"),
        ("model.layers.0.attn.q.bias", np.zeros(256, np.float32), "each of its 256 weights is 0; expected"),
        (UP, np.zeros(512 * 272, np.uint8), "each of its 131,072 weights is 0; expected different ones"),
        (UP, np.full(512 * 272, 1, np.uint8), "each of its 131,072 weights is 1.53"),
    ],
)
def test_a_tensor_that_says_nothing_is_found(
    lm: Path, tmp_path: Path, tensor: str, data: np.ndarray[Any, Any], says: str
) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, tensor, 0, data)
    assert only(path, "constant tensors").startswith(f"tensor {tensor}: {says}")


def test_a_norm_of_ones_is_one_that_was_not_trained(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, NORM, 0, np.ones(256, np.float32))
    assert problems(path) == {}


@pytest.mark.parametrize("outtype", SCALES)
def test_an_absurd_scale_is_found_with_its_row_and_block(
    tiny: Callable[[bool], Path], tmp_path: Path, outtype: str
) -> None:
    type, fields = TYPES[outtype], SCALES[outtype]
    for half in filter(lambda half: half is not None, (fields.scale, fields.minimum)):
        path = Path(shutil.copy(tiny(False) / f"mimo-asr-{outtype}.gguf", tmp_path))
        patch(path, UP, type.nbytes(256 * 78) - type.block_bytes + 2 * half, np.array([-60000], np.float16))
        line = only(path, "scales")
        assert line.startswith(f"tensor {UP}, row 77, block {256 // type.block - 1}: its scales reach ")
        assert "; expected less than 1000 times the median block's " in line


@pytest.mark.parametrize("outtype", SCALES)
def test_no_weight_exceeds_what_its_blocks_scales_reach(outtype: str) -> None:
    """Whatever the bytes, as the `gguf` library dequantizes them; and some weights come near."""
    type, generator = TYPES[outtype], np.random.default_rng(0)
    rows = generator.integers(0, 256, (4096, type.block_bytes), np.uint8)
    fields = SCALES[outtype]
    for half in (fields.scale, fields.minimum):
        if half is not None:
            rows[:, 2 * half : 2 * half + 2] = generator.normal(0, 1, (4096, 1)).astype(np.float16).view(np.uint8)
    largest = np.abs(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[outtype.upper()])).max(axis=1)
    reached = bounds_of_blocks(rows, type)
    assert reached.shape == (4096,)
    assert (largest <= reached * (1 + 1e-6)).all()
    assert (largest > reached * 0.7).any()


def test_every_type_of_blocks_has_its_scales_in_the_table() -> None:
    assert SCALES.keys() == {name for name, type in TYPES.items() if type.block > 1}


def test_tensors_of_zeros_for_the_most_part_have_no_absurd_blocks(lm: Path, tmp_path: Path) -> None:
    """A vocabulary has rows that nothing trains."""
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, EMBED, 0, np.zeros(1000 * 272, np.uint8))
    assert problems(path) == {}
