"""Compare two runs of a system: the results of every stage, and gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quantize.types import TYPES
from runtime_check.gate import (
    CHOICES,
    CHOSEN,
    CODES,
    IDS,
    LOG_MEL,
    LOGITS,
    STEPS,
    TEXT,
    TRANSCRIPT,
    VOCABULARY,
    WAVE,
    Gate,
    Subject,
    at_least,
    at_most,
    may_differ,
    must_hold,
    reported,
    within_factor,
)

from ..activations import RESPONSE_LOGITS, Stages
from ..records import HeadResult, StageResult, Steps
from ..stages import Stage, in_order
from .heads import compare_head
from .measures import cosines, mean_difference, norm_ratio, norm_ratios, relative_rmse, snr_db
from .steps import compare_steps, step_gates
from .thresholds import OF_WAVE, THRESHOLDS, Thresholds, WaveThreshold, code_threshold

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """The compared stages, the decoding steps, heads of choices, and all gates in the order of the run."""

    stages: tuple[StageResult, ...]
    steps: Steps | None
    heads: tuple[HeadResult, ...]
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(gate.passed for gate in self.gates)


NO_ROLES: Mapping[str, str] = {}


class Texts(NamedTuple):
    """The text model's part of a comparison: the `role` of its file, the hashes of both vocabularies, the reference's
    response decoded by each, and the tokens of the forced response as text."""

    role: str
    vocabularies: tuple[str, str]
    transcripts: tuple[str, str]
    tokens: Sequence[str]


def compare(
    stages: Sequence[Stage],
    ours: Stages,
    theirs: Stages,
    types: Mapping[str, str],
    texts: Texts | None = None,
    reference_dtype: str = "",
    role_types: Mapping[str, str] = NO_ROLES,
) -> Comparison:
    """Compare our stages with the reference's, computed from the same codes.

    `types`, the type of each role's file, and `role_types`, those of tensors of a role, select rows of the threshold
    table. `theirs` has every stage of `ours`.
    `texts` is None for a system without a text model; `reference_dtype` is PyTorch's dtype, if it computed the
    reference.
    """
    results: list[StageResult] = []
    heads: list[HeadResult] = []
    gates: list[Gate] = []
    for name, stage in in_order(stages, ours):
        if texts and stage.role == texts.role and not any(gate.kind == VOCABULARY for gate in gates):
            gates.append(vocabulary_gate(texts))
        outtype = lowest([role_types[x] for x in stage.weights if x in role_types] or [types[stage.role]])
        thresholds = THRESHOLDS[outtype]
        stage = stage._replace(by_median=stage.by_median and TYPES[outtype].block > 1)
        pair = ours[name], theirs[name]
        if stage.kind == IDS:
            gates.append(ids_gate(stage.subject(name), *pair))
            continue
        if stage.kind == CHOSEN:
            gates.append(chosen_gate(stage.subject(name), *pair, must=thresholds.chooses_equally))
            continue
        if stage.kind == CHOICES:
            head, found = compare_head(stage.subject(name), *pair, thresholds.heads)
            heads += [head] if head else []
            gates += found
            continue
        if stage.kind == CODES:
            result, found = compare_codes(stage, name, *pair, least_equal(stage, types[stage.role], reference_dtype))
        else:
            result, found = compare_values(stage, name, *pair, thresholds, reference_dtype)
        results.append(result)
        gates += found
    steps = None
    if texts:
        steps, found = compare_responses(texts, ours, theirs, THRESHOLDS[types[texts.role]])
        gates += found
    return Comparison(tuple(results), steps, tuple(heads), tuple(gates))


def lowest(types: Sequence[str]) -> str:
    """The type with the fewest bits per weight."""
    return min(types, key=lambda name: TYPES[name].bits_per_weight)


def least_equal(stage: Stage, outtype: str, reference_dtype: str) -> float | None:
    """The least share of equal codes of a stage, of a clip or of a wave that was decoded; None: any."""
    if stage.threshold == OF_WAVE:
        return THRESHOLDS[outtype].wave.codes
    return code_threshold(outtype, reference_dtype)


def compare_codes(
    stage: Stage, name: str, ours: Array, theirs: Array, bound: float | None
) -> tuple[StageResult, list[Gate]]:
    """Compare a stage of codes by the share of equal ones; 0 if the shapes differ. It is only reported without a
    bound."""
    agreement = float((ours == theirs).mean()) if ours.shape == theirs.shape else 0.0
    result = StageResult(name, stage.role, stage.kind, theirs.shape, theirs.size, agreement=agreement)
    if bound is None:
        return result, [reported(stage.subject(name), "agreement", agreement, f"agreement {agreement:.2%}")]
    return result, [at_least(stage.subject(name), "agreement", agreement, bound, "{:.2%}", " of equal codes")]


def compare_values(
    stage: Stage, name: str, ours: Array, theirs: Array, thresholds: Thresholds, reference_dtype: str = ""
) -> tuple[StageResult, list[Gate]]:
    """Compare a stage of floats. It fails below its thresholds, for another shape, or if a side is not finite."""
    subject = stage.subject(name)
    cosine = None if stage.kind in (WAVE, LOG_MEL) else 0.0
    result = StageResult(name, stage.role, stage.kind, theirs.shape, 0, cosine, cosine, 1.0, cosine)
    if ours.shape != theirs.shape:
        return result, [must_hold(subject, "shape", False, f"shape {ours.shape}, expected {theirs.shape}")]
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return result, [must_hold(subject, "finite", False, "holds NaN or infinity, expected finite numbers")]
    if stage.kind in (WAVE, LOG_MEL):
        return compare_waves(stage, name, ours, theirs, thresholds.wave)
    cos = cosines(ours, theirs)
    mean, least = (float(cos.mean()), float(cos.min())) if len(cos) else (1.0, 1.0)
    ratio = norm_ratio(ours, theirs)
    result = StageResult(
        name, stage.role, stage.kind, theirs.shape, len(cos), mean, least, relative_rmse(ours, theirs), ratio
    )
    threshold = thresholds.columns[stage.threshold]
    if stage.by_median:
        ratio = median(norm_ratios(ours, theirs))
        gates = [at_least(subject, "cos_median", median(cos), threshold.cos_mean)]
    else:
        gates = [
            at_least(subject, "cos_mean", mean, threshold.cos_mean),
            at_least(subject, "cos_min", least, threshold.cos_min),
        ]
    gates.append(within_factor(subject, "norm_ratio", ratio, threshold.norm_ratio))  # which no cosine sees
    if threshold.rel_rmse is not None and reference_dtype == "f32":
        gates.append(at_most(subject, "rel_rmse", relative_rmse(ours, theirs), threshold.rel_rmse, "{:.2g}"))
    return result, gates + ([top1_gate(subject, ours, theirs, thresholds)] if stage.kind == LOGITS else [])


def median(values: npt.NDArray[np.float64]) -> float:
    """The median; 1 of no values."""
    return float(np.median(values)) if len(values) else 1.0


def compare_waves(
    stage: Stage, name: str, ours: Array, theirs: Array, threshold: WaveThreshold
) -> tuple[StageResult, list[Gate]]:
    """Compare a wave, (samples,), by its signal-to-noise ratio, or its log-mel, (frames, mel bins), by the mean
    difference."""
    subject = stage.subject(name)
    if stage.kind == LOG_MEL:
        difference = mean_difference(ours, theirs)
        result = StageResult(name, stage.role, stage.kind, theirs.shape, len(theirs), log_mel=difference)
        return result, [at_most(subject, "log_mel", difference, threshold.log_mel, "{:.2g}", " in the mean")]
    ratio = snr_db(ours, theirs)
    result = StageResult(
        name, stage.role, stage.kind, theirs.shape, len(theirs), rel_rmse=relative_rmse(ours, theirs), snr_db=ratio
    )
    if threshold.snr is None:
        return result, [reported(subject, "snr_db", ratio, f"snr_db {ratio:.1f}")]
    return result, [at_least(subject, "snr_db", ratio, threshold.snr, "{:.1f}")]


def top1_gate(subject: Subject, ours: Array, theirs: Array, thresholds: Thresholds) -> Gate:
    """Gate on the top-1 token of logits (vocab_size,); for the lowest types it may differ."""
    found, expected = int(ours.argmax()), int(theirs.argmax())
    make = must_hold if thresholds.first_token else may_differ
    return make(subject, "top1", found == expected, f"top-1 token {found}, expected {expected}")


def vocabulary_gate(texts: Texts) -> Gate:
    """Gate on equal tokens and merges."""
    equal = texts.vocabularies[0] == texts.vocabularies[1]
    text = "tokens and merges are the reference's" if equal else "tokens or merges differ, expected the reference's"
    return must_hold(Subject(texts.role, VOCABULARY, VOCABULARY), "equal", equal, text)


def ids_gate(subject: Subject, ours: Array, theirs: Array) -> Gate:
    """Gate on equal ids, (rows, positions); the text names the first difference."""
    if ours.shape != theirs.shape:
        return must_hold(subject, "equal", False, f"shape {ours.shape}, expected {theirs.shape}")
    different = np.argwhere(ours != theirs)
    if not len(different):
        return must_hold(subject, "equal", True, "every id is the reference's")
    place = tuple(different[0])
    where = ", ".join(map(str, place))
    return must_hold(subject, "equal", False, f"id at ({where}) is {ours[place]}, expected {theirs[place]}")


def chosen_gate(subject: Subject, ours: Array, theirs: Array, *, must: bool) -> Gate:
    """Gate on equal ids that both chose; their share is only reported unless they `must` be equal."""
    gate = ids_gate(subject, ours, theirs)
    if must or gate.passed:
        return gate
    share = f"; {(ours == theirs).mean():.1%} are equal" if ours.shape == theirs.shape else ""
    return may_differ(subject, gate.metric, False, gate.text + share)


def compare_responses(
    texts: Texts, ours: Stages, theirs: Stages, thresholds: Thresholds
) -> tuple[Steps | None, list[Gate]]:
    """Compare the decoding steps (None if the shapes differ) and the response as decoded by both vocabularies."""
    found, expected = ours[RESPONSE_LOGITS].shape, theirs[RESPONSE_LOGITS].shape
    if found == expected:
        steps = compare_steps(ours, theirs, texts.tokens)
        gates = list(step_gates(steps, thresholds.steps, texts.role))
    else:
        steps = None
        gates = [must_hold(Subject(texts.role, STEPS, LOGITS), "shape", False, f"shape {found}, expected {expected}")]
    spelled, meant = texts.transcripts
    text = f"the reference's response spells {spelled!r}, expected {meant!r}"
    return steps, [*gates, must_hold(Subject(texts.role, TRANSCRIPT, TEXT), "equal", spelled == meant, text)]
