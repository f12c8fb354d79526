"""The listener of a command: results on stdout, messages on stderr; bars on a terminal, else a line now and then."""

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import click

from mimo_convert.listener import BYTES, Listener, Progress
from mimo_convert.numbers_text import about, size
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

QUIET, NORMAL, VERBOSE = -1, 0, 1  # verbosity
EVERY = 30.0  # seconds between lines of progress where there is no terminal
DELAY = 0.4  # seconds that a phase takes before it has a bar
LONGEST_NAME = 60  # characters of an item beside a bar
AUTO, ALWAYS, NEVER = "auto", "always", "never"  # when results are coloured
COLORS = {"PASS": "green", "ok": "green", "FAIL": "red", "NOT COMPARED": "yellow"}
VERDICT = re.compile(r"^(PASS|FAIL|NOT COMPARED)\b|\b(ok|FAIL)$", re.MULTILINE)


class Console(Listener):
    """What a command says, by its `verbosity`.

    Results go to stdout, or to stderr where stdout is one of the command's outputs; they are coloured on a terminal,
    unless NO_COLOR is set, or as `color` says. `write`, if given, gets results in the place of a stream.
    """

    def __init__(
        self, verbosity: int = NORMAL, color: str = AUTO, *, to_stderr: bool = False,
        write: Callable[[str], object] | None = None,
    ) -> None:  # fmt: skip
        self.verbosity, self.color, self.to_stderr, self.write = verbosity, color, to_stderr, write
        self.verbose = verbosity >= VERBOSE
        self._bars: dict[str, Any] = {}
        self._begun: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def result(self, text: str, brief: str = "") -> None:
        if self.write:
            self.write(text)
        elif self.verbosity > QUIET:
            self._put(self._colored(text, self._results), self._results)
        if brief and (self.write or self.verbosity == QUIET):
            self.warning(brief)

    def message(self, line: str) -> None:
        if self.verbosity > QUIET:
            self.warning(line)

    def warning(self, line: str) -> None:
        self._put(line, sys.stderr)

    def detail(self, line: str) -> None:
        if self.verbose:
            self.warning(line)

    def progress(self, now: Progress) -> None:
        if self.verbosity == QUIET:
            return
        if sys.stderr.isatty():
            self._draw(now)
        else:
            self._tell(now)
        if now.ended and (begun := self._begun.pop(now.phase, None)):
            self._told.pop(now.phase, None)
            self.detail(f"{_what(now)}; {time.monotonic() - begun:.1f} s")

    @property
    def _results(self) -> TextIO:
        return sys.stderr if self.to_stderr else sys.stdout

    def _put(self, text: str, stream: TextIO) -> None:
        """Write a text above the bars, at once. Raises InputError if it cannot be written."""
        shown = [bar for bar in self._bars.values() if not bar.disable]
        for bar in shown:
            bar.clear()
        try:
            click.echo(text, file=stream, color=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InputError("standard output", f"cannot be written: {reason_of(error)}") from error
        for bar in shown:
            bar.refresh()

    def _colored(self, text: str, stream: TextIO) -> str:
        automatic = stream.isatty() and not os.environ.get("NO_COLOR")
        if self.color == ALWAYS or (self.color == AUTO and automatic):
            return VERDICT.sub(lambda found: click.style(found[0], fg=COLORS[found[0]], bold=True), text)
        return text

    def _draw(self, now: Progress) -> None:
        """Show a bar."""
        from tqdm import tqdm  # late: not every command has progress

        self._begun.setdefault(now.phase, time.monotonic())
        done, total = round(now.done), now.total and max(1, round(now.total))  # which tqdm writes in all their digits
        bar = self._bars.get(now.phase)
        if bar is None:
            bar = self._bars[now.phase] = tqdm(
                desc=quoted(now.phase, LONGEST_NAME), total=total, initial=done, unit=_unit(now.unit),
                unit_scale=now.unit == BYTES, dynamic_ncols=True, leave=False, delay=DELAY, file=sys.stderr,
            )  # fmt: skip
        bar.total = total
        bar.set_postfix_str(quoted(now.item, LONGEST_NAME), refresh=False)
        bar.update(done - bar.n)
        if now.ended:
            self._bars.pop(now.phase).close()

    def _tell(self, now: Progress) -> None:
        """Write a line, if the last is long ago."""
        clock = time.monotonic()
        begun = self._begun.setdefault(now.phase, clock)
        if not now.ended and clock - self._told.setdefault(now.phase, begun) >= EVERY:
            self._told[now.phase] = clock
            left = (now.total - now.done) * (clock - begun) / now.done if now.total and now.done else None
            self.warning(_what(now) + (f"; {about(left)} left" if left is not None else ""))


def _what(now: Progress) -> str:
    """A phase and how far it is: `converting: 3.20 of 16.05 GB, 20%`."""
    n, total = (_amount(value, now.unit) for value in (now.done, now.total or 0))
    done = f"{n.removesuffix(f' {now.unit}')} of {total}, {now.done / now.total:.0%}" if now.total else n
    return f"{quoted(now.phase, LONGEST_NAME)}: {done if now.done or now.total else 'done'}"


def _amount(n: float, unit: str) -> str:
    return size(n) if unit == BYTES else f"{n:,.0f} {unit}"


def _unit(unit: str) -> str:
    return unit if unit == BYTES else f" {unit}"
