"""A nightly run: check, evaluate and record every target; an interrupted run is resumed."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path

from mimo_convert.disk import sha256_of
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.listener import timed_phase
from mimo_convert.numbers_text import size
from mimo_convert.own_files import read_own
from mimo_nightly.files.lock import locked
from mimo_nightly.notify.outbox import Outbox
from mimo_nightly.show.not_sent import not_sent
from mimo_nightly.show.page import as_html
from quantize.errors import InputError
from runtime_check.report.json_report import report_of
from runtime_check.report.records import Report
from runtime_check.report.results import versions

from .config import Config, Target
from .history import UNCHECKED, History, Problem, TargetResult
from .process import Job, beside, check_in_subprocess
from .prune import delete, old_files
from .regression import evaluate, stages_of

MOST_OF_A_REPORT = 1 << 28  # bytes
TIME = "%Y-%m-%dT%H:%M:%SZ"
RESUMABLE_FOR = timedelta(hours=20)  # less than a day, minus the jitter of timers: the next day's run is a new one


def nightly(config: Config, names: Sequence[str], tell: Callable[[str], None]) -> Iterator[TargetResult]:
    """Check the targets of these names, or all; yields each result when it is recorded.

    Raises InputError if another run is in progress, or the history or pages cannot be written.
    """
    targets = config.chosen(names)
    with ExitStack() as stack:
        for path in (config.history, *([config.cache] if any(target.repo for target in targets) else [])):
            stack.enter_context(locked(path, now()))
        history = stack.enter_context(closing(History(config.history)))
        for target in targets:
            if (since := target.compare_since) > now():
                tell(f"{target.name}: compare_since is {since}: until then, no run is compared with others")
        for line in not_sent(history):
            tell(line)
        run, done = begin_or_resume(history, config, names, tell)
        folder = run_folder(config, run)
        for target in targets:
            if target.name not in done:
                with timed_phase(f"checking {target.name}"):
                    done[target.name] = check(target, run, config, folder, history)
                record(done[target.name], history, config)
                write_page(history, config)
            yield done[target.name]
        history.finish(run, now())
        prune(history, config, tell)
        write_page(history, config)


def begin_or_resume(
    history: History, config: Config, names: Sequence[str], tell: Callable[[str], None]
) -> tuple[int, dict[str, TargetResult]]:
    """Resume the last run with the same config if it did not finish, else begin one; returns its number and its results
    so far."""
    asked = config.sha256 if not names else hashlib.sha256(f"{config.sha256} {sorted(set(names))}".encode()).hexdigest()
    oldest = (datetime.now(timezone.utc) - RESUMABLE_FOR).strftime(TIME)
    for run in reversed(history.runs()):
        if run.config_sha256 == asked and not run.finished and run.started > oldest:
            done = {result.target: result for result in history.of_run(run.run)}
            tell(f"resuming run {run.run}, begun {run.started}; done already: {', '.join(done) or 'none'}")
            return run.run, done
    return history.begin(now(), asked), {}


def run_folder(config: Config, run: int) -> Path:
    """Create the folder of a run's reports. Raises InputError if it, or the page, cannot be written."""
    folder = config.pages / "runs" / str(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made: {error.strerror}") from error
    if folder.is_symlink():
        raise InputError(folder, "is a symbolic link", expected="a folder of a nightly run", todo="delete it")
    check_can_write(index_of(config))
    return folder


def check(target: Target, run: int, config: Config, folder: Path, history: History) -> TargetResult:
    """Check a target in a subprocess and evaluate the result."""
    started, begin = now(), time.perf_counter()
    found = check_in_subprocess(Job(target, str(config.cache), str(folder), str(config.answers)))
    seconds = time.perf_counter() - begin
    page = beside(folder, target.name, "html" if found.report else "log").relative_to(config.pages).as_posix()
    result = TargetResult(
        run, target.name, started, seconds, found.state, found.scope,
        [Problem(text) for text in found.problems], found.files, versions_of(target),
        page,
    )  # fmt: skip
    if not found.report:
        return result
    try:
        report = report_of_worker(beside(folder, target.name, "json"))
        history.check(replace(result, stages=stages_of(report)))
    except (InputError, LookupError) as error:  # the latter of a stage whose file is not there
        problem = Problem(f"its report is invalid: {error}")
        return replace(result, state=UNCHECKED, problems=[*result.problems, problem])
    return evaluate(report, result, target.gates, target.tolerance, target.compare_since, history)


def record(result: TargetResult, history: History, config: Config) -> None:
    """Record a result, and the change of state that it makes, if somebody is to be told of it."""
    outbox = Outbox(history)
    with history.transaction():
        change = outbox.change_of(result) if config.notify else None
        history.record(result)
        if change:
            outbox.add(change)


def prune(history: History, config: Config, tell: Callable[[str], None]) -> None:
    """Delete reports of old runs, if the config limits how long they stay. One that cannot be deleted is no reason to
    fail."""
    files = old_files(history, config.pages, config.keep) if config.keep < inf else []
    if files:
        try:
            delete(files)
        except OSError as error:
            tell(f"{error.filename}: is old, and cannot be deleted: {error.strerror}")
        else:
            tell(f"deleted {len(files)} reports and logs, {size(sum(file.nbytes for file in files))}, as `keep` says")


def report_of_worker(path: Path) -> Report:
    """Read a worker's report. Raises InputError if it is invalid."""
    try:
        return report_of(json.loads(read_own(path, MOST_OF_A_REPORT)), path, {})
    except (AttributeError, RecursionError, ValueError) as error:
        raise InputError(path, f"{type(error).__name__}: {error}", expected="a report") from error


def versions_of(target: Target) -> dict[str, str]:
    """Versions that the result depends on: packages, and the hashes of a stored reference and an importance matrix on
    this disk."""
    found = versions()
    for name, path in (("reference", target.reference), ("imatrix", target.imatrix)):
        with suppress(InputError):  # then it is what the target could not be checked for
            if os.path.isabs(path) and os.path.isfile(path):
                found[name] = sha256_of(Path(path))[:12]
    return found


def write_page(history: History, config: Config) -> None:
    """Write the page of all targets from the history."""
    names = [target.name for target in config.targets]
    page = as_html(history, names, lambda report: os.path.isfile(config.pages / report))
    write_whole(index_of(config), page.encode())


def index_of(config: Config) -> Path:
    """The path of the page."""
    return config.pages / "index.html"


def now() -> str:
    """The present time, UTC in ISO 8601."""
    return datetime.now(timezone.utc).strftime(TIME)
