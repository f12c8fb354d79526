"""How long a clip may be, by the context of the text model."""

from pathlib import Path

from quantize.errors import InputError
from runtime_check.audio.clips import longest_response
from runtime_check.run.system import System

MOST_SECONDS = 24 * 3600  # longer clips are cut even where the context is unbounded


def check_length(system: System, path: Path, seconds: float) -> None:
    """Raise InputError, about the clip `path`, if its prompt leaves no room in the context for a response."""
    n = system.prompt_positions(seconds)
    if system.context is not None and n >= system.context:
        fits = longest(system, response=False)
        raise InputError(
            path, f"needs a prompt of {n} positions", expected=f"fewer than {system.context}",
            todo=f"use at most about {fits} s of audio" if fits else "use a shorter clip",
        )  # fmt: skip


def longest(system: System, *, response: bool = True) -> int:
    """The longest clip, in whole seconds, whose prompt fits into the context, with `response` beside its longest
    response; 0 if none does."""
    if system.context is None:
        return MOST_SECONDS
    room, low, high = system.context - (not response), 0, MOST_SECONDS
    while low < high:
        middle = (low + high + 1) // 2
        needed = system.prompt_positions(middle) + (longest_response(middle) if response else 0)
        low, high = (middle, high) if needed <= room else (low, middle - 1)
    return low
