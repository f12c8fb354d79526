"""The file of measured divergences: read as it was written, and of no use for anything else."""

import json
from pathlib import Path

import pytest

from mimo_convert.budget.errors_file import Errors, errors_path, read_errors


def written(path: Path) -> Errors:
    errors = Errors(path, "a")
    errors.add("x", "q4_k", 0.12345678)
    errors.add("x", "q8_0", 0.0)
    errors.absmax["y"] = 1e6
    errors.write()
    return errors


def test_is_read_as_it_was_written(tmp_path: Path) -> None:
    errors = written(tmp_path / "calibration.errors.json")
    again = read_errors(errors.path, "a")
    assert again == errors
    assert again.by_type == {"x": {"q4_k": 0.123457, "q8_0": 0.0}}
    assert not again.lacks("x", "q4_k")
    assert again.lacks("x", "q5_k")
    assert not again.lacks("y", "q5_k"), "it is promoted to F32"


def test_lies_beside_the_calibration(tmp_path: Path) -> None:
    assert errors_path(tmp_path / "of-me.gguf") == tmp_path / "of-me.errors.json"


@pytest.mark.parametrize("damage", [
    lambda text: text[:-20],
    lambda text: text.replace("0.123457", "NaN"),
    lambda text: text.replace("0.123457", "-1"),
    lambda text: text.replace("0.123457", '"0.1"'),
    lambda text: text.replace("0.123457", "true"),
    lambda text: text.replace('"x": {', '"x": 1, "z": {'),
    lambda text: text.replace("errors 1", "errors 2"),
    lambda text: json.dumps([text]),
    lambda text: "",
    lambda text: "\ud800",
])  # fmt: skip
def test_a_damaged_one_is_measured_again(tmp_path: Path, damage: object) -> None:
    path = written(tmp_path / "e.json").path
    assert callable(damage)
    path.write_bytes(damage(path.read_text()).encode(errors="surrogatepass"))
    assert read_errors(path, "a") == Errors(path, "a")


def test_one_of_other_weights_is_measured_again(tmp_path: Path) -> None:
    path = written(tmp_path / "e.json").path
    assert read_errors(path, "b") == Errors(path, "b")
    assert read_errors(tmp_path / "none.json", "a").by_type == {}
