"""The lint of a file of which only the header is there."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mimo_convert.formats.gguf import read_gguf
from quantize.errors import InputError
from tests.faults.defect import Defect
from tests.faults.mimo.metadata import METADATA
from tests.faults.mimo.structure import LAYOUT, STRUCTURE
from tests.faults.mimo.vocabulary import VOCABULARY
from tests.opened import lint

from .linted import OF_WEIGHTS, checked, problems


def without_weights(path: Path, header: int) -> Path:
    """A sparse file of the same size, with its header only."""
    sparse = path.with_suffix(".header")
    sparse.write_bytes(path.read_bytes()[:header])
    os.truncate(sparse, path.stat().st_size)
    return sparse


def header_of(path: Path) -> int:
    return min(tensor.begin for tensor in read_gguf(path).tensors.values())


@pytest.mark.parametrize("name", ["mimo-asr-q8_0", "mimo-asr-f16", "mimo-tokenizer-q4_k"])
def test_a_file_of_which_only_the_header_is_there_passes_if_that_is_good(
    tiny: Callable[[bool], Path], tmp_path: Path, name: str
) -> None:
    path = Path(shutil.copy(tiny(True) / f"{name}.gguf", tmp_path))
    whole, sparse = checked(path), without_weights(path, header_of(path))
    result = lint(sparse, threads=2, weights=False)
    assert (result.passed, result.bytes) == (True, path.stat().st_size)
    assert result.rules == tuple(rule for rule in whole.rules if rule.name not in OF_WEIGHTS)
    assert not checked(sparse).passed


OF_HEADERS = [
    defect for defect in VOCABULARY + METADATA + STRUCTURE + LAYOUT if defect.damage and defect.on.startswith("tiny")
]


@pytest.mark.parametrize("defect", OF_HEADERS, ids=lambda defect: defect.name)
def test_every_defect_of_a_header_is_found_in_the_header(
    tiny: Callable[[bool], Path], tmp_path: Path, defect: Defect
) -> None:
    """Whatever the whole file's rules say, but those that look at weights."""
    _, half, type, *fused = defect.on.split()
    stem = {"lm": "mimo-asr", "tokenizer": "mimo-tokenizer"}[half]
    path = Path(shutil.copy(tiny(bool(fused)) / f"{stem}-{type}.gguf", tmp_path))
    header = header_of(path)
    assert defect.damage
    defect.damage(path)
    with suppress(InputError):
        header = header_of(path)
    expected = {name: lines for name, lines in problems(path).items() if name not in OF_WEIGHTS}
    if defect.name == "a matrix left in F32":  # perhaps for a weight that Q4_K would make infinite
        expected = {}
    result = lint(without_weights(path, header), threads=2, weights=False)
    assert {rule.name: rule.findings for rule in result.rules if rule.findings} == expected
