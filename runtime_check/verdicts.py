"""The verdicts of a report, one a gate: what JUnit XML lists, and what the page gives as reasons.

All of it is read from the JSON report (docs/json.md). Whatever the report calls failed has a failing case here, also if
it says no more than that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import ge, le
from pathlib import PurePath
from typing import Any

from .activations import ANSWER_LOGITS, CACHED_LOGITS, CODES, PROMPT

Report = dict[str, Any]
FIRST_TOKEN = "first token"
TOP1, KL, CACHED = "steps: likeliest token", "steps: KL divergence", "steps: cached equals full pass"


@dataclass(frozen=True)
class Case:
    """One gate. `problems` says what was found and what was wanted; empty if it passed. `note` is told in any case.

    `judged`: whether the problems are failures, or the reasons why it could not be checked.
    """

    name: str
    problems: list[str]
    note: str = ""
    judged: bool = True

    @property
    def summary(self) -> str:
        """The first problem, and how many there are besides."""
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return self.problems[0] + more if self.problems else ""


@dataclass(frozen=True)
class Suite:
    """The gates of one check, one file's rules or one comparison of tensors."""

    kind: str
    name: str
    seconds: float
    cases: list[Case]

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problems]


def verdicts(report: Report) -> list[Suite]:
    """Every gate of the report, in its order: files, tensors, checks."""
    suites = [
        *map(_static, report.get("static") or []),
        *map(_tensors, report.get("tensors") or []),
        *map(check_suite, report.get("checks") or []),
    ]
    if report.get("passed") is False and not any(suite.failed for suite in suites):
        suites.append(Suite("report", "report", 0.0, [_unexplained()]))
    return suites


def file_name(path: str) -> str:
    """The last part of a path."""
    return PurePath(path).name


def check_name(check: Report) -> str:
    """What was run on what."""
    model = check.get("speech_lm") or check["audio_tokenizer"]
    return f"{file_name(model['file'])} on {file_name(check['audio']['file'])}"


# ── one kind of verdict a function ───────────────────────────────────────────────────────────────────────────────


def _static(entry: Report) -> Suite:
    cases = [Case(rule["name"], rule["problems"]) for rule in entry["rules"]]
    return _suite("static", file_name(entry["file"]), entry, entry.get("seconds"), cases)


def _tensors(entry: Report) -> Suite:
    cases = [Case("file", entry.get("problems") or [])]
    cases += [Case(tensor["name"], tensor.get("problems") or []) for tensor in entry["tensors"]]
    return _suite("tensors", file_name(entry["file"]), entry, entry.get("seconds"), cases)


def check_suite(check: Report) -> Suite:
    """The gates of one check, in the order of the run."""
    said = _Reasons(check.get("reasons") or [])
    cases = [
        Case("transcribed" if check.get("speech_lm") else "encoded", [], _transcript_note(check)),
        *(_stage(stage, said) for stage in check.get("stages") or []),
        *_codes(check.get("codes"), said),
        *_equal("vocabulary", check.get("vocabulary_equal"), said),
        *_equal(PROMPT, check.get("prompt_equal"), said),
        *_first_token(check.get("first_token"), said),
        *_steps(check.get("steps"), said),
    ]
    cases += [Case(about, texts) for about, texts in said.left.items()]
    seconds = sum(value for name, value in (check.get("timings") or {}).items() if name.endswith("_s"))
    return _suite("check", check_name(check), check, seconds, cases)


class _Reasons:
    """What a check says of its failures, `what: why`, each until the case that it is about takes it."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.left: dict[str, list[str]] = {}
        for reason in reasons:
            about, colon, why = reason.partition(": ")
            if why.startswith(f"the {FIRST_TOKEN}"):
                about = FIRST_TOKEN
            self.left.setdefault(about if colon else "check", []).append(why if colon else reason)

    def take(self, about: str) -> list[str]:
        return self.left.pop(about, [])


def _transcript_note(check: Report) -> str:
    rate = check.get("word_error_rate")
    return (check.get("transcript") or "") + ("" if rate is None else f"\nword error rate {rate:.1%}")


def _stage(stage: Report, said: _Reasons) -> Case:
    if stage["passed"]:
        return Case(stage["name"], [])
    found = [(which, stage[f"cos_{which}"], stage[f"gate_{which}"]) for which in ("mean", "min")]
    below = [
        f"cos_{which} {cosine:.6f}, at least {gate:.6f} must be"
        for which, cosine, gate in found
        if cosine is not None and gate is not None and cosine < gate
    ]
    return Case(stage["name"], said.take(stage["name"]) or below or ["failed"])


def _codes(codes: Report | None, said: _Reasons) -> list[Case]:
    if not codes:
        return []
    found = f"{codes['agreement']:.2%} of the codes are equal, at least {codes['gate']:.2%} must be"
    return [Case(CODES, [] if codes["passed"] else said.take(CODES) or [found])]


def _equal(name: str, equal: bool | None, said: _Reasons) -> list[Case]:
    if equal is None:
        return []
    return [Case(name, [] if equal else said.take(name) or ["not the reference's"])]


def _first_token(token: Report | None, said: _Reasons) -> list[Case]:
    """The lower types may differ here; the check says whether this one may."""
    if not token:
        return []
    note = "" if token["ours"] == token["reference"] else f"{token['ours']}, the reference's is {token['reference']}"
    return [Case(FIRST_TOKEN, said.take(FIRST_TOKEN), note)]


def _steps(steps: Report | None, said: _Reasons) -> list[Case]:
    if not steps:
        return []
    top1 = _beyond(steps, "top1_agreement", "gate_top1", ge, "equal at {:.2%} of the steps, at least {:.2%} must be")
    kl = _beyond(steps, "kl_mean", "gate_kl_mean", le, "{:.3g} nats a step, at most {:.3g} may be")
    cases = [Case(TOP1, top1), Case(KL, kl)]
    if top1 or kl:
        said.take(ANSWER_LOGITS)
    if cached := steps.get("cached"):
        slip = _beyond(cached, "rel_rmse", "gate_rel_rmse", le, "a relative RMSE of {:.3g}, at most {:.3g} may be")
        cases.append(Case(CACHED, slip))
        if slip:
            said.take(CACHED_LOGITS)
    return cases


def _beyond(found: Report, value: str, gate: str, reaches: Callable[[float, float], bool], problem: str) -> list[str]:
    """The problem, if a number does not reach its gate, which NaN never does."""
    number, wanted = found.get(value), found.get(gate)
    return [] if number is None or wanted is None or reaches(number, wanted) else [problem.format(number, wanted)]


def _suite(kind: str, name: str, entry: Report, seconds: float | None, cases: list[Case]) -> Suite:
    suite = Suite(kind, name, seconds or 0.0, cases)
    if entry["passed"] is False and not suite.failed:
        cases.append(_unexplained())
    return suite


def _unexplained() -> Case:
    return Case("verdict", ["failed, for a reason that the report does not name"])
