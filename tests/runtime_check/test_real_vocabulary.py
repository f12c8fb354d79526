"""The whole line at the real vocabulary's size, whose numbers published files got wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.convert import convert
from mimo_convert.gguf_file import read_gguf
from mimo_convert.plan import Options
from mimo_convert.request import make_request
from quantize.types import TYPES
from runtime_check import reference
from runtime_check.activations import FIRST_LOGITS, Activations
from runtime_check.check import Check
from runtime_check.transcribe import Clip

from ..synthetic import REAL_VOCAB_SIZE, write_speech_lm
from .conftest import check_files

N_TOKENS = 8


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("real")
    return open_checkpoint(str(write_speech_lm(folder / "lm", vocab_size=REAL_VOCAB_SIZE)))


@pytest.fixture(scope="module")
def expected(lm: Checkpoint, tokenizer_checkpoint: Checkpoint, jfk: Clip) -> Activations:
    return reference.run(lm, tokenizer_checkpoint, replace(jfk, text=None), "english", max_new_tokens=N_TOKENS)


@pytest.fixture(scope="module", params=[("f16", False), ("f16", True), ("f32", False)], ids=["f16", "fused", "f32"])
def checked(
    lm: Checkpoint, tokenizer_checkpoint: Checkpoint, jfk: Clip, expected: Activations,
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest,
) -> Check:  # fmt: skip
    """An F16 speech LM with an audio tokenizer of the given type, run on JFK."""
    tokenizer_type, fuse_qkv = request.param
    out = tmp_path_factory.mktemp("gguf")
    requests = [
        make_request(lm, [TYPES["f16"]], Options(fuse_qkv)),
        make_request(tokenizer_checkpoint, [TYPES[tokenizer_type]], Options(fuse_qkv)),
    ]
    paths = [out / plan.file_name for plan in convert(requests, out, threads=2)]
    return check_files(*paths, jfk, expected, N_TOKENS)


def test_the_file_holds_every_token_and_merge(checked: Check) -> None:
    assert checked.speech_lm is not None
    metadata = read_gguf(checked.speech_lm.path).metadata
    merges = metadata["tokenizer.ggml.merges"]
    assert len(metadata["tokenizer.ggml.tokens"]) == 151_680
    assert len(merges) == 151_387
    assert sum(merge.startswith("#") for merge in merges) == 96
    assert metadata["tokenizer.ggml.tokens"][-7:] == [f"[PAD{id}]" for id in range(151_673, 151_680)]


def test_every_stage_code_and_token_is_the_references(checked: Check, expected: Activations) -> None:
    comparison = checked.comparison
    assert comparison is not None
    assert comparison.passed, comparison.reasons
    assert comparison.prompt_equal
    assert comparison.vocabulary_equal
    assert min(stage.cos_min for stage in comparison.stages) >= 0.9999
    assert comparison.code_agreement >= (0.999 if checked.audio_tokenizer.type == "f32" else 0.995)
    np.testing.assert_array_equal(checked.run.stages["greedy_ids"], expected.stages["greedy_ids"])
    assert len(expected.stages["greedy_ids"]) == N_TOKENS


def test_both_layouts_give_the_same_logits(
    lm: Checkpoint, tokenizer_checkpoint: Checkpoint, tmp_path: Path, jfk: Clip
) -> None:
    logits = []
    for fuse_qkv in (False, True):
        out = tmp_path / str(fuse_qkv)
        requests = [make_request(c, [TYPES["f16"]], Options(fuse_qkv)) for c in (lm, tokenizer_checkpoint)]
        paths = [out / plan.file_name for plan in convert(requests, out, threads=2)]
        result = check_files(*paths, jfk, None, 1)
        logits.append(result.run.stages[FIRST_LOGITS])
    np.testing.assert_array_equal(*logits)
