"""`mimo-check nightly` and `mimo-check history`: read the config, call, print."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, input_errors, open_regular, write_whole
from mimo_convert.outcome import BAD_INPUT, GATE_FAILED, PASSED
from mimo_convert.terminal import show, tell
from mimo_nightly.config import Config, read_config
from mimo_nightly.history import FAILED, UNCHECKED, History, TargetResult
from mimo_nightly.run import index_of, nightly
from mimo_nightly.show.figures import counted, duration, printable_line, state_word
from mimo_nightly.show.junit import as_junit
from mimo_nightly.show.summary import as_markdown
from mimo_nightly.show.trends import as_text
from mimo_nightly.tables import SQLITE
from quantize.errors import InputError


def run_nightly(path: Path, names: Sequence[str], junit: Path | None, summary: Path | None, claims: Claims) -> None:
    """Check the targets of a config, print a line each, write the reports, and exit."""
    for output in (junit, summary):
        check_can_write(output)
    config = read_config(path)
    claim_files(config, claims)
    width = max(len(target.name) for target in config.chosen(names))
    results, begin = [], time.perf_counter()
    with interruptible():
        for result in nightly(config, names, tell):
            results.append(result)
            show(line(result, width))
    words = [state_word(result.state, result.scope) for result in results]
    show(f"{counted(words)}; {duration(time.perf_counter() - begin)}; {config.pages / 'index.html'}")
    if junit:
        write_whole(junit, as_junit(results))
    if summary:
        with closing(History(config.history)) as history:
            write_whole(summary, as_markdown(results, history).encode())
    sys.exit(exit_status(results))


def claim_files(config: Config, claims: Claims) -> None:
    """Claim the files that a config reads and writes. Raises InputError for a collision."""
    for target in config.targets:
        here = [] if target.repo else [target.file, target.tokenizer]
        for file in (*here, target.reference, target.checkpoint, target.checkpoint_tokenizer, *target.audio):
            if file:
                claims.reads(f"target {target.name}", Path(file))
    claims.writes("history", config.history)
    claims.writes("pages", index_of(config))


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C: the current target is abandoned, and the same command resumes the run."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command resumes here") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def line(result: TargetResult, width: int) -> str:
    """A target's name, state, time, and first problem."""
    more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
    problem = f"  {printable_line(result.problems[0].text)}{more}" if result.problems else ""
    return f"{result.target:<{width}}  {state_word(result.state, result.scope):<11}  {result.seconds:7.1f} s{problem}"


def exit_status(results: Sequence[TargetResult]) -> int:
    """1 if a target failed, 2 if none did and one could not be checked."""
    states = {result.state for result in results}
    return GATE_FAILED if FAILED in states else BAD_INPUT if UNCHECKED in states else PASSED


def print_history(path: Path, target: str | None) -> None:
    """Print the trends of a config's history, or of a history file."""
    file = history_file(path)
    if not file.exists():
        raise InputError(file, "there is no history yet", todo="run `mimo-check nightly` first")
    with closing(History(file)) as history:
        show(as_text(history, target))


def history_file(path: Path) -> Path:
    """The file itself if it is a history, else the one that it names as a config. Raises InputError."""
    with open_regular(path, expected="a config, or a history") as stream, input_errors(path, "cannot be read"):
        if stream.read(len(SQLITE)) == SQLITE:
            return path
    return read_config(path).history
