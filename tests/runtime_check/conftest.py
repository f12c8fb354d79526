"""Converted files for the tests of the harness: every one made by mimo-convert from a random checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK
from tests.opened import make_request, options_of
from tests.synthetic import write_audio_tokenizer, write_speech_lm
from tests.system.once import once

Converter = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="session")
def jfk() -> Clip:
    return read_clip(JFK)


@pytest.fixture(scope="session")
def lm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(once(tmp_path_factory, "random-lm", write_speech_lm)))


@pytest.fixture(scope="session")
def tokenizer_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(once(tmp_path_factory, "random-tokenizer", write_audio_tokenizer)))


@pytest.fixture(scope="session")
def converted(
    lm_checkpoint: Checkpoint, tokenizer_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Converter:
    """Makes, once, the pair of files of a type and layout."""

    def pair(outtype: str = "f16", fuse_qkv: bool = False) -> tuple[Path, Path]:
        def make(out: Path) -> None:
            checkpoints, options = (lm_checkpoint, tokenizer_checkpoint), options_of(fuse_qkv)
            convert([make_request(checkpoint, [TYPES[outtype]], options) for checkpoint in checkpoints], out, threads=2)

        folder = once(tmp_path_factory, f"random-{outtype}-{'fused' if fuse_qkv else 'separate'}", make)
        return folder / f"mimo-asr-{outtype}.gguf", folder / f"mimo-tokenizer-{outtype}.gguf"

    return pair
