"""The state of every target, for programs: as JSON, and as an exit status."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

from mimo_convert.command.outcome import BAD_INPUT, GATE_FAILED, PASSED
from mimo_nightly.history import FAILED, UNCHECKED, History, TargetResult
from mimo_nightly.notify.outbox import Outbox

from .figures import RUNS, duration, since, state_word


def newest(history: History, targets: Sequence[str]) -> dict[str, TargetResult | None]:
    """The last result of each target; None if it never ran."""
    found = {target: history.results_of_target(target, 1) for target in targets}
    return {target: results[0] if results else None for target, results in found.items()}


def as_json(history: History, targets: Sequence[str], *, runs: bool) -> str:
    """An object with `targets`: each with its state, since when, its last result and its last good run; with `runs`,
    its last RUNS results with every stage. `notifications` are the newest RUNS changes of state that were to be told:
    `sent`, or why the last attempt failed."""

    def of(target: str, last: TargetResult | None) -> dict[str, object]:
        now, good = since(history, target), history.last_good(target)
        found: dict[str, object] = {
            "target": target,
            "state": now.word if now else None,
            "since": now.started if now else None,
            "runs_in_state": now.runs if now else 0,
            "last": asdict(last) | {"stages": None} if last else None,
            "last_good": {"run": good.run, "started": good.started} if good else None,
        }
        return found | ({"runs": [asdict(one) for one in history.results_of_target(target, RUNS)]} if runs else {})

    found = [of(target, last) for target, last in newest(history, targets).items()]
    told = [asdict(change) for change in Outbox(history).newest(RUNS)]
    return json.dumps({"schema": "mimo-check history 1", "targets": found, "notifications": told}, indent=1)


def stale(history: History, targets: Sequence[str], max_age: float, now: datetime | None = None) -> Iterator[str]:
    """A line for each target that was not examined within `max_age` seconds, or that never was."""
    now = now or datetime.now(timezone.utc)
    for target, last in newest(history, targets).items():
        within = f"expected within {duration(max_age)}"
        if last is None:
            yield f"{target}: never ran; {within}"
            continue
        age = now - datetime.fromisoformat(last.started.replace("Z", "+00:00")) - timedelta(seconds=last.seconds)
        if age.total_seconds() > max_age:
            yield f"{target}: last {state_word(last.state, last.scope)} {duration(age.total_seconds())} ago; {within}"


def status_of(results: Sequence[TargetResult | None]) -> int:
    """The exit status of last results: 1 if a target failed, 2 if none did and one could not be checked, or never
    ran."""
    states = {result.state if result else UNCHECKED for result in results}
    return GATE_FAILED if FAILED in states else BAD_INPUT if UNCHECKED in states else PASSED
