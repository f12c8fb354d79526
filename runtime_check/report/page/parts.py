"""Parts of the page with logic: checks and tensors, with their plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup

from mimo_convert.numbers_text import cosine, decibels, gate, percent, plain, small, times_expected
from runtime_check.gate import CACHED, LAYER, OF_THEIR_OWN, STEPS, Gate, Subject
from runtime_check.report.records import check_name, file_name
from runtime_check.report.speech import Words, speech_text, words_of
from runtime_check.run.records import Check, StageResult
from runtime_check.tensors.records import TensorCheck, TensorResult
from runtime_check.text.words import Span, align_words

from .plots import COSINE, ERROR, Series, in_rows, over_positions
from .sounds import SoundView

WORST = 20  # tensors in the short table
VERDICTS = {True: "PASS", False: "FAIL", None: "NOT COMPARED"}
NEARER = "Lower is nearer to the reference."
HIGHER = "Higher is nearer to the reference, and 1 equal to it."
ROLES = {"speech_lm": "Speech LM", "audio_tokenizer": "Audio tokenizer", "asr": "Speech recogniser"}
STEP_NAMES = {
    "top1_agreement": "top-1 token",
    "kl_mean": "KL divergence",
    "rel_rmse": "incremental vs. full decoding",
}


def verdict_word(passed: bool | None) -> str:
    """PASS, FAIL or NOT COMPARED."""
    return VERDICTS[passed]


def role_name(role: str) -> str:
    """A role as a heading."""
    return ROLES.get(role, role.replace("_", " ").capitalize())


class Plot(NamedTuple):
    """A plot with its title and hint."""

    title: str
    hint: str
    svg: Markup


class Row(NamedTuple):
    """A stage, or another gate: value and threshold. `word` marks a comparison that cannot fail; `stage` is set for
    stages with cosines."""

    name: str
    found: str
    wanted: str
    passed: bool
    word: str = ""
    worst: str = ""
    limit: str = ""
    stage: StageResult | None = None


@dataclass(frozen=True)
class CheckView:
    """A check as the page shows it; `number` counts from 1."""

    number: int
    data: Check
    sounds: Sequence[SoundView] = ()

    @property
    def anchor(self) -> str:
        return f"check-{self.number}"

    @property
    def name(self) -> str:
        return check_name(self.data)

    @property
    def verdict(self) -> str:
        return verdict_word(self.data.passed)

    @property
    def spans(self) -> list[Span]:
        """The transcript aligned with the reference text; empty without one."""
        text, transcript = self.data.clip.text, self.data.transcript
        return align_words(text, transcript) if text and transcript is not None else []

    @property
    def words(self) -> Words:
        """What the words of the check are called."""
        return words_of(self.data)

    @property
    def generated(self) -> str:
        """How speech, or a reply, was generated; empty of a transcription."""
        return speech_text(self.data.speech) if self.data.speech else ""

    @property
    def compared_with(self) -> str:
        return compared_with(self.data)

    @property
    def agreement(self) -> float | None:
        """The share of equal codes; None without codes."""
        return next((stage.agreement for stage in self.data.stages if stage.agreement is not None), None)

    # ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tables(self) -> list[tuple[str, list[Row]]]:
        """Stages and other gates of each file, in order."""
        rows: dict[str, list[Row]] = {}
        for role, row in stage_rows(self.data):
            rows.setdefault(role_name(role), []).append(row)
        return list(rows.items())

    @property
    def plots(self) -> list[Plot]:
        """Plots of the cosines of stages and layers, and of the layers' error."""
        stages = [stage for stage in self.data.stages if stage.cos_mean is not None]
        layers = [stage for stage in stages if stage.kind == LAYER]
        others = [stage for stage in stages if stage.kind != LAYER]
        return [*self._stage_plot(others), *(plot for stack in stacks_of(layers) for plot in self._stack_plots(*stack))]

    def _stack_plots(self, where: str, layers: Sequence[StageResult]) -> list[Plot]:
        return [*self._layer_plot(where, layers), *self._error_plot(where, layers)]

    def _stage_plot(self, stages: Sequence[StageResult]) -> list[Plot]:
        if not stages:
            return []
        title, hint = "Cosine of each stage", "Further right is nearer to the reference, and 1 equal to it."
        names, series = [stage.name for stage in stages], cosine_series(self.data, stages)
        return [Plot(title, hint, in_rows(f"{title}, {self.name}", hint, names, COSINE, series))]

    def _layer_plot(self, where: str, layers: Sequence[StageResult]) -> list[Plot]:
        title = f"Cosine of each layer{where}"
        svg = over_positions(f"{title}, {self.name}", HIGHER, "layer", COSINE, cosine_series(self.data, layers))
        return [Plot(title, HIGHER, svg)]

    def _error_plot(self, where: str, layers: Sequence[StageResult]) -> list[Plot]:
        errors = [layer.rel_rmse for layer in layers]
        if not any(error is not None for error in errors):
            return []
        title = f"Relative RMSE of each layer{where}"
        notes = [f"{layer.name}: {small(layer.rel_rmse)}" for layer in layers]
        series = [Series("relative RMSE", "mean", errors, notes)]
        return [Plot(title, NEARER, over_positions(f"{title}, {self.name}", NEARER, "layer", ERROR, series))]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def step_rows(self) -> list[Row]:
        return step_rows(self.data)

    @property
    def steps_plot(self) -> Plot:
        assert self.data.steps is not None
        steps = self.data.steps.steps
        notes = [f"step {i}, “{step.text}”: {small(step.kl)}" for i, step in enumerate(steps)]
        bound = next((one.bound for one in self.data.gates if one.metric == "kl_mean"), None)
        bounds = () if bound is None else [bound] * len(steps)
        kls = [step.kl for step in steps]
        series = [Series("KL divergence", "mean", kls, notes, bounds, (), "threshold of the mean")]
        title, hint = "KL divergence of each step", f"In nats, from the reference. {NEARER}"
        svg = over_positions(f"{title}, {self.name}", hint, "step of the response", ERROR, series)
        return Plot(title, hint, svg)


