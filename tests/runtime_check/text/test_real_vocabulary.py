"""The whole line at the real vocabulary's size, whose numbers published files got wrong."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.formats.gguf import read_gguf
from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.stages import FIRST_LOGITS, ROLE
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import Activations
from runtime_check.run.check import Checked
from runtime_check.run.system import Task
from tests.opened import check_pair, make_request, options_of
from tests.synthetic import REAL_VOCAB_SIZE, write_speech_lm
from tests.system.once import once

N_TOKENS = 8


Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    def make(folder: Path) -> None:
        write_speech_lm(folder / "lm", vocab_size=REAL_VOCAB_SIZE)

    return open_checkpoint(str(once(tmp_path_factory, "real", make) / "lm"))


@pytest.fixture(scope="session")
def expected(
    lm: Checkpoint, tokenizer_checkpoint: Checkpoint, jfk: Clip, tmp_path_factory: pytest.TempPathFactory
) -> Activations:
    def make(folder: Path) -> None:
        task = Task(language="english", max_new_tokens=N_TOKENS)
        checkpoints = {ROLE: lm, TOKENIZER: tokenizer_checkpoint}
        found = reference.run(checkpoints, replace(jfk, text=None), task, None, "f32")
        (folder / "activations").write_bytes(pickle.dumps(found))

    made: Activations = pickle.loads((once(tmp_path_factory, "real-reference", make) / "activations").read_bytes())
    return made


@pytest.fixture(scope="session")
def pair(
    lm: Checkpoint, tokenizer_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, bool], Pair]:
    """An F16 speech LM with an audio tokenizer of the given type."""

    def files(tokenizer_type: str, fuse_qkv: bool) -> Pair:
        def make(out: Path) -> None:
            requests = [
                make_request(lm, [TYPES["f16"]], options_of(fuse_qkv)),
                make_request(tokenizer_checkpoint, [TYPES[tokenizer_type]], options_of(fuse_qkv)),
            ]
            convert(requests, out, threads=2)

        out = once(tmp_path_factory, f"real-{tokenizer_type}-{'fused' if fuse_qkv else 'separate'}", make)
        return out / "mimo-asr-f16.gguf", out / f"mimo-tokenizer-{tokenizer_type}.gguf"

    return files


@pytest.fixture(scope="session")
def run(pair: Callable[[str, bool], Pair], jfk: Clip, expected: Activations) -> Callable[[str, bool], Checked]:
    """The pair, run on JFK."""
    return cache(lambda tokenizer_type, fuse_qkv: check_pair(*pair(tokenizer_type, fuse_qkv), jfk, expected, N_TOKENS))


@pytest.fixture(params=[("f16", False), ("f16", True), ("f32", False)], ids=["f16", "fused", "f32"])
def checked(run: Callable[[str, bool], Checked], request: pytest.FixtureRequest) -> Checked:
    return run(*request.param)


def test_the_file_holds_every_token_and_merge(checked: Checked) -> None:
    metadata = read_gguf(Path(checked.check.main.file)).metadata
    merges = metadata["tokenizer.ggml.merges"]
    assert len(metadata["tokenizer.ggml.tokens"]) == 151_680
    assert len(merges) == 151_387
    assert sum(merge.startswith("#") for merge in merges) == 96
    assert metadata["tokenizer.ggml.tokens"][-7:] == [f"[PAD{id}]" for id in range(151_673, 151_680)]


def test_every_stage_code_and_token_is_the_references(checked: Checked, expected: Activations) -> None:
    check = checked.check
    assert check.passed, [gate for gate in check.gates if not gate.passed]
    assert {"prompt_ids", "vocabulary"} <= {gate.stage for gate in check.gates if gate.metric == "equal"}
    assert min(stage.cos_min for stage in check.stages if stage.cos_min is not None) >= 0.9999
    [codes] = [stage.agreement for stage in check.stages if stage.name == CODES]
    assert codes is not None
    assert codes >= (0.999 if check.files[1].type == "f32" else 0.995)
    np.testing.assert_array_equal(checked.stages["greedy_ids"], expected.stages["greedy_ids"])
    assert len(expected.stages["greedy_ids"]) == N_TOKENS


def test_both_layouts_give_the_same_logits(run: Callable[[str, bool], Checked]) -> None:
    np.testing.assert_array_equal(*(run("f16", fused).stages[FIRST_LOGITS] for fused in (False, True)))
