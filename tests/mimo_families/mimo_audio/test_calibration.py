"""The speech LM step by step: against its reference, float64 numpy, and the harness."""

import numpy as np
import pytest
import torch

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_families.mimo_audio.calibration import forward_of, open_forwards
from mimo_families.mimo_audio.layout import FAMILY, dimensions
from mimo_families.mimo_audio.prompt import build_prompt
from mimo_families.mimo_audio.reference import run
from mimo_families.mimo_audio.stages import INPUTS_EMBEDS, LAST_HIDDEN, ROLE, layer
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.calibrate.collect import Recorder, collect
from runtime_check.calibrate.tensors import Sized, by_tensor, matrices_of
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import GREEDY
from runtime_check.run.system import Task
from runtime_check.text.tokenizer import TextTokenizer
from tests.mimo_families.mimo_audio.speech import plain
from tests.mimo_families.mimo_audio.speech.speaking import write_speaking_lm
from tests.opened import open_pair, open_tiny, open_tiny_tokenizer
from tests.runtime_check.calibrate.plain import Watched
from tests.runtime_check.calibrate.steps import check_last_step
from tests.runtime_check.conftest import Converter
from tests.system.once import once

ENGLISH = Task(language="english")


def test_the_last_step_gives_the_logits_of_the_reference() -> None:
    checkpoints, clip = {ROLE: open_tiny(), TOKENIZER: open_tiny_tokenizer()}, read_clip(JFK)
    expected = run(checkpoints, clip, ENGLISH, None, "f32").stages
    check_last_step(open_forwards(checkpoints, ENGLISH), clip, expected)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(once(tmp_path_factory, "speaking-lm", write_speaking_lm)))


def test_sums_are_those_of_float64(small: Checkpoint) -> None:
    """Of two clips and every matrix; those of text groups are not in the sums of the local blocks."""
    d, config = dimensions(small.config), small.config.values
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(small, d.vocab_size, FAMILY.text)
    rng, forwards, groups = np.random.default_rng(0), [], []
    for n, response in ((9, [7, 300, 41, 9]), (30, [5, 6])):
        codes = np.stack([rng.integers(0, size, n) for size in d.speech_zeroemb], axis=1)
        prompt = build_prompt(codes.astype(np.int32), text.encode, d)
        forwards.append(forward_of(prompt, response, text, d))
        own = [(int(token), ids.T) for token, ids in zip(prompt[0, ::4], np.split(prompt[1:], len(prompt[0]) // 4, 1),
                                                         strict=True)]  # fmt: skip
        groups.append((own, response))
    weights = Watched(
        {name: tensor.read_float32(0, None).reshape(tensor.shape).astype(np.float64)
         for name, tensor in small.tensors.items()}
    )  # fmt: skip
    for own, response in groups:
        empty = text.encode("<|empty|>")[0]
        whole = [*own, *((token, own[0][1]) for token in response[:-1])]
        x = np.stack([plain.embedding(group, weights, config, empty, d.speech_zeroemb) for group in whole])
        for i in range(d.num_layers):
            x = plain.block(
                x, weights, f"model.layers.{i}.", (d.num_heads, d.num_kv_heads, d.head_dim), d.rope_theta, True
            )
        plain.rms(x[len(own) - 1 :], weights["model.norm.weight"]) @ weights["lm_head.weight"].T
    states = [forward.start for forward in forwards]
    recorder = Recorder(CheckpointWeights(small, torch.float32), {})
    collect(forwards, recorder, states, 0, lambda *_: None)
    found = recorder.sums
    assert found.keys() == weights.seen.keys()
    for name, seen in weights.seen.items():
        assert found[name].count == seen.count, name
        np.testing.assert_allclose(found[name].squares, seen.squares, rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(found[name].sums, seen.sums, atol=1e-4 * np.sqrt(seen.squares.max()), err_msg=name)
    named = by_tensor([Sized(FAMILY, d)], found)
    assert named["model.layers.1.attn.qkv.weight"] is named["model.layers.1.attn.q.weight"]
    q, v = (named[f"model.layers.1.attn.{name}.weight"].squares for name in "qv")
    np.testing.assert_array_equal(q, v)
    not_reached = set(matrices_of(Sized(FAMILY, d))) - named.keys()
    assert all(name.startswith(("llm.blk.", "llm.codebook_head.", "audio.hidden_proj")) for name in not_reached)


def test_sums_agree_with_what_an_f16_file_computes(
    converted: Converter, lm_checkpoint: Checkpoint, tokenizer_checkpoint: Checkpoint
) -> None:
    """Of the prompt alone: what each block's first matrices are multiplied with follows from its input."""
    model = open_forwards({ROLE: lm_checkpoint, TOKENIZER: tokenizer_checkpoint}, ENGLISH)
    lm, tokenizer = converted("f16")
    ours = open_pair(lm, tokenizer).run(read_clip(JFK), ENGLISH._replace(max_new_tokens=1), keep_stages=True)
    stages = ours.stages
    forward = model.forward_of(torch.from_numpy(stages[CODES]), stages[GREEDY].tolist())
    recorder = Recorder(model.weights, {})
    collect([forward], recorder, [forward.start], 0, lambda *_: None)
    found = recorder.sums
    inputs = [stages[INPUTS_EMBEDS], *(stages[layer(i)] for i in range(model.d.num_layers - 1))]
    for i, x in enumerate(inputs):
        norm = model.weights(f"model.layers.{i}.input_layernorm.weight").numpy()
        expected = (plain.rms(x.astype(np.float64), norm) ** 2).mean(0)
        of = found[f"model.layers.{i}.self_attn.k_proj.weight"]
        assert of.count == len(x)
        assert cosine(of.squares / of.count, expected) >= 0.999
    head = found["lm_head.weight"]
    assert head.count == 1
    assert cosine(head.squares, stages[LAST_HIDDEN].astype(np.float64) ** 2) >= 0.999


def cosine(a: plain.Array, b: plain.Array) -> float:
    assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=0.01)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
