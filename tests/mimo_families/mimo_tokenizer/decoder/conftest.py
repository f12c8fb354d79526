"""A small random audio tokenizer with a decoder, as a checkpoint and as files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_tokenizer.decoder.harness import SpeechDecoder
from quantize.types import TYPES
from runtime_check.ggml.graph import Backend, Weights
from tests.conftest import SMALL_TOKENIZER
from tests.opened import make_request, model_file, options_of
from tests.synthetic import DECODER_CONFIG, write_audio_tokenizer
from tests.system.once import once

CONFIG: dict[str, Any] = (
    SMALL_TOKENIZER
    | DECODER_CONFIG
    | {"num_quantizers": 8, "codebook_size": [32] * 8, "decoder_ffn_dim": 128, "decoder_layers": 3}
)
DecoderOf = Callable[[str], SpeechDecoder]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(once(tmp_path_factory, "voice", lambda out: write_audio_tokenizer(out, **CONFIG))))


@pytest.fixture(scope="session")
def file_of(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a type."""

    def file(outtype: str) -> Path:
        def make(out: Path) -> None:
            convert([make_request(checkpoint, [TYPES[outtype]], options_of(False))], out, threads=1)

        return once(tmp_path_factory, f"voice-{outtype}", make) / f"mimo-tokenizer-{outtype}.gguf"

    return file


@pytest.fixture(scope="session")
def decoder_of(file_of: Callable[[str], Path]) -> DecoderOf:
    """The decoder of the file of a type."""

    def opened(outtype: str = "f32") -> SpeechDecoder:
        model = model_file(file_of(outtype))
        return SpeechDecoder(model, Weights(model.file), Backend(1))

    return opened


def random_codes(n: int, seed: int = 0, codebooks: int = 8) -> Any:
    """(n, codebooks)."""
    return np.random.default_rng(seed).integers(0, 32, (n, codebooks), np.int32)
