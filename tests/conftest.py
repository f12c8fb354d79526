"""What tests share: small random checkpoints of both families, and how hypothesis runs."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from tests.opened import make_request, options_of
from tests.synthetic import DECODER_CONFIG, write_audio_tokenizer, write_speech_lm
from tests.system.once import once

# The same examples on every run, so that a red gate is a change's doing; no test fails for being slow.
settings.register_profile("same", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("same")

# Small enough to convert in milliseconds. Rows of 256 take every type; those of 128, 192 and 48 take each step of the
# chains of fallbacks.
SMALL_LM = {
    "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "intermediate_size": 512, "input_local_layers": 1, "input_local_dim": 48, "local_layers": 1,
    "local_dim": 128, "local_ffn_dim": 256, "speech_vocab_size": "33-33-17-17-17-17-17-17",
    "speech_zeroemb_idx": "32-32-16-16-16-16-16-16",
}  # fmt: skip
SMALL_TOKENIZER = {
    "d_model": 64, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 256, "n_mels": 16,
    "num_quantizers": 3, "codebook_size": [32, 16, 16],
}  # fmt: skip
SMALL_DECODER = DECODER_CONFIG | {"decoder_layers": 2, "decoder_ffn_dim": 256, "vocoder_dim": 32}


def pytest_collection_finish() -> None:
    """The tests themselves and what they import stay: cycles are only looked for among what a test makes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech LM's checkpoint in two shards. Shared: copy it before changing anything."""
    name = "small-lm"
    return once(tmp_path_factory, "lm", lambda out: write_speech_lm(out / name, **SMALL_LM)) / name


@pytest.fixture(scope="session")
def small_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audio tokenizer's checkpoint. Shared: copy it before changing anything."""
    name = "small-tokenizer"
    return once(tmp_path_factory, "tokenizer", lambda out: write_audio_tokenizer(out / name, **SMALL_TOKENIZER)) / name


@pytest.fixture(scope="session")
def whole_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audio tokenizer's checkpoint with decoder and vocoder, of dtypes as published. Shared as the others."""
    values, name = SMALL_TOKENIZER | SMALL_DECODER, "whole-tokenizer"
    return once(tmp_path_factory, "whole", lambda out: write_audio_tokenizer(out / name, **values)) / name


@pytest.fixture(scope="session")
def whole_tokenizer_file(whole_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same as mimo-convert writes it, by type. Shared: copy a file before changing it."""

    def file(name: str) -> Path:
        def make(out: Path) -> None:
            request = make_request(open_checkpoint(whole_tokenizer), [TYPES[name]])
            convert([request], out, threads=2)

        return once(tmp_path_factory, f"whole-{name}", make) / f"mimo-tokenizer-{name}.gguf"

    return file


@pytest.fixture(scope="session")
def small_lm_files(small_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool, str], Path]:
    """The small speech LM as mimo-convert writes it, by layout and type. Shared: copy a file before changing it."""

    def file(fused: bool, name: str) -> Path:
        def make(out: Path) -> None:
            request = make_request(open_checkpoint(str(small_lm)), list(TYPES.values()), options_of(fuse_qkv=fused))
            convert([request], out, threads=2)

        folder = once(tmp_path_factory, f"small-lm-{'fused' if fused else 'separate'}", make)
        return folder / f"mimo-asr-{name}.gguf"

    return file
