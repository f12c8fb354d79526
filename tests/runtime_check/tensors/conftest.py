"""Files of the small models for comparisons. Shared: copy a file before changing it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.source_model import SourceModel
from tests.conftest import SMALL_TOKENIZER
from tests.synthetic import write_audio_tokenizer

from .compared import model


@pytest.fixture(scope="session")
def lm(small_lm: Path) -> SourceModel:
    return model(small_lm)


@pytest.fixture(scope="session")
def files(small_lm_files: Callable[[bool, str], Path]) -> Callable[[str, bool], Path]:
    """The small speech LM in every type and layout."""
    return lambda outtype, fused: small_lm_files(fused, outtype)


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SourceModel]:
    """The small audio tokenizer in each dtype of checkpoints."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        dtype: model(write_audio_tokenizer(folder / dtype, dtype=dtype, **SMALL_TOKENIZER))
        for dtype in ("F32", "F16", "BF16")
    }
