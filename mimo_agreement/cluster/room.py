"""How many processes of a worker run at once: no more than fit into memory, as `--workers` has it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Condition

from mimo_agreement.run.processes.fitting import fitting
from runtime_check.ggml.repack import available_memory


class Room:
    """Room for at most `most` processes, which share `mapped` bytes of files. The first runs alone: what it takes tells
    how many fit."""

    def __init__(self, most: int, mapped: int, available: Callable[[], int] = available_memory) -> None:
        self.most, self.mapped, self.available = most, mapped, available
        self.fit, self.running, self.is_measured = 1, 0, False
        self.changed = Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for room for a process, and take it for the block."""
        with self.changed:
            self.changed.wait_for(lambda: self.running < self.fit)
            self.running += 1
        try:
            yield
        finally:
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def measure(self, memory: Mapping[str, int]) -> str:
        """Let as many processes run as fit, by the memory that the first answer took; what is to be said of it."""
        with self.changed:
            if self.is_measured:
                return ""
            self.is_measured = True
            self.fit = fitting(self.most, memory, self.mapped, self.available())
            self.changed.notify_all()
        return f"{self.fit} of {self.most} threads run, which fit into memory" if self.fit < self.most else ""
