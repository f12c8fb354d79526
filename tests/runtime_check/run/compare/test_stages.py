"""Two runs compared, stage by stage: what passes, what fails, and how it is told."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.mimo_audio.stages import FIRST_LOGITS, ROLE, STAGES
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER_ROLE
from quantize.types import TYPES
from runtime_check.gate import CACHED, LAYER, STEPS, TRANSCRIPT, VOCABULARY
from runtime_check.run.activations import Stages
from runtime_check.run.compare.measures import cosines
from runtime_check.run.compare.stages import Comparison, Texts, compare, compare_codes
from runtime_check.run.compare.thresholds import COLUMNS, EXACT, FLOAT32, THRESHOLDS
from runtime_check.run.stages import stage_named

RESPONSE_STAGES = ("greedy_ids", "answer_ids", "answer_logits", "cached_logits")
TEXTS = Texts(ROLE, ("a", "a"), ("And so", "And so"), ["And", " so", "<|im_end|>"])


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


def compared(
    ours: Stages, lm: str = "f16", tokenizer: str = "f16", texts: Texts | None = TEXTS, dtype: str = "f32"
) -> Comparison:
    """These stages beside those of the reference, in files of these types."""
    return compare(STAGES, ours, stages(), {ROLE: lm, TOKENIZER_ROLE: tokenizer}, texts, dtype)


def reasons(result: Comparison) -> list[str]:
    return [f"{gate.stage}: {line}" for gate in result.gates for line in gate.problems]


def test_a_run_equals_itself_in_every_type() -> None:
    for outtype in TYPES:
        result = compared(stages(), outtype, outtype)
        assert result.passed
        assert reasons(result) == []
        names = [name for name in stages() if name not in ("prompt_ids", *RESPONSE_STAGES)]
        assert [stage.name for stage in result.stages] == names
        for stage in result.stages:
            if stage.name == CODES:
                assert (stage.agreement, stage.cos_min, stage.rel_rmse) == (1, None, None)
            else:
                assert stage.cos_min == pytest.approx(1)
                assert (stage.rel_rmse, stage.agreement) == (0, None)
        assert result.steps is not None
        assert (result.steps.top1_agreement, result.steps.kl_max, result.steps.cached_kl_max) == (1, 0, 0)
        assert [step.text for step in result.steps.steps] == TEXTS.tokens


def test_gates_are_in_the_order_of_the_run_each_with_the_role_of_its_file() -> None:
    gates = compared(stages()).gates
    assert list(dict.fromkeys(gate.stage for gate in gates)) == [
        "tok_mel", "tok_pool", CODES, VOCABULARY, "prompt_ids", "prefill_audio_features", "prefill_text_embeds",
        "prefill_inputs_embeds", "layer_00", "prefill_last_hidden", FIRST_LOGITS, STEPS, CACHED, TRANSCRIPT,
    ]  # fmt: skip
    assert {gate.role for gate in gates[:7]} == {TOKENIZER_ROLE}
    assert {gate.role for gate in gates[7:]} == {ROLE}
    metrics = [gate.metric for gate in gates if gate.stage == FIRST_LOGITS]
    assert metrics == ["cos_mean", "cos_min", "norm_ratio", "top1"]


def test_the_order_of_the_run_is_that_of_the_systems_stages() -> None:
    backwards = dict(reversed(stages().items()))
    assert compare(STAGES, backwards, stages(), {ROLE: "f16", TOKENIZER_ROLE: "f16"}, TEXTS) == compared(stages())


def test_a_system_without_a_text_model_has_neither_vocabulary_nor_steps() -> None:
    ours = {name: x for name, x in stages().items() if name.startswith("tok_")}
    result = compared(ours, texts=None)
    assert result.passed
    assert result.steps is None
    assert {gate.role for gate in result.gates} == {TOKENIZER_ROLE}
    assert [stage.name for stage in result.stages] == ["tok_mel", "tok_pool", CODES]


def test_only_speech_is_compared_of_audio_and_only_text_of_text() -> None:
    found = {stage.name: stage.compared for stage in compared(stages()).stages}
    assert found["prefill_audio_features"] == 3
    assert found["prefill_text_embeds"] == 3
    assert found["prefill_inputs_embeds"] == 6
    assert found["prefill_last_hidden"] == 1


CHANGES: list[tuple[str, Callable[..., Any], str]] = [
    ("tok_pool", lambda x: np.concatenate([-x[:1], x[1:]]),
     r"tok_pool: cos_mean 0\.6\d*, expected at least 0\.999000"),
    ("tok_pool", lambda x: np.concatenate([-x[:1], x[1:]]), r"tok_pool: cos_min -1\.0+, expected at least 0\.999000"),
    ("layer_00", lambda x: x + np.nan, "layer_00: holds NaN or infinity"),
    ("layer_00", lambda x: x * 1.1, r"layer_00: norm_ratio 1\.1000, expected 0\.9505 to 1\.0521"),
    ("layer_00", lambda x: x / 1.1, r"layer_00: norm_ratio 0\.9091, expected 0\.9505 to"),
    ("answer_logits", lambda x: x[:, :40], r"steps: shape \(3, 40\), expected \(3, 50\)"),
    ("layer_00", lambda x: x[:-1], r"layer_00: shape \(5, 8\), expected \(6, 8\)"),
    ("prefill_audio_features", lambda x: 0 * x, "prefill_audio_features: cos_mean 0.000000, expected at least 0.999"),
    ("prefill_text_embeds", lambda x: x + 1, "prefill_text_embeds: cos_mean"),
    ("prompt_ids", lambda x: x + (np.arange(24) == 7) * (np.arange(9) == 3)[:, None],
     r"prompt_ids: id at \(3, 7\) is \d+, expected \d+"),
    ("prompt_ids", lambda x: x[:, :-4], r"prompt_ids: shape \(9, 20\), expected \(9, 24\)"),
    ("tok_codes", lambda x: x + (np.arange(5) == 0)[:, None],
     "tok_codes: agreement 80.00%, expected at least 99.50% of equal codes"),
    ("tok_codes", lambda x: x[:-1], "tok_codes: agreement 0.00%"),
    ("prefill_text_logits_step0", lambda x: -x, r"prefill_text_logits_step0: top-1 token \d+, expected \d+"),
    ("answer_logits", lambda x: -x, r"steps: top1_agreement 0\.0%, expected at least 95\.0%, over 3 steps"),
    ("answer_logits", lambda x: x * 2,
     r"steps: kl_mean [\d.]+, expected at most 0\.001 nats a step; the largest is [\d.]+, at step \d"),
    ("cached_logits", lambda x: x + (np.arange(50) == 7), r"cached: rel_rmse [\d.]+, expected at most 0\.003"),
    ("cached_logits", lambda x: x * np.nan, "cached: rel_rmse nan, expected at most"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "change", "reason"), CHANGES)
def test_what_differs_is_named_with_how_far(stage: str, change: Callable[..., Any], reason: str) -> None:
    ours = stages()
    ours[stage] = change(ours[stage])
    result = compared(ours)
    assert not result.passed
    assert any(re.match(reason, why) for why in reasons(result)), reasons(result)


def test_a_stage_of_another_shape_is_as_far_off_as_can_be() -> None:
    ours = stages()
    ours["layer_00"] = ours["layer_00"][:-1]
    [found] = [stage for stage in compared(ours).stages if stage.name == "layer_00"]
    assert (found.shape, found.compared, found.cos_mean, found.rel_rmse) == ((6, 8), 0, 0, 1)


def test_another_vocabulary_fails_even_where_the_prompt_is_equal() -> None:
    result = compared(stages(), texts=TEXTS._replace(vocabularies=("a", "b")))
    assert reasons(result) == ["vocabulary: tokens or merges differ, expected the reference's"]


def test_another_spelling_of_the_same_response_fails() -> None:
    result = compared(stages(), texts=TEXTS._replace(transcripts=("And so", "And sew")))
    assert reasons(result) == ["transcript: the reference's response spells 'And so', expected 'And sew'"]


@pytest.mark.parametrize(("outtype", "passed"), [("q4_k", False), ("q3_k", True), ("q2_k", True)])
def test_the_lowest_types_may_begin_with_another_token(outtype: str, passed: bool) -> None:
    ours = stages()
    first = ours[FIRST_LOGITS]
    order = np.argsort(first)
    first[order[-2:]] = first[order[-2:][::-1]]
    [gate] = [gate for gate in compared(ours, outtype).gates if gate.metric == "top1"]
    assert (gate.value, gate.passed) == (0, passed)
    assert gate.text == f"top-1 token {order[-2]}, expected {order[-1]}"


def flipped(codes: Any) -> Any:
    """Codes of which 1 in 40 is another."""
    return np.where(np.arange(40).reshape(5, 8) == 7, codes + 1, codes)


def test_beside_a_bfloat16_reference_a_few_codes_of_an_exact_file_may_flip() -> None:
    ours = stages()
    ours[CODES] = flipped(ours[CODES])
    assert not compared(ours, dtype="f32").passed
    assert compared(ours, dtype="bf16").passed
    ours[CODES] = stages()[CODES] + 1
    assert not compared(ours, dtype="bf16").passed


def test_the_lowest_type_of_the_tensors_that_compute_it_judges_a_stage() -> None:
    """Of a file whose encoder is of another type than its matrices."""
    ours, noise = stages(), np.random.default_rng(1).standard_normal((6, 8))
    ours["layer_00"] = ours["layer_00"] + 0.1 * noise
    declared = [stage._replace(weights=("encoder", "matrix") if stage.name == "layer_" else ()) for stage in STAGES]

    def passes(**role_types: str) -> bool:
        files = {ROLE: "f16", TOKENIZER_ROLE: "f16"}
        return compare(declared, ours, stages(), files, TEXTS, "f32", role_types).passed

    assert not passes(encoder="q8_0", matrix="f16")
    assert passes(encoder="q8_0", matrix="q4_k")
    assert passes(encoder="q4_k", matrix="f16")


def test_what_both_sides_compute_in_float32_is_equal_but_for_the_order_of_sums() -> None:
    """Of an F32 file, beside a reference in float32."""
    ours, declared = (
        stages(),
        [stage._replace(threshold=FLOAT32) if stage.name == "tok_mel" else stage for stage in STAGES],
    )
    ours["tok_mel"] = ours["tok_mel"] * (1 + 4e-4 * np.random.default_rng(2).standard_normal((20, 4)))

    def found(tokenizer: str, dtype: str = "f32") -> list[str]:
        return reasons(compare(declared, ours, stages(), {ROLE: "f16", TOKENIZER_ROLE: tokenizer}, TEXTS, dtype))

    [reason] = found("f32")
    assert re.fullmatch(r"tok_mel: rel_rmse 0\.000\d+, expected at most 0\.0001", reason)
    assert found("f16") == found("f32", "bf16") == []


def test_the_type_of_its_own_file_judges_each_stage() -> None:
    ours = stages()
    ours[CODES] = flipped(ours[CODES])
    assert not compared(ours, "q2_k", "f16").passed
    assert compared(ours, "f16", "q2_k").passed


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
    codes, stage = np.arange(40).reshape(5, 8), stage_named(STAGES, CODES)
    assert stage is not None
    for ours, agreement in ((codes, 1), (np.where(codes < 4, -1, codes), 0.9), (codes[:-1], 0)):
        result, [gate] = compare_codes(stage, CODES, ours, codes, 0.5)
        assert result.agreement == gate.value == agreement
        assert (result.shape, result.compared, gate.passed) == ((5, 8), 40, agreement > 0.5)


def test_every_type_has_thresholds_and_more_bits_never_a_weaker_one() -> None:
    assert set(THRESHOLDS) == set(TYPES)
    for column in (EXACT, "encoder", "layers", "logits"):
        for finer, coarser in (
            ("f16", "q8_0"),
            ("q8_0", "q6_k"),
            ("q6_k", "q5_k"),
            ("q5_k", "q4_k"),
            ("q4_k", "q3_k"),
            ("q3_k", "q2_k"),
        ):
            a, b = THRESHOLDS[finer], THRESHOLDS[coarser]
            assert a.columns[column].cos_mean >= b.columns[column].cos_mean, (column, finer, coarser)
            assert a.columns[column].cos_min >= b.columns[column].cos_min, (column, finer, coarser)
            assert a.codes >= b.codes
            assert a.steps.top1 >= b.steps.top1
            assert a.steps.kl_mean <= b.steps.kl_mean
    for exact in ("f32", "f16", "bf16"):
        assert {THRESHOLDS[exact].columns[column] for column in (EXACT, *COLUMNS)} == {(0.999, 0.999, None)}


@pytest.mark.parametrize(("wrong", "passes"), [(1, True), (2, True), (4, False)])
def test_by_the_median_few_wrong_positions_do_not_count(wrong: int, passes: bool) -> None:
    """Of six positions; by mean and worst, the first wrong one fails."""
    ours, theirs = stages(), stages()
    ours["layer_00"][:wrong] *= np.array([1, -1] * 4)
    layers = [one._replace(by_median=one.kind == LAYER) for one in STAGES]
    found = {
        by: compare(of, ours, theirs, {ROLE: "q8_0", TOKENIZER_ROLE: "q8_0"}, TEXTS)
        for by, of in (("median", layers), ("mean", STAGES))
    }
    failed = {by: {gate.stage for gate in one.gates if not gate.passed} for by, one in found.items()}
    assert failed == {"median": set() if passes else {"layer_00"}, "mean": {"layer_00"}}
