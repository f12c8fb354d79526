import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.types import TYPES
from runtime_check.activations import Stages
from runtime_check.compare import code_agreement, compare
from runtime_check.gates import GATES
from runtime_check.measures import cosines

ANSWER_STAGES = ("answer_ids", "answer_logits", "cached_logits")


def stages(seed: int = 0) -> Stages:
    """Stages of a model with one layer; half of the prompt's groups are speech."""
    rng = np.random.default_rng(seed)
    speech = np.arange(6) % 2 == 0
    audio, text = (rng.standard_normal((6, 8)) * side[:, None] for side in (speech, ~speech))
    return {
        "tok_mel": rng.standard_normal((20, 4)),
        "tok_pool": rng.standard_normal((5, 4)),
        "tok_codes": rng.integers(0, 128, (5, 8)),
        "prompt_ids": rng.integers(0, 100, (9, 24)),
        "prefill_audio_features": audio,
        "prefill_text_embeds": text,
        "prefill_inputs_embeds": audio + text,
        "layer_00": rng.standard_normal((6, 8)),
        "prefill_last_hidden": rng.standard_normal(8),
        "prefill_text_logits_step0": rng.standard_normal(50),
        "greedy_ids": np.array([1]),
        "answer_ids": np.array([1, 2, 3]),
        "answer_logits": (logits := rng.standard_normal((3, 50)).astype(np.float32)),
        "cached_logits": logits,
    }


def test_a_run_equals_itself_in_every_type() -> None:
    for outtype in TYPES:
        result = compare(stages(), stages(), outtype, outtype)
        assert result.passed
        assert result.reasons == []
        assert [stage.name for stage in result.stages] == [
            name for name in stages() if name not in ("tok_codes", "prompt_ids", "greedy_ids", *ANSWER_STAGES)
        ]
        assert all(stage.cos_min == pytest.approx(1) for stage in result.stages)
        assert all(stage.rel_rmse == 0 for stage in result.stages)
        assert result.steps is not None
        assert (result.steps.top1_agreement, result.steps.kl_max, result.steps.cached_kl_max) == (1, 0, 0)


def test_only_speech_is_compared_of_audio_and_only_text_of_text() -> None:
    compared = {stage.name: stage.compared for stage in compare(stages(), stages(), "f16", "f16").stages}
    assert compared["prefill_audio_features"] == 3
    assert compared["prefill_text_embeds"] == 3
    assert compared["prefill_inputs_embeds"] == 6
    assert compared["prefill_last_hidden"] == 1


CHANGES: list[tuple[str, Callable[..., Any], str]] = [
    ("tok_pool", lambda x: np.concatenate([-x[:1], x[1:]]),
     r"tok_pool: cos_mean 0\.6\d* is below 0\.999 by 0\.399\d+, cos_min -1"),
    ("layer_00", lambda x: x + np.nan, "layer_00: holds NaN or infinity"),
    ("layer_00", lambda x: x * 1.1, r"layer_00: its norm is 1\.1000 times the reference's, at most 1\.0521 may be"),
    ("layer_00", lambda x: x / 1.1, r"layer_00: its norm is 0\.9091 times the reference's"),
    ("answer_logits", lambda x: x[:, :40], r"answer_logits: of shape \(3, 40\), the reference has \(3, 50\)"),
    ("layer_00", lambda x: x[:-1], r"layer_00: of shape \(5, 8\), the reference has \(6, 8\)"),
    ("prefill_audio_features", lambda x: 0 * x, "prefill_audio_features: cos_mean 0.000000 is below 0.999"),
    ("prefill_text_embeds", lambda x: x + 1, "prefill_text_embeds: cos_mean"),
    ("prompt_ids", lambda x: x + (np.arange(24) == 7) * (np.arange(9) == 3)[:, None],
     r"prompt_ids: channel 2 at position 7 is \d+, the reference's is \d+"),
    ("prompt_ids", lambda x: x[:, :-4], r"prompt_ids: shape \(9, 20\), the reference's is \(9, 24\)"),
    ("tok_codes", lambda x: x + (np.arange(5) == 0)[:, None],
     "tok_codes: 80.00% of the codes are equal, at least 99.50% must be"),
    ("tok_codes", lambda x: x[:-1], "tok_codes: 0.00% of the codes"),
    ("prefill_text_logits_step0", lambda x: -x, r"the first token is \d+, the reference's is \d+"),
    ("answer_logits", lambda x: -x, r"answer_logits: the likeliest token is the reference's at 0\.0% of 3 steps"),
    ("answer_logits", lambda x: x * 2, r"answer_logits: KL divergence [\d.]+ nats a step is above 0\.001; the worst"),
    ("cached_logits", lambda x: x + (np.arange(50) == 7), r"cached_logits: decoding with the KV cache .* RMSE"),
    ("cached_logits", lambda x: x * np.nan, "cached_logits: decoding with the KV cache differs"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "change", "reason"), CHANGES)
