"""A file that is repacked is read once: its hash is computed of the same pages, and of no others."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.model import model_file as model_files
from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.registry import families
from runtime_check.choices import OFF, ON
from runtime_check.ggml import memory
from runtime_check.ggml.repack import multiplied
from runtime_check.run.validate import Inputs, open_ready
from tests.opened import paths_of
from tests.runtime_check.conftest import Converter


@dataclass
class Readings:
    """The files that were hashed by a reading of their own, and the places of mapped ones that were, in order."""

    apart: list[Path] = field(default_factory=list)
    mapped: list[tuple[int, int]] = field(default_factory=list)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    """What is hashed from now on."""
    found = Readings()
    sha256_of = model_files.sha256_of

    def apart(path: Path) -> str:
        found.apart.append(path)
        return sha256_of(path)

    class Counted(memory.MapDigest):
        def read_to(self, end: int) -> None:
            begin = self.at
            super().read_to(end)
            if begin < self.at:
                found.mapped.append((begin, self.at))

    monkeypatch.setattr(model_files, "sha256_of", apart)
    monkeypatch.setattr(memory, "MapDigest", Counted)
    return found


def facts(converted: Converter, outtype: str, repack: str) -> dict[Path, str]:
    """Both files of a type opened for a report: path → the hash that it has."""
    files, paths = OpenFiles(families()), paths_of(*converted(outtype))
    ready = open_ready(SYSTEM, paths, files, Inputs([], repack=repack), 2)
    return {Path(found.file): found.sha256 for found in ready.facts}


def test_a_repacked_file_is_hashed_as_it_is_repacked(converted: Converter, readings: Readings) -> None:
    for path, sha256 in facts(converted, "q4_k", ON).items():
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not readings.apart
    expected = [path.stat().st_size for path in reversed(converted("q4_k"))]  # the audio tokenizer first
    for size in expected:  # every byte once, in order
        at = 0
        while at < size:
            begin, end = readings.mapped.pop(0)
            assert begin == at
            at = end
        assert at == size
    assert not readings.mapped


def test_another_file_is_hashed_by_a_reading_of_its_own(converted: Converter, readings: Readings) -> None:
    for outtype, repack in (("q4_k", OFF), ("f16", ON)):
        for path, sha256 in facts(converted, outtype, repack).items():
            assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert sorted(readings.apart) == sorted(converted(outtype))
        readings.apart.clear()
    assert not readings.mapped


def test_a_hash_that_nobody_wants_or_that_is_known_is_not_computed(converted: Converter, readings: Readings) -> None:
    files, (lm, _) = OpenFiles(families()), converted("q4_k")
    model = files.model(lm)
    memory.Weights(model.file).repack(multiplied(model), 2, model.hash)
    assert not model.hash.known
    model.hash.wanted = True
    files.set_sha256(lm, "by a lint, say")
    memory.Weights(model.file).repack(multiplied(model), 2, model.hash)
    assert files.sha256(lm) == "by a lint, say"
    assert not readings.apart
    assert not readings.mapped


def test_what_fails_in_a_thread_is_raised(converted: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("of a thread")

    model = OpenFiles(families()).model(converted("q4_k")[0])
    model.hash.wanted = True
    weights = memory.Weights(model.file)
    monkeypatch.setattr(memory.ggml, "ggml_backend_tensor_set", fail)
    with pytest.raises(MemoryError, match="of a thread"):
        weights.repack(multiplied(model), 2, model.hash)
