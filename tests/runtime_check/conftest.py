"""Converted files for the tests of the harness: every one made by mimo-convert from a random checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.convert import convert
from mimo_convert.plan import Options
from mimo_convert.request import make_request
from quantize.types import TYPES
from runtime_check import bundled
from runtime_check.activations import Activations
from runtime_check.check import Check, check, open_pair
from runtime_check.transcribe import Clip, Harness, read_clip

from ..synthetic import write_audio_tokenizer, write_speech_lm

Converter = Callable[..., tuple[Path, Path]]


def check_files(
    lm: Path | None, tokenizer: Path, clip: Clip, reference: Activations | None, max_new_tokens: int | None = None
) -> Check:
    """A check of a pair on a clip, in English, against stages that are known."""
    pair = open_pair(Harness(lm, tokenizer, threads=2))
    make = None if reference is None else lambda answer: reference
    return check(pair, clip, make, language="english", max_new_tokens=max_new_tokens)


@pytest.fixture(scope="session")
def jfk() -> Clip:
    return read_clip(bundled.JFK)


@pytest.fixture(scope="session")
def lm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(write_speech_lm(tmp_path_factory.mktemp("lm"))))


@pytest.fixture(scope="session")
def tokenizer_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(write_audio_tokenizer(tmp_path_factory.mktemp("tokenizer"))))


@pytest.fixture(scope="session")
def converted(
    lm_checkpoint: Checkpoint, tokenizer_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Converter:
    """Makes, once, the pair of files of a type and layout."""
    made: dict[tuple[str, bool], tuple[Path, Path]] = {}

    def make(outtype: str = "f16", fuse_qkv: bool = False) -> tuple[Path, Path]:
        key = (outtype, fuse_qkv)
        if key not in made:
            out = tmp_path_factory.mktemp("gguf")
            requests = [
                make_request(checkpoint, [TYPES[outtype]], Options(fuse_qkv))
                for checkpoint in (lm_checkpoint, tokenizer_checkpoint)
            ]
            plans = convert(requests, out, threads=2)
            made[key] = (out / plans[0].file_name, out / plans[1].file_name)
        return made[key]

    return make