def test_what_differs_is_named_with_how_far(stage: str, change: Callable[..., Any], reason: str) -> None:
    ours = stages()
    ours[stage] = change(ours[stage])
    result = compare(ours, stages(), "f16", "f16")
    assert not result.passed
    assert any(re.search(reason, why) for why in result.reasons), result.reasons


def test_another_vocabulary_fails_even_where_the_prompt_is_equal() -> None:
    assert compare(stages(), stages(), "f16", "f16", vocabulary_equal=True).passed
    reasons = compare(stages(), stages(), "f16", "f16", vocabulary_equal=False).reasons
    assert reasons == ["vocabulary: its tokens or merges are not the reference's"]


def test_beside_a_bfloat16_reference_a_few_codes_of_an_exact_file_may_flip() -> None:
    ours = stages()
    ours["tok_codes"] = np.where(np.arange(40).reshape(5, 8) == 7, ours["tok_codes"] + 1, ours["tok_codes"])  # 97.5 %
    assert not compare(ours, stages(), "f16", "f16", reference_dtype="f32").passed
    assert compare(ours, stages(), "f16", "f16", reference_dtype="bf16").passed
    ours["tok_codes"] = stages()["tok_codes"] + 1
    assert not compare(ours, stages(), "f16", "f16", reference_dtype="bf16").passed


def test_the_tokenizers_own_type_judges_its_stages() -> None:
    ours = stages()
    ours["tok_codes"] = np.where(np.arange(40).reshape(5, 8) == 7, ours["tok_codes"] + 1, ours["tok_codes"])  # 97.5 %
    assert not compare(ours, stages(), "q2_k", "f16").passed
    assert compare(ours, stages(), "f16", "q2_k").passed


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_cosines_are_those_of_numpy_row_by_row(n: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, columns)).astype(np.float32)
    rows = [
        np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
        for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    np.testing.assert_allclose(cosines(a, b), rows, rtol=1e-9)


def test_a_row_that_is_zero_on_one_side_alone_has_cosine_zero() -> None:
    a, b = np.array([[1.0, 2], [0, 0], [0, 0]]), np.array([[1.0, 2], [3, 4], [0, 0]])
    np.testing.assert_allclose(cosines(a, b), [1, 0])


def test_code_agreement_is_a_share() -> None:
    codes = np.arange(40).reshape(5, 8)
    assert code_agreement(codes, codes) == 1
    assert code_agreement(codes, np.where(codes < 4, -1, codes)) == 0.9


def test_every_type_has_gates_and_more_bits_never_a_weaker_one() -> None:
    assert set(GATES) == set(TYPES)
    for stage in ("tok_mel", "tok_conv2", "tok_xfmr", "tok_pool", "layer_17", "prefill_text_logits_step0"):
        for finer, coarser in (
            ("f16", "q8_0"),
            ("q8_0", "q6_k"),
            ("q6_k", "q5_k"),
            ("q5_k", "q4_k"),
            ("q4_k", "q3_k"),
            ("q3_k", "q2_k"),
        ):
            a, b = GATES[finer].of(stage), GATES[coarser].of(stage)
            assert a.cos_mean >= b.cos_mean, (stage, finer, coarser)
            assert a.cos_min >= b.cos_min, (stage, finer, coarser)
            assert GATES[finer].codes >= GATES[coarser].codes
            assert GATES[finer].steps.top1 >= GATES[coarser].steps.top1
            assert GATES[finer].steps.kl_mean <= GATES[coarser].steps.kl_mean
    for exact in ("f32", "f16", "bf16"):
        for stage in set(stages()) - {"tok_codes", "prompt_ids", "greedy_ids", *ANSWER_STAGES}:
            assert GATES[exact].of(stage) == (0.999, 0.999)
