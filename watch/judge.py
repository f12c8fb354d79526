"""The verdict on one run of a target: the report's own, the config's gates, and whether it was better before.

**Better before** is measured against the best that any good run of the target has reached, each number by itself, not
against the last good run alone: a file that loses a little less than the tolerance every night would then never fail,
however far it slides. The best does not slide, and as a run is deterministic but for the order of its sums, it is no
stroke of luck. It may well be that a drop is meant, such as after a change to a lower type: `compare_since` in the
config then says which runs still count.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runtime_check.activations import CODES, is_of_tokenizer
from runtime_check.verdicts import Report, file_name, verdicts

from .changes import changes
from .history import FAILED, PASSED, History, StageRow, TargetResult, plain

STEPS, CACHED, TRANSCRIPT = "steps", "cached", "transcript"  # stages of the history that docs/stages.md does not have
Gates = Mapping[str, Mapping[str, float]]  # stage → metric → the least, or most, that passes


@dataclass(frozen=True)
class Metric:
    """A number of a stage: whether more of it is better, its range, and how much worse it may be than it was.

    Other threads, CPUs and repacked weights change cosines by less than 0.0001 and no word; the tolerances are for what
    is too little to matter. One step in twenty, or one word, may differ where two tokens are about as likely.
    """

    more_is_better: bool
    low: float
    high: float
    tolerance: float

    def worse_by(self, value: float, than: float) -> float:
        """How much worse `value` is; negative if it is better."""
        return than - value if self.more_is_better else value - than


METRICS = {
    "cos_mean": Metric(True, -1, 1, 0.002),
    "cos_min": Metric(True, -1, 1, 0.02),
    "rel_rmse": Metric(False, 0, 1, 0.02),
    "agreement": Metric(True, 0, 1, 0.05),
    "kl_mean": Metric(False, 0, math.inf, 0.02),
    "error_rate": Metric(False, 0, 1, 0.05),
}
NOISE = 1e-9  # of the arithmetic here, beside which a tolerance of 0 means what it says


def judge(
    report: Report, found: TargetResult, gates: Gates, tolerance: Mapping[str, float], since: str, history: History
) -> TargetResult:
    """`found`, of which the report is, with its stages and the verdict on them.

    `gates` and `tolerance` are the config's, the latter by metric; good runs before `since` do not count.
    """
    rows = stages_of(report)
    drops = list(_drops(rows, found.target, tolerance, since, history))
    problems = [*_reasons(report), *_missed_gates(rows, gates), *drops]
    if drops:
        problems += _explanation(found, history)
    bad = {(problem.sound, problem.stage) for problem in problems}
    rows = [replace(row, passed=row.passed and (row.sound, row.stage) not in bad) for row in rows]
    state = FAILED if problems or report["passed"] is not True else PASSED
    return replace(found, state=state, problems=[problem.text for problem in problems], stages=rows)


@dataclass(frozen=True)
class Problem:
    """Why a target fails, and the row it is about, if it is one."""

    text: str
    sound: str = ""
    stage: str = ""


# ── a report as rows ─────────────────────────────────────────────────────────────────────────────────────────────


def stages_of(report: Report) -> list[StageRow]:
    """Every number of a report (docs/json.md) that the history keeps, in the order of the run."""
    seen: Counter[str] = Counter()
    rows: list[StageRow] = []
    for check in report["checks"]:
        sound = plain(file_name(check["audio"]["file"]))
        seen[sound] += 1
        rows += _of_check(check, sound if seen[sound] == 1 else f"{sound} ({seen[sound]})")
    return rows


def _of_check(check: Report, sound: str) -> list[StageRow]:
    tokenizer, lm = (
        plain(file_name(check[role]["file"])) if check[role] else "" for role in ("audio_tokenizer", "speech_lm")
    )
    rows = [
        StageRow(
            tokenizer if is_of_tokenizer(one["name"]) else lm, sound, one["name"],
            one["cos_mean"], one["cos_min"], one["rel_rmse"], passed=one["passed"],
        )
        for one in check["stages"]
    ]  # fmt: skip
    if codes := check["codes"]:
        rows.append(StageRow(tokenizer, sound, CODES, agreement=codes["agreement"], passed=codes["passed"]))
    if steps := check["steps"]:
        equal, kl, cached = steps["top1_agreement"], steps["kl_mean"], steps["cached"]
        rows.append(StageRow(lm, sound, STEPS, agreement=equal, kl_mean=kl, passed=steps["passed"]))
        rows.append(StageRow(lm, sound, CACHED, rel_rmse=cached["rel_rmse"], passed=cached["passed"]))
    if check["word_error_rate"] is not None:
        rows.append(StageRow(lm, sound, TRANSCRIPT, error_rate=check["word_error_rate"]))
    return sorted(rows, key=lambda row: row.file == lm)  # those of a file together


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────────


def _reasons(report: Report) -> list[Problem]:
    """What the report itself found: gates of the type, and rules of a well-formed file."""
    suites = verdicts(report)
    several = {kind for kind, n in Counter(suite.kind for suite in suites).items() if n > 1}
    return [
        Problem(f"{f'{suite.name}: ' if suite.kind in several else ''}{case.name}: {problem}")
        for suite in suites
        for case in suite.failed
        for problem in case.problems
    ]


def _missed_gates(rows: Sequence[StageRow], gates: Gates) -> Iterator[Problem]:
    """A gate for what was not measured is missed, too: one that cannot fail would be none."""
    sounds = dict.fromkeys(row.sound for row in rows)
    by_place = {(row.sound, row.stage): row for row in rows}
    for sound in sounds:
        for stage, metrics in gates.items():
            for name, gate in metrics.items():
                value = getattr(by_place.get((sound, stage)), name, None)
                if value is None:
                    yield Problem(f"{stage} of {sound}: the config has a gate for its {name}, which was not measured")
                elif METRICS[name].worse_by(value, gate) > 0:
                    least = "at least" if METRICS[name].more_is_better else "at most"
                    text = f"{stage} of {sound}: {name} {number(value)}, {least} {number(gate)} by the config"
                    yield Problem(text, sound, stage)


def _drops(
    rows: Sequence[StageRow], target: str, tolerance: Mapping[str, float], since: str, history: History
) -> Iterator[Problem]:
    """What got worse than it was by more than its tolerance, or is no longer measured on a sound that still is; by
    metric."""
    sounds = {row.sound for row in rows}
    by_place = {(row.sound, row.stage): row for row in rows}
    for name, metric in METRICS.items():
        for best in history.best(target, name, metric.more_is_better, since):
            if best.sound not in sounds:
                continue  # the config names it no more
            value = getattr(by_place.get((best.sound, best.stage)), name, None)
            was = f"{number(best.value)} on {best.started} (run {best.run})"
            if value is None:
                text = f"{best.stage} of {best.sound}: its {name} is no longer measured; it was {was}"
            elif (worse := metric.worse_by(value, best.value)) > tolerance[name] + NOISE:
                text = (
                    f"{best.stage} of {best.sound}: {name} {number(value)} was {was}; "
                    f"worse by {number(worse)}, tolerance {number(tolerance[name])}"
                )
            else:
                continue
            yield Problem(text, best.sound, best.stage)


def _explanation(found: TargetResult, history: History) -> Iterator[Problem]:
    """What could be behind a drop, and what to do if it is meant."""
    last = history.last_good(found.target)
    assert last is not None  # of some run it was better
    what = "; ".join(changes(last, found)) or "nothing that is known here"
    yield Problem(f"changed since the last good run, of {last.started}: {what}")
    yield Problem(
        f"if this is meant, write compare_since = {found.started} into its [[target]]: earlier runs then do not count"
    )


def number(value: float) -> str:
    """Short, and exact enough to tell two apart."""
    return f"{value:.6g}"
