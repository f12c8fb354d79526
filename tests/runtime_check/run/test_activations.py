from pathlib import Path

import numpy as np
import pytest

from quantize.errors import InputError
from runtime_check.run.activations import Activations, Origin
from tests.opened import load_reference

ORIGIN = Origin(["lm", "tokenizer"], "jfk.wav", "a" * 64, "english", "", "2.13.0")


def test_what_is_stored_comes_back_in_the_same_order(tmp_path: Path) -> None:
    mel, layer = np.ones((3, 2), np.float32), np.zeros((1, 2), np.float32)
    stages = {"tok_mel": mel, "layer_00": layer, "greedy_ids": np.arange(3, dtype=np.int32)}
    path = tmp_path / "reference.safetensors"
    Activations(stages, "And so", ORIGIN).save(path)
    back = load_reference(path)
    assert (back.transcript, back.origin, list(back.stages)) == ("And so", ORIGIN, list(stages))
    for name, stage in stages.items():
        np.testing.assert_array_equal(back.stages[name], stage)
    assert [p.name for p in tmp_path.iterdir()] == ["reference.safetensors"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Activations({"x": np.ones(2)}, "", ORIGIN).save(tmp_path / "file" / "reference.safetensors")
