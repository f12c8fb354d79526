"""How many processes fit into memory: mapped files are shared, what each takes beside them is its own."""

from collections.abc import Mapping

from mimo_convert.numbers_text import size
from mimo_convert.terminal import tell

PROCESS_BYTES = 200 << 20  # of Python with its libraries, and of clips
OWN = ("working", "repacked")  # memory of a run that no other process shares


def fitting(n: int, memory: Mapping[str, int], mapped: int, available: int) -> int:
    """How many of `n` processes fit, one of which runs and has taken `memory` on its longest clip: bytes `mapped` of
    files are shared, `available` beside what that one holds."""
    return max(1, min(n, 1 + (available - mapped) // own_bytes(memory)))


def own_bytes(memory: Mapping[str, int]) -> int:
    """The bytes that each process takes for itself, where a run took `memory`."""
    return PROCESS_BYTES + sum(memory.get(name, 0) for name in OWN)


def tell_of_fewer(option: str, asked: int, fit: int, memory: Mapping[str, int], mapped: int, available: int) -> None:
    """Tell that fewer processes run than were asked for."""
    takes = f"each takes {size(own_bytes(memory))} beside {size(mapped)} of files that they share"
    tell(f"{option} {asked}: {fit} fit into memory; {takes}, and {size(max(0, available))} more are free")
