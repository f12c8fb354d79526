"""A nightly run: every target is checked in turn, judged and recorded; a run that was interrupted goes on."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mimo_convert.disk import sha256_of
from mimo_convert.files import check_can_write, write_whole
from quantize.errors import InputError
from runtime_check.report import versions
from runtime_check.verdicts import Report, verdicts

from .child import Job, beside, check_in_child
from .config import Config, Target
from .history import UNCHECKED, History, TargetResult
from .judge import judge, stages_of
from .lock import locked
from .own_files import read_own
from .page import as_html

MOST_OF_A_REPORT = 1 << 28  # bytes
TIME = "%Y-%m-%dT%H:%M:%SZ"
GOES_ON_FOR = timedelta(hours=20)  # less than a day, and what timers vary by: last night's findings are not tonight's


def nightly(config: Config, names: Sequence[str], tell: Callable[[str], None]) -> Iterator[TargetResult]:
    """Check the targets of these names, or all; yields what was found of each as soon as it is recorded.

    Raises InputError if another run is under way, or if there is no place for the history or the pages.
    """
    targets = config.chosen(names)
    with ExitStack() as stack:
        for path in (config.history, *([config.cache] if any(target.repo for target in targets) else [])):
            stack.enter_context(locked(path, now()))
        history = stack.enter_context(closing(History(config.history)))
        for target in targets:
            if (since := target.compare_since) > now():
                tell(f"{target.name}: compare_since is {since}: until then, no run is compared with others")
        run, done = begin_or_go_on(history, config, names, tell)
        folder = run_folder(config, run)
        for target in targets:
            if target.name not in done:
                done[target.name] = check(target, run, config, folder, history)
                history.record(done[target.name])
                write_page(history, config)
            yield done[target.name]
        history.finish(run, now())
        write_page(history, config)


def begin_or_go_on(
    history: History, config: Config, names: Sequence[str], tell: Callable[[str], None]
) -> tuple[int, dict[str, TargetResult]]:
    """A run's number, and what it has found already: a new one, unless the last with the same config did not end."""
    asked = config.sha256 if not names else hashlib.sha256(f"{config.sha256} {sorted(set(names))}".encode()).hexdigest()
    oldest = (datetime.now(timezone.utc) - GOES_ON_FOR).strftime(TIME)
    for run in reversed(history.runs()):
        if run.config_sha256 == asked and not run.finished and run.started > oldest:
            done = {result.target: result for result in history.of_run(run.run)}
            tell(f"going on with run {run.run}, begun {run.started}; done already: {', '.join(done) or 'none'}")
            return run.run, done
    return history.begin(now(), asked), {}


def run_folder(config: Config, run: int) -> Path:
    """The folder of a run's reports, which is made. Raises InputError if it cannot be, or the page not be written."""
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
    """What a child process finds of a target, judged."""
    started, begin = now(), time.perf_counter()
    found = check_in_child(Job(target, str(config.cache), str(folder)))
    seconds = time.perf_counter() - begin
    page = beside(folder, target.name, "html" if found.report else "log").relative_to(config.pages).as_posix()
    result = TargetResult(
        run, target.name, started, seconds, found.state, found.scope, found.problems, found.files, versions_of(target),
        page,
    )  # fmt: skip
    if not found.report:
        return result
    try:
        report = read_report(beside(folder, target.name, "json"))
        history.check(replace(result, stages=stages_of(report)))
    except InputError as error:
        return replace(result, state=UNCHECKED, problems=[*found.problems, f"its report makes no sense: {error}"])
    return judge(report, result, target.gates, target.tolerance, target.compare_since, history)


def read_report(path: Path) -> Report:
    """The report that a child wrote. Raises InputError if it is none that could be judged."""
    try:
        report: Report = json.loads(read_own(path, MOST_OF_A_REPORT))
        stages_of(report)
        verdicts(report)
        return report | {"passed": report["passed"]}
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(path, f"{type(error).__name__}: {error}", expected="a report") from error


def versions_of(target: Target) -> dict[str, str]:
    """What the result depends on beside the files: the packages, and the reference's hash, if it is a stored one."""
    found = versions()
    with suppress(InputError):  # then it is what the target could not be checked for
        if target.reference:
            found["reference"] = sha256_of(Path(target.reference))[:12]
    return found


def write_page(history: History, config: Config) -> None:
    """The page of all targets, whole, as the history has them by now."""
    page = as_html(history, [target.name for target in config.targets])
    write_whole(index_of(config), page.encode())


def index_of(config: Config) -> Path:
    return config.pages / "index.html"


def now() -> str:
    """UTC in ISO 8601."""
    return datetime.now(timezone.utc).strftime(TIME)
