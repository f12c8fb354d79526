"""The verdict on a run of a target: its report's gates, the config's gates, and regressions.

A regression is measured against the best value of any good run of the target, metric by metric, not against the last
good run: a file that loses slightly less than the tolerance in each run would otherwise never fail. Runs are
deterministic except for the order of sums, so that the best value is not a random outlier. If a drop is intended, such
as a change to a lower type, `compare_since` in the config excludes earlier runs.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mimo_convert.sqlite_file import plain
from runtime_check.gate import CACHED, LOGITS, STEPS, TEXT, TRANSCRIPT, Subject
from runtime_check.report.records import Report, file_name
from runtime_check.run.records import Check

from .history import FAILED, History, Problem, StageRow, TargetResult
from .show.changes import changes

Gates = Mapping[str, Mapping[str, float]]  # stage → metric → the least, or most, that passes


@dataclass(frozen=True)
class Metric:
    """A metric of a stage: whether more is better, its range, and the tolerance for regressions.

    Threads, CPUs and repacking change cosines by less than 0.0001 and no word; tolerances are for changes too small to
    matter. One step in twenty, or one word, may differ where two tokens are about equally likely.
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


def evaluate(
    report: Report, found: TargetResult, gates: Gates, tolerance: Mapping[str, float], since: str, history: History
) -> TargetResult:
    """Evaluate a report: `found` with its stages and verdict, and with the problems that it has beside the report.

    `gates` and `tolerance` are the config's; good runs before `since` are ignored.
    """
    rows = stages_of(report)
    drops = list(_drops(rows, found.target, tolerance, since, history))
    problems = [*_failed_gates(report), *_missed_gates(rows, gates), *drops]
    if drops:
        problems += _explanation(found, history)
    bad = {(problem.clip, problem.stage) for problem in problems}
    rows = [replace(row, passed=row.passed and (row.clip, row.stage) not in bad) for row in rows]
    state = FAILED if problems or report.passed is not True else found.state
    return replace(found, state=state, problems=[*problems, *found.problems], stages=rows)


# ── a report as rows ─────────────────────────────────────────────────────────────────────────────────────────────


def stages_of(report: Report) -> list[StageRow]:
    """The measurements of a report (docs/json.md) that the history keeps, in order."""
    return [row for check, clip in clips_of(report) for row in _of_check(check, clip)]


def clips_of(report: Report) -> list[tuple[Check, str]]:
    """Each check with a unique name of its clip."""
    seen: Counter[str] = Counter()
    found = []
    for check in report.checks:
        clip = plain(file_name(check.clip.file))
        seen[clip] += 1
        found.append((check, clip if seen[clip] == 1 else f"{clip} ({seen[clip]})"))
    return found


def _of_check(check: Check, clip: str) -> list[StageRow]:
    names = {file.role: plain(file_name(file.file)) for file in check.files}
    failed = {gate.subject for gate in check.gates if not gate.passed}
    text = Subject(check.main.role, STEPS, LOGITS)
    cached = text._replace(stage=CACHED)
    rows = [
        StageRow(
            names[one.role], clip, one.name, one.role, one.kind, one.cos_mean, one.cos_min, one.rel_rmse, one.agreement,
            passed=Subject(one.role, one.name, one.kind) not in failed,
        )
        for one in check.stages
    ]  # fmt: skip
    if steps := check.steps:
        main = names[text.role]
        rows += [
            StageRow(
                main, clip, *text[1::-1], LOGITS, agreement=steps.top1_agreement, kl_mean=steps.kl_mean,
                passed=text not in failed,
            ),
            StageRow(
                main, clip, *cached[1::-1], LOGITS, rel_rmse=steps.cached_rel_rmse, passed=cached not in failed
            ),
        ]  # fmt: skip
    if check.words:
        rows.append(StageRow(names[text.role], clip, TRANSCRIPT, text.role, TEXT, error_rate=check.words.rate))
    roles = list(dict.fromkeys(row.role for row in rows))
    return sorted(rows, key=lambda row: roles.index(row.role))  # those of a file together


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────────


def _failed_gates(report: Report) -> Iterator[Problem]:
    """Failed gates and lint rules of the report."""
    lines = [(one.file, one.gates) for one in report.lint] + [(one.file, one.gates) for one in report.tensors]
    for file, gates in lines:
        where = f"{file_name(file)}: " if len(lines) > 1 else ""
        yield from (Problem(f"{where}{line}") for gate in gates for line in gate.failures)
    for check, clip in clips_of(report):
        where = f"{file_name(check.main.file)} on {clip}: " if len(report.checks) > 1 else ""
        for gate in check.gates:
            yield from (Problem(f"{where}{line}", clip, gate.stage) for line in gate.failures)


def _missed_gates(rows: Sequence[StageRow], gates: Gates) -> Iterator[Problem]:
    """Failed gates of the config; a gate on an unmeasured value fails."""
    clips = dict.fromkeys(row.clip for row in rows)
    by_place = {(row.clip, row.stage): row for row in rows}
    for clip in clips:
        for stage, metrics in gates.items():
            for name, gate in metrics.items():
                value = getattr(by_place.get((clip, stage)), name, None)
                if value is None:
                    yield Problem(f"{stage} of {clip}: the config has a gate for its {name}, which was not measured")
                elif METRICS[name].worse_by(value, gate) > 0:
                    least = "at least" if METRICS[name].more_is_better else "at most"
                    text = f"{stage} of {clip}: {name} {number(value)}, {least} {number(gate)} by the config"
                    yield Problem(text, clip, stage)


def _drops(
    rows: Sequence[StageRow], target: str, tolerance: Mapping[str, float], since: str, history: History
) -> Iterator[Problem]:
    """Regressions beyond the tolerance, and values that are no longer measured, by metric."""
    clips = {row.clip for row in rows}
    by_place = {(row.clip, row.stage): row for row in rows}
    for name, metric in METRICS.items():
        for best in history.best(target, name, metric.more_is_better, since):
            if best.clip not in clips:
                continue  # the config names it no more
            value = getattr(by_place.get((best.clip, best.stage)), name, None)
            was = f"{number(best.value)} on {best.started} (run {best.run})"
            if value is None:
                text = f"{best.stage} of {best.clip}: its {name} is no longer measured; it was {was}"
            elif (worse := metric.worse_by(value, best.value)) > tolerance[name] + NOISE:
                text = (
                    f"{best.stage} of {best.clip}: {name} {number(value)} was {was}; "
                    f"worse by {number(worse)}, tolerance {number(tolerance[name])}"
                )
            else:
                continue
            yield Problem(text, best.clip, best.stage)


def _explanation(found: TargetResult, history: History) -> Iterator[Problem]:
    """What changed since the last good run, and what to do if the drop is intended."""
    last = history.last_good(found.target)
    assert last is not None  # of some run it was better
    what = "; ".join(changes(last, found)) or "nothing that is known here"
    yield Problem(f"changed since the last good run, of {last.started}: {what}")
    yield Problem(
        f"if this is meant, write compare_since = {found.started} into its [[target]]: earlier runs then do not count"
    )


def number(value: float) -> str:
    """Format a number with six digits."""
    return f"{value:.6g}"
