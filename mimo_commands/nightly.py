"""`mimo-check nightly` and `mimo-check history`: read the config, call, print."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import Any

from mimo_agreement.store.store import FILE as STORE
from mimo_convert.claims import Claims
from mimo_convert.command.outcome import BAD_INPUT, GATE_FAILED, PASSED
from mimo_convert.files import check_can_write, input_errors, open_regular, write_whole
from mimo_convert.numbers_text import size
from mimo_convert.sqlite_file import SQLITE
from mimo_convert.terminal import show, show_whole, tell
from mimo_families.sources import find_source
from mimo_nightly.config import Config, read_config
from mimo_nightly.config_schema import seconds
from mimo_nightly.history import PASSED as GOOD
from mimo_nightly.history import History, TargetResult
from mimo_nightly.notify.channel import NotSentError
from mimo_nightly.notify.message import trial_message
from mimo_nightly.notify.send import channel_of, notify
from mimo_nightly.prune import old_files
from mimo_nightly.run import index_of, nightly
from mimo_nightly.show import state, trends
from mimo_nightly.show.figures import counted, duration, printable_line, state_word
from mimo_nightly.show.junit import as_junit
from mimo_nightly.show.not_sent import not_sent
from mimo_nightly.show.summary import as_markdown
from quantize.errors import InputError
from quantize.quoting import quoted


def run_nightly(path: Path, names: Sequence[str], junit: Path | None, summary: Path | None, claims: Claims) -> None:
    """Check the targets of a config, print a line each, write the reports, and exit."""
    for output in (junit, summary):
        check_can_write(output)
    config = read_config(path)
    channel = channel_of(config)
    claim_files(config, claims)
    if channel and channel.missing:
        tell(f"notify: {channel.missing}: nobody can be told of changes")
    width = max(len(target.name) for target in config.chosen(names))
    results, begin = [], time.perf_counter()
    with interruptible("the same command resumes here"):
        for result in nightly(config, names, tell):
            results.append(result)
            text = line(result, width)
            show(text, text if result.state != GOOD else "")
    words = [state_word(result.state, result.scope) for result in results]
    show(f"{counted(words)}; {duration(time.perf_counter() - begin)}; {config.pages / 'index.html'}")
    if junit:
        write_whole(junit, as_junit(results))
    if summary:
        with closing(History(config.history)) as history:
            write_whole(summary, as_markdown(results, history).encode())
    if channel:
        with interruptible("what nobody was told of is sent with the next run"):
            notify(config, channel, tell)
    sys.exit(state.status_of(results))


def claim_files(config: Config, claims: Claims) -> None:
    """Claim the files that a config reads and writes. Raises InputError for a collision."""
    for target in config.targets:
        here = [] if target.repo else [target.file, *target.beside.values()]
        sources = [find_source(source) for source in (target.reference, target.reference_tokenizer) if source]
        there = [str(source.path) for source in sources if source and source.path]
        if wanted := target.agreement:
            there += [*wanted.audio, wanted.noise, *([] if target.repo else [wanted.baseline])]
            claims.writes("agreement", config.answers / STORE)
        for file in (*here, *there, *target.audio):
            if file:
                claims.reads(f"target {target.name}", Path(file))
    claims.writes("history", config.history)
    claims.writes("pages", index_of(config))


@contextmanager
def interruptible(then: str) -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C: what is under way is abandoned; the message says what happens `then`."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; {then}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def line(result: TargetResult, width: int) -> str:
    """A target's name, state, time, and first problem."""
    more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
    problem = f"  {printable_line(result.problems[0].text)}{more}" if result.problems else ""
    return f"{result.target:<{width}}  {state_word(result.state, result.scope):<11}  {result.seconds:7.1f} s{problem}"


def dry_run(path: Path, names: Sequence[str]) -> None:
    """Print what a run would check, and which old reports it would delete; nothing is run, written or downloaded."""
    check_config(path, names)
    config = read_config(path)
    if not config.history.exists():
        return
    with closing(History(config.history, read_only=True)) as history:
        for line in not_sent(history):
            show(printable_line(line))
        files = old_files(history, config.pages, config.keep) if config.keep < inf else []
    for file in files:
        show(f"would delete {quoted(file.path)}")
    if config.keep < inf:
        show(f"{len(files)} old reports and logs, {size(sum(file.nbytes for file in files))}")


def check_config(path: Path, names: Sequence[str]) -> None:
    """Print what a config says of its targets, and how changes are told; nothing is run."""
    config = read_config(path)
    targets, channel = config.chosen(names), channel_of(config)
    claim_files(config, Claims())
    for target in targets:
        files = " and ".join((target.file, *target.beside.values()))
        where = f" of {target.repo}@{target.revision}" if target.repo else ""
        compared = f"compared with {target.reference}; at most {duration(target.timeout)}"
        show(printable_line(f"{target.name}: {files}{where}, {compared}"))
        if wanted := target.agreement:
            clips, conditions = ", ".join(wanted.audio), ", ".join(wanted.conditions)
            most = f"at most {wanted.tolerance:+g} points from {wanted.baseline}"
            show(printable_line(f"{target.name}: agreement on {clips} ({conditions}), {most}"))
    if channel:
        missing = f"; {channel.missing}" if channel.missing else ""
        show(printable_line(f"notify: {channel.about()}{missing}"))
    show(f"{quoted(path)}: {len(targets)} target{'s' * (len(targets) != 1)}, nothing was run")


def try_notify(path: Path) -> None:
    """Send a message that says that it is a test, and exit: with status 1 if that fails."""
    config = read_config(path)
    channel = channel_of(config)
    if channel is None:
        raise InputError(path, "has no [notify]", expected="a table with command or webhook_env")
    with interruptible("the test message may not have arrived"):
        try:
            channel.send(trial_message(config))
        except NotSentError as error:
            tell(printable_line(f"notify: {error}"))
            sys.exit(GATE_FAILED)
    show(f"a test message was sent: {channel.about()}")


def print_history(path: Path, target: str | None, as_json: bool, max_age: float | None) -> None:
    """Print the state of a config's targets, or of those of a history file, and exit with the status of the last
    results."""
    config = None if is_history(path) else read_config(path)
    file = config.history if config else path
    if not file.exists():
        raise InputError(file, "there is no history yet", todo="run `mimo-check nightly` first")
    with closing(History(file)) as history:
        text = trends.as_text(history, target, full=not sys.stdout.isatty())
        targets = [target] if target else [one.name for one in config.targets] if config else history.targets()
        show_whole(state.as_json(history, targets, runs=target is not None) if as_json else text)
        late = [] if max_age is None else list(state.stale(history, targets, max_age))
        for one in late:
            tell(printable_line(one))
        status = state.status_of(list(state.newest(history, targets).values()))
    sys.exit(status or (BAD_INPUT if late else PASSED))


def is_history(path: Path) -> bool:
    """Whether a file is a history, and not a config. Raises InputError if it cannot be read."""
    with open_regular(path, expected="a config, or a history") as stream, input_errors(path, "cannot be read"):
        return bool(stream.read(len(SQLITE)) == SQLITE)


def age(text: str) -> float:
    """The seconds of --max-age. Raises InputError."""
    try:
        return seconds(text)
    except ValueError as error:
        raise InputError("--max-age", repr(text), expected="a time such as 36h, 90 min or 2 d") from error