def compared_with(check: Check) -> str:
    """The reference of a check, as a sentence."""
    reference = check.reference
    if not reference:
        return "There was no reference to compare it with."
    made_by = " ".join(filter(None, ("PyTorch", reference.torch, reference.dtype)))
    source = " and ".join(reference.checkpoints) or "a reference"
    how = f" in {made_by}" if reference.torch else ""
    return f"Compared with {source}{how}."


def gates_of(check: Check) -> dict[Subject, dict[str, Gate]]:
    """The gates of a check by subject, in order, and by metric."""
    return {
        subject: {one.metric: one for one in found}
        for subject, found in groupby(check.gates, key=lambda one: one.subject)
    }


def stage_rows(check: Check) -> list[tuple[str, Row]]:
    """A row per stage, with the role of its file, and per other gate, without those of decoding steps."""
    results = {(stage.role, stage.name): stage for stage in check.stages}
    rows = []
    for subject, gates in gates_of(check).items():
        result = results.get((subject.role, subject.stage))
        if result and result.cos_mean is not None:
            rows.append((subject.role, _stage_row(result, gates)))
            gates = {metric: one for metric, one in gates.items() if metric in OF_THEIR_OWN}
        if subject.stage not in (STEPS, CACHED):
            rows += [(subject.role, _gate_row(subject, one)) for one in gates.values()]
    return rows


def _stage_row(result: StageResult, gates: Mapping[str, Gate]) -> Row:
    bounds = [gates[metric].bound for metric in ("cos_mean", "cos_min") if metric in gates]
    found = f"{cosine(result.cos_mean)} / {cosine(result.cos_min)}"
    wanted = " / ".join(map(gate, bounds)) or gate(None)
    passed = all(one.passed for metric, one in gates.items() if metric not in OF_THEIR_OWN)
    return Row(result.name, found, wanted, passed, limit="≥ ", stage=result)


def _gate_row(subject: Subject, one: Gate) -> Row:
    if one.metric == "agreement":
        return Row(subject.stage, f"{percent(one.value)} equal", percent(one.bound), one.passed, limit="≥ ")
    if one.metric == "head_top1":
        return Row(f"{subject.stage}, top-1", f"{percent(one.value)} equal", percent(one.bound), one.passed, limit="≥ ")
    if one.metric == "cos_median":
        name = f"{subject.stage}, median over positions"
        return Row(name, cosine(one.value), gate(one.bound), one.passed, limit="≥ ")
    if one.metric == "head_kl":
        return Row(f"{subject.stage}, KL", small(one.value), plain(one.bound), one.passed, limit="≤ ")
    if one.metric == "snr_db":
        return Row(subject.stage, decibels(one.value), decibels(one.bound), one.passed, limit="≥ ")
    if one.metric == "log_mel":
        return Row(subject.stage, f"{small(one.value)} of log-mel", small(one.bound), one.passed, limit="≤ ")
    if one.metric in ("equal", "top1"):
        name = "first top-1 token" if one.metric == "top1" else subject.stage
        differs = "differs" if not one.value and one.passed else ""
        found = "equal" if one.value else "differs"
        return Row(name, found, "equal", one.passed, "may differ" if differs else "")
    return Row(subject.stage, one.text, "", one.passed)


