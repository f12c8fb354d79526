"""The parts of the page that are more than a loop over the report: checks and tensors, with their plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from markupsafe import Markup

from .activations import CODES, PROMPT, is_layer, is_of_tokenizer
from .differences import Piece, differences
from .page_numbers import cosine, percent, plain, small, times_expected
from .plots import COSINE, ERROR, Series, in_rows, over_positions
from .verdicts import CACHED, FIRST_TOKEN, KL, TOP1, Report, Suite, check_name, check_suite, file_name

WORST = 20  # tensors in the short table
VERDICTS = {True: "PASS", False: "FAIL", None: "NOT COMPARED"}
NEARER = "Lower is nearer to the reference."


def verdict_word(passed: bool | None) -> str:
    return VERDICTS[passed]


class Plot(NamedTuple):
    title: str
    hint: str
    svg: Markup


class Row(NamedTuple):
    """A gate that is no stage: what was found and what must be. `word` is for one that nothing depends on."""

    name: str
    found: str
    wanted: str
    passed: bool
    word: str = ""
    worst: str = ""


@dataclass(frozen=True)
class CheckView:
    """A check and what the page draws of it; `number` counts from 1."""

    number: int
    data: Report

    @property
    def anchor(self) -> str:
        return f"check-{self.number}"

    @property
    def name(self) -> str:
        return check_name(self.data)

    @property
    def verdict(self) -> str:
        return verdict_word(self.data["passed"])

    @property
    def pieces(self) -> list[Piece]:
        """The transcript with its differences; empty where it is not known what is said."""
        expected = self.data.get("expected_text")
        return differences(expected, self.data.get("transcript") or "") if expected else []

    @property
    def compared_with(self) -> str:
        reference = self.data.get("reference")
        if not reference:
            return "There was no reference to compare it with."
        made_by = " ".join(filter(None, ("PyTorch", reference.get("torch"), reference.get("dtype"))))
        source = " and ".join(reference.get("checkpoints") or []) or "a reference"
        how = f" in {made_by}" if reference.get("torch") else ""
        return f"Compared with {source}{how}."

    # ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tables(self) -> list[tuple[str, list[Report | Row]]]:
        """Stages and what else is judged of each half, as the model runs."""
        stages = self.data.get("stages") or []
        tokenizer = [stage for stage in stages if is_of_tokenizer(stage["name"])]
        lm = [stage for stage in stages if not is_of_tokenizer(stage["name"])]
        halves: list[tuple[str, list[Report | Row]]] = [
            ("Audio tokenizer", [*tokenizer, *self._codes()]),
            ("Speech LM", [*self._equal(), *lm, *self._first_token()]),
        ]
        return [(title, rows) for title, rows in halves if rows]

    def _codes(self) -> list[Row]:
        codes = self.data.get("codes")
        if not codes:
            return []
        return [Row(CODES, f"{percent(codes['agreement'])} equal", percent(codes["gate"]), codes["passed"])]

    def _equal(self) -> list[Row]:
        found = ("vocabulary", self.data.get("vocabulary_equal")), (PROMPT, self.data.get("prompt_equal"))
        return [Row(name, "equal" if is_equal else "differs", "equal", is_equal)
                for name, is_equal in found if is_equal is not None]  # fmt: skip

    def _first_token(self) -> list[Row]:
        token = self.data.get("first_token")
        if not token:
            return []
        failed = any(case.name == FIRST_TOKEN for case in self._suite.failed)
        differs = token["ours"] != token["reference"] and not failed
        return [Row(FIRST_TOKEN, str(token["ours"]), str(token["reference"]), not failed, "differs" if differs else "")]

    @cached_property
    def _suite(self) -> Suite:
        return check_suite(self.data)

    @property
    def plots(self) -> list[Plot]:
        """Cosines of stages and of layers, and the error of the layers, as far as they are known."""
        stages = self.data.get("stages") or []
        layers = [stage for stage in stages if is_layer(stage["name"])]
        others = [stage for stage in stages if stage not in layers]
        return [*self._stage_plot(others), *self._layer_plot(layers), *self._error_plot(layers)]

    def _stage_plot(self, stages: Sequence[Report]) -> list[Plot]:
        if not stages:
            return []
        title, hint = "Cosine of each stage", "Further left is nearer to the reference."
        names = [stage["name"] for stage in stages]
        return [Plot(title, hint, in_rows(f"{title}, {self.name}", hint, names, COSINE, cosine_series(stages)))]

    def _layer_plot(self, layers: Sequence[Report]) -> list[Plot]:
        if not layers:
            return []
        title = "Cosine of each layer"
        svg = over_positions(f"{title}, {self.name}", NEARER, "layer", COSINE, cosine_series(layers))
        return [Plot(title, NEARER, svg)]

    def _error_plot(self, layers: Sequence[Report]) -> list[Plot]:
        errors = [layer.get("rel_rmse") for layer in layers]
        if not any(error is not None for error in errors):
            return []
        title = "Relative RMSE of each layer"
        notes = [f"{layer['name']}: {small(error)}" for layer, error in zip(layers, errors, strict=True)]
        series = [Series("relative RMSE", "mean", errors, notes)]
        return [Plot(title, NEARER, over_positions(f"{title}, {self.name}", NEARER, "layer", ERROR, series))]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def step_rows(self) -> list[Row]:
        """What the steps are judged by, together."""
        steps = self.data["steps"]
        cached = steps.get("cached") or {}
        failed = {case.name for case in self._suite.failed}
        found = [
            (TOP1, f"{percent(steps['top1_agreement'])} equal", percent(steps.get("gate_top1")), ""),
            (KL, small(steps["kl_mean"]), plain(steps.get("gate_kl_mean")), small(steps["kl_max"])),
        ]
        if cached:
            found.append((CACHED, "", plain(cached["gate_rel_rmse"]), small(cached["rel_rmse"])))
        return [Row(name.partition(": ")[2], text, gate, name not in failed, "", worst)
                for name, text, gate, worst in found]  # fmt: skip

    @property
    def steps_plot(self) -> Plot:
        steps = self.data["steps"]
        rows = steps["steps"]
        notes = [f"step {i}, “{row['text']}”: {small(row['kl'])}" for i, row in enumerate(rows)]
        gate = steps.get("gate_kl_mean")
        gates = () if gate is None else [gate] * len(rows)
        series = [Series("KL divergence", "mean", [row["kl"] for row in rows], notes, gates, (), "gate of the mean")]
        title, hint = "KL divergence of each step", f"In nats, from the reference. {NEARER}"
        svg = over_positions(f"{title}, {self.name}", hint, "step of the answer", ERROR, series)
        return Plot(title, hint, svg)


def cosine_series(stages: Sequence[Report]) -> list[Series]:
    """The mean and the worst position of each stage, with their gates."""
    series = []
    for name, style, which in (("mean", "mean", "mean"), ("worst position", "worst", "min")):
        values, gates = ([stage[f"{kind}_{which}"] for stage in stages] for kind in ("cos", "gate"))
        notes = [f"{stage['name']}, {name}: {cosine(stage[f'cos_{which}'])}" for stage in stages]
        pairs = enumerate(zip(values, gates, strict=True))
        failed = {i for i, (value, gate) in pairs if None not in (value, gate) and value < gate}
        series.append(Series(name, style, values, notes, gates, failed, "their gates"))
    return series


@dataclass(frozen=True)
class TensorsView:
    """The tensors of a file beside those it was made from."""

    data: Report

    @property
    def name(self) -> str:
        return file_name(self.data["file"])

    @property
    def verdict(self) -> str:
        return verdict_word(self.data["passed"])

    @property
    def failed(self) -> bool:
        return any(tensor.get("problems") for tensor in self.data["tensors"])

    @property
    def differs(self) -> bool:
        return any(tensor.get("rel_rmse") for tensor in self.data["tensors"])

    @property
    def worst(self) -> list[Report]:
        """Those with problems, then those that are furthest from what is expected of their type."""
        return sorted(self.data["tensors"], key=_badness, reverse=True)[:WORST]

    @property
    def plot(self) -> Plot:
        tensors = self.data["tensors"]
        found, expected = ([tensor.get(key) for tensor in tensors] for key in ("rel_rmse", "expected_rel_rmse"))
        notes = [f"{tensor['name']}, {tensor['type']}: {small(one)}, expected {small(other)}"
                 for tensor, one, other in zip(tensors, found, expected, strict=True)]  # fmt: skip
        failed = {i for i, tensor in enumerate(tensors) if tensor.get("problems")}
        series = [Series("expected", "expected", expected), Series("found", "dot", found, notes, failed=failed)]
        title, hint = "Relative RMSE of each tensor", "A dot that is not on its stroke differs from what is expected."
        across = "tensor, in the file's order"
        svg = over_positions(f"{title}, {self.name}", hint, across, ERROR, series, joined=False)
        return Plot(title, hint, svg)


def _badness(tensor: Report) -> tuple[bool, float, float]:
    return bool(tensor.get("problems")), times_expected(tensor) or 0.0, tensor.get("rel_rmse") or 0.0
