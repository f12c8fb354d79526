"""A process that another one of ours started: it ends with it, and how it ended is told."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path


def end_with_parent() -> None:
    """Exit, with the process group, when stdin ends, which the parent holds open: no child outlives it."""

    def kill_at_the_end_of_input() -> None:
        os.read(0, 1)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill_at_the_end_of_input, daemon=True).start()


def be_first_out_of_memory() -> None:
    """Let the kernel kill this process rather than its parent if memory runs out."""
    with suppress(OSError):  # a system without this file
        Path("/proc/self/oom_score_adj").write_text("500")


def signal_name(number: int) -> str:
    """A signal's name, such as SIGKILL, or its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