def step_rows(check: Check) -> list[Row]:
    """The gates over decoding steps."""
    gates = {one.metric: one for one in check.gates if one.stage in (STEPS, CACHED) and one.metric in STEP_NAMES}
    return [_step_row(check, one) for one in gates.values()]


def _step_row(check: Check, one: Gate) -> Row:
    name = STEP_NAMES[one.metric]
    if one.metric == "top1_agreement":
        return Row(name, f"{percent(one.value)} equal", percent(one.bound), one.passed, limit="≥ ")
    worst = small(check.steps.kl_max) if check.steps and one.metric == "kl_mean" else ""
    return Row(name, small(one.value), plain(one.bound), one.passed, worst=worst, limit="≤ ")


def stacks_of(layers: Sequence[StageResult]) -> list[tuple[str, Sequence[StageResult]]]:
    """Layers by their stack, whose names differ in the number alone, each with where it is: ` (enc_layer_…)`;
    empty if there is one stack."""
    stacks: dict[str, list[StageResult]] = {}
    for layer in layers:
        stacks.setdefault(layer.name.rstrip("0123456789").rstrip("_"), []).append(layer)
    return [(f" ({name}_…)" if len(stacks) > 1 else "", stack) for name, stack in stacks.items()]


def cosine_series(check: Check, stages: Sequence[StageResult]) -> list[Series]:
    """Mean and minimum cosine of each stage, with thresholds."""
    gates = {(one.role, one.stage, one.metric): one for one in check.gates}
    series = []
    for name, style, metric in (("mean", "mean", "cos_mean"), ("worst position", "worst", "cos_min")):
        found = [gates.get((stage.role, stage.name, metric)) for stage in stages]
        values = [getattr(stage, metric) for stage in stages]
        notes = [f"{stage.name}, {name}: {cosine(value)}" for stage, value in zip(stages, values, strict=True)]
        failed = {i for i, one in enumerate(found) if one and not one.passed}
        bounds = [one.bound if one else None for one in found]
        series.append(Series(name, style, values, notes, bounds, failed, "thresholds"))
    return series


@dataclass(frozen=True)
class TensorsView:
    """The tensor comparison of a file."""

    data: TensorCheck

    @property
    def name(self) -> str:
        return file_name(self.data.file)

    @property
    def verdict(self) -> str:
        return verdict_word(self.data.passed)

    @property
    def failed(self) -> bool:
        return any(tensor.findings for tensor in self.data.tensors)

    @property
    def differs(self) -> bool:
        return any(tensor.rel_rmse for tensor in self.data.tensors)

    @property
    def worst(self) -> list[TensorResult]:
        """Tensors with findings, then those with the largest ratio of error to expected error."""
        return sorted(self.data.tensors, key=_badness, reverse=True)[:WORST]

    @property
    def plot(self) -> Plot:
        tensors = self.data.tensors
        found = [tensor.rel_rmse for tensor in tensors]
        expected = [tensor.expected_rel_rmse for tensor in tensors]
        notes = [
            f"{one.name}, {one.type}: {small(one.rel_rmse)}, expected {small(one.expected_rel_rmse)}" for one in tensors
        ]
        failed = {i for i, tensor in enumerate(tensors) if tensor.findings}
        series = [Series("expected", "expected", expected), Series("found", "dot", found, notes, failed=failed)]
        title, hint = "Relative RMSE of each tensor", "A dot off its stroke differs from the expected error."
        across = "tensor, in the file's order"
        svg = over_positions(f"{title}, {self.name}", hint, across, ERROR, series, joined=False)
        return Plot(title, hint, svg)


def _badness(tensor: TensorResult) -> tuple[bool, float, float]:
    times = times_expected(tensor.rel_rmse, tensor.expected_rel_rmse)
    return bool(tensor.findings), times or 0.0, tensor.rel_rmse or 0.0
