"""Clips longer than a minute, as models that speak encode them, beside the batch that upstream makes of segments."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_tokenizer import front_end, layout, reference
from mimo_families.mimo_tokenizer.front_end import SEGMENT_FRAMES, segments
from mimo_families.mimo_tokenizer.harness import AudioTokenizer
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample
from runtime_check.ggml.graph import Backend
from runtime_check.pytorch.layers import attend
from runtime_check.pytorch.weights import CheckpointWeights
from tests.opened import model_file
from tests.runtime_check.conftest import Converter

SHORT = 48  # mel frames of a segment here


@given(n=st.integers(1, 50 * SEGMENT_FRAMES))
def test_segments_cover_a_clip_and_only_a_shorter_last_one_beside_others_is_padded(n: int) -> None:
    parts = list(segments(n))
    assert [part.begin for part in parts] == list(range(0, n, SEGMENT_FRAMES))
    assert [part.end for part in parts] == [*(part.begin for part in parts[1:]), n]
    alone = (len(parts) - 1) % 42 == 0  # in its batch
    padded = [part.padded for part in parts]
    assert padded == [False] * (len(parts) - 1) + [n % SEGMENT_FRAMES > 0 and not alone]


@pytest.mark.parametrize("rest", [1, 2, 3, 5, 6, 7, 48])
def test_a_shorter_last_segment_is_that_of_upstreams_batch(
    converted: Converter, tokenizer_checkpoint: Checkpoint, jfk: Clip, monkeypatch: pytest.MonkeyPatch, rest: int
) -> None:
    monkeypatch.setattr(front_end, "SEGMENT_FRAMES", SHORT)
    d, w = layout.dimensions(tokenizer_checkpoint.config), CheckpointWeights(tokenizer_checkpoint, torch.float32)
    wave = resample(jfk.wave, jfk.rate, 24_000)[: (SHORT + rest - 1) * 240]
    mel = reference.log_mel(torch.from_numpy(wave), d)
    assert len(mel) == SHORT + rest
    expected = upstream(mel, w, d)
    theirs = reference.encode_segments(torch.from_numpy(wave), w, d, 8)
    ours = AudioTokenizer(model_file(converted("f32")[1]), Backend(1)).encode_segments(wave, 8)
    for stages in (theirs, ours):
        np.testing.assert_allclose(np.exp(np.asarray(stages["tok_mel"])), mel.exp().numpy(), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(stages["tok_pool"], expected, atol=2e-3)
        assert stages["tok_conv1"].shape == (SHORT + rest, d.d_model)
        assert stages["tok_codes"].shape == (len(expected), 8)
    assert (ours["tok_codes"] == theirs["tok_codes"].numpy()).mean() > 0.99


def upstream(mel: Any, w: Any, d: Any) -> Any:
    """A batch of two segments, the second one padded: zeros before the first convolution, a mask in attention, and the
    last state once more before the pooling. The states of both, end to end."""
    lengths = [SHORT, len(mel) - SHORT]
    batch = torch.stack([mel[:SHORT], F.pad(mel[SHORT:], (0, 0, 0, SHORT - lengths[1]))]).transpose(1, 2)
    x = F.gelu(F.conv1d(batch, w("encoder.conv1.weight"), w("encoder.conv1.bias"), padding=1))
    x = F.gelu(F.conv1d(x, w("encoder.conv2.weight"), w("encoder.conv2.bias"), stride=2, padding=1)).transpose(1, 2)
    states = torch.tensor([-(-length // 2) for length in lengths])
    mask = torch.zeros(2, 1, 1, x.shape[1])
    mask.masked_fill_((torch.arange(x.shape[1]) >= states[:, None])[:, None, None], -torch.inf)
    for i in range(d.encoder_layers):
        x = reference.block(
            x, w, f"encoder.layers.{i}.", d.encoder_heads, d.rope_theta, torch.arange(x.shape[1]),
            lambda q, k, v: attend(q, k, v, mask),
        )  # fmt: skip
        if i == d.skip_layer_id - 1:
            skip = x
    x = F.layer_norm(x + skip, (d.d_model,), w("encoder.layer_norm.weight"), w("encoder.layer_norm.bias"))
    kernel, pooled = w("encoder.down_sample_layer.0.weight"), []
    for one, n in zip(x, states, strict=True):
        even = torch.cat([one[:n], one[n - 1 : n]])[: n + n % 2]
        y = F.gelu(F.conv1d(even.T[None], kernel, stride=2))[0].T
        norm = w("encoder.down_sample_norm.weight"), w("encoder.down_sample_norm.bias")
        pooled.append(F.layer_norm(y, (d.d_model,), *norm))
    return torch.cat(pooled)
