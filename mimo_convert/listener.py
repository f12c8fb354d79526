"""The listener of the work at hand: what is found, messages, and progress go to it.

A command's console writes them (mimo_commands/console.py), the Python interface hands them to callbacks; threads of the
package that report something run in a copy of the context.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

BYTES = "B"
BEAT = 1.0  # seconds between reports of a phase that only takes its time


class Progress(NamedTuple):
    """How far a phase is: `done` of `total` (None: unknown), in `unit` (`B`: bytes), at `item`; `ended`: nothing more
    comes of it."""

    phase: str
    done: float
    total: float | None
    unit: str
    item: str = ""
    ended: bool = False


OnProgress = Callable[[Progress], object]
OnMessage = Callable[[str], object]


class Listener:
    """A listener that ignores everything; `verbose`: it wants details."""

    verbose = False

    def result(self, text: str, brief: str = "") -> None:
        """A result as text, which may have several lines; `brief` is what must be said of it where quiet was asked
        for."""

    def message(self, line: str) -> None:
        """A message about the work at hand."""

    def warning(self, line: str) -> None:
        """A message that must not be missed."""

    def detail(self, line: str) -> None:
        """A message for those who want to know more."""

    def progress(self, now: Progress) -> None:
        """The progress of a phase; several may run at once."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_PHASES: ContextVar[tuple["Phase", ...]] = ContextVar("phases", default=())  # that are running, the innermost last


def listener() -> Listener | None:
    """The listener of the work at hand, if there is one."""
    return _LISTENER.get()


class Callbacks(Listener):
    """A listener that hands progress and messages on."""

    def __init__(self, progress: OnProgress, message: OnMessage) -> None:
        self.on_progress, self.on_message = progress, message

    def message(self, line: str) -> None:
        self.on_message(line)

    def warning(self, line: str) -> None:
        self.on_message(line)

    def progress(self, now: Progress) -> None:
        self.on_progress(now)


@contextmanager
def heard_by(progress: OnProgress | None, message: OnMessage | None) -> Iterator[None]:
    """Let callbacks hear of the work of the block; without any, whoever listens already, or nobody."""
    if listener() and not progress and not message:
        yield
        return
    with listening(Callbacks(progress or (lambda now: None), message or (lambda line: None))):
        yield


@contextmanager
def listening(one: Listener) -> Iterator[None]:
    """Let `one` hear of the work of the block."""
    token = _LISTENER.set(one)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class Phase:
    """A phase of the work, which tells the listener how far it is. Threads may advance it at once."""

    def __init__(self, name: str, total: float | None = None, unit: str = BYTES, done: float = 0) -> None:
        self.now = Progress(name, done, total, unit)
        self._listener, self._one_at_a_time = listener(), threading.RLock()
        self._tell()

    def advance(self, n: float, item: str = "") -> None:
        """So much more is done."""
        with self._one_at_a_time:
            self.reach(self.now.done + n, item)

    def reach(self, done: float, item: str = "") -> None:
        """So much is done in all."""
        with self._one_at_a_time:
            total = None if self.now.total is not None and done > self.now.total else self.now.total
            self.now = self.now._replace(done=done, total=total, item=item)
            self._tell()

    def end(self) -> None:
        """Nothing more comes."""
        with self._one_at_a_time:
            self.now = self.now._replace(ended=True)
            self._tell()

    def _tell(self) -> None:
        if self._listener:
            self._listener.progress(self.now)


@contextmanager
def phase(name: str, total: float | None = None, unit: str = BYTES, *, done: float = 0) -> Iterator[Phase]:
    """Report the block as a phase of the work, of which `done` of `total` units are done already."""
    begun = Phase(name, total, unit, done)
    token = _PHASES.set((*_PHASES.get(), begun))
    try:
        yield begun
    finally:
        _PHASES.reset(token)
        begun.end()


@contextmanager
def timed_phase(name: str) -> Iterator[None]:
    """Report the block as a phase of which only the time is known that it has taken, in seconds, now and then."""
    with phase(name, unit="s") as running:
        begun, over = time.monotonic(), threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                running.reach(time.monotonic() - begun)

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()


def advance(n: float, item: str = "") -> None:
    """So much more is done of the phase that is running, if there is one."""
    for running in _PHASES.get()[-1:]:
        running.advance(n, item)
