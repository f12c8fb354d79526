"""Well-formed files for the lint, of the tiny pair. Shared: copy a file before changing it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.write.convert import convert
from quantize.types import TYPES
from tests.opened import make_request, open_tiny, open_tiny_tokenizer, options_of
from tests.system.once import once


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The folder of the tiny pair in every type, by layout."""

    def folder(fused: bool) -> Path:
        def make(out: Path) -> None:
            checkpoints = open_tiny(), open_tiny_tokenizer()
            requests = [make_request(checkpoint, list(TYPES.values()), options_of(fused)) for checkpoint in checkpoints]
            convert(requests, out, threads=2)

        return once(tmp_path_factory, "tiny-fused" if fused else "tiny-separate", make)

    return folder


@pytest.fixture(scope="session")
def lm(tiny: Callable[[bool], Path]) -> Path:
    """A speech LM in Q8_0, of separate layout."""
    return tiny(False) / "mimo-asr-q8_0.gguf"


@pytest.fixture(scope="session")
def tokenizer(tiny: Callable[[bool], Path]) -> Path:
    """Its audio tokenizer."""
    return tiny(False) / "mimo-tokenizer-q8_0.gguf"
