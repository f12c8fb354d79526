import numpy as np
import pytest

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_tokenizer.harness import AudioTokenizer
from mimo_families.mimo_tokenizer.round_trip import reference
from mimo_families.mimo_tokenizer.stages import ROLE
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample
from runtime_check.ggml.graph import Backend
from runtime_check.run.compare.measures import cosines
from runtime_check.run.system import Task
from tests.opened import model_file
from tests.runtime_check.conftest import Converter


@pytest.mark.parametrize(("outtype", "least_agreement"), [("f32", 0.999), ("f16", 0.995), ("bf16", 0.995)])
def test_every_stage_equals_pytorch(
    converted: Converter, tokenizer_checkpoint: Checkpoint, jfk: Clip, outtype: str, least_agreement: float
) -> None:
    tokenizer = AudioTokenizer(model_file(converted(outtype)[1]), Backend(2))
    ours = tokenizer.encode(resample(jfk.wave, jfk.rate, 24_000), 8)
    theirs = reference.run({ROLE: tokenizer_checkpoint}, jfk, Task(), None, "f32").stages
    assert set(ours) == set(theirs)
    for name, stage in theirs.items():
        assert ours[name].shape == stage.shape, name
        if name != "tok_codes":
            assert cosines(ours[name], stage).min() >= 0.9999, name
    assert (ours["tok_codes"] == theirs["tok_codes"]).mean() >= least_agreement


def test_a_code_is_the_nearest_row_of_what_the_levels_before_left(
    converted: Converter, tokenizer_checkpoint: Checkpoint, jfk: Clip
) -> None:
    tokenizer = AudioTokenizer(model_file(converted("f32")[1]), Backend(2))
    stages = tokenizer.encode(resample(jfk.wave, jfk.rate, 24_000)[:48_000], 20)
    rest = stages["tok_pool"].astype(np.float64)
    for level in range(20):
        info = tokenizer_checkpoint.tensors[f"encoder.quantizer.vq.layers.{level}._codebook.embed"]
        rows = (info.read().view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        distances = ((rest[:, None] - rows[None]) ** 2).sum(-1)
        chosen = distances[np.arange(len(rest)), stages["tok_codes"][:, level]]
        assert (chosen <= distances.min(axis=1) * (1 + 1e-5)).all()
        rest -= rows[stages["tok_codes"][:, level]]


def test_chunks_are_encoded_each_on_its_own(converted: Converter, jfk: Clip) -> None:
    tokenizer = AudioTokenizer(model_file(converted()[1]), Backend(2))
    wave = np.tile(resample(jfk.wave, jfk.rate, 24_000), 3)[:750_000]  # 31.25 s
    whole = tokenizer.encode(wave, 8)
    parts = [tokenizer.encode(part, 8) for part in (wave[:720_000], wave[720_000:])]
    assert len(whole["tok_codes"]) == 751 + 32
    for name, stage in whole.items():
        np.testing.assert_array_equal(stage, np.concatenate([part[name] for part in parts]), err_msg=name)


@pytest.mark.parametrize("samples", [1, 960, 961, 24_000, 24_239, 24_240])
def test_clips_of_every_length_have_the_references_shapes(
    converted: Converter, tokenizer_checkpoint: Checkpoint, jfk: Clip, samples: int
) -> None:
    clip = Clip(jfk.path, jfk.wave[:samples], 24_000, "")
    ours = AudioTokenizer(model_file(converted()[1]), Backend(1)).encode(clip.wave, 8)
    theirs = reference.run({ROLE: tokenizer_checkpoint}, clip, Task(), None, "f32").stages
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}
