"""What a conversion costs before it begins: bytes to download and to write, and how long the download takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.numbers_text import about, size
from mimo_convert.plan.request import Request, sources_of
from mimo_convert.terminal import tell
from quantize.quoting import quoted

WORTH_ASKING = 100_000_000  # bytes of a download: fewer come while one reads the question


@dataclass(frozen=True)
class Cost:
    """The cost of a conversion: bytes to download by checkpoint, bytes to write into `out`, and the rate of the network
    in bytes a second (None: not measured, or nothing is to be downloaded)."""

    downloads: tuple[tuple[str, int], ...]
    write: int
    out: Path
    rate: float | None

    @property
    def download(self) -> int:
        """Bytes to download."""
        return sum(nbytes for _, nbytes in self.downloads)

    @property
    def seconds(self) -> float | None:
        """Seconds that the download takes at that rate."""
        return self.download / self.rate if self.rate else None

    def __str__(self) -> str:
        each = " and ".join(f"{size(nbytes)} of {source}" for source, nbytes in self.downloads if nbytes)
        parts = [f"downloads {each}"] if each else []
        if self.rate and self.seconds is not None:
            parts.append(f"{about(self.seconds)} at the {size(self.rate)}/s measured now")
        return "; ".join([*parts, f"writes {size(self.write)} to {quoted(self.out)}"])


def is_worth_asking(requests: Sequence[Request]) -> bool:
    """Whether so much is to be downloaded that people want to know it before. Raises InputError if the Hub cannot be
    asked."""
    return sum(shards.to_download(files) for _, shards, files in sources_of(requests)) >= WORTH_ASKING


def cost_of(requests: Sequence[Request], write: int, out: Path, *, measured: bool) -> Cost:
    """The cost of writing the files of `requests`, `write` bytes, into `out`; the network is `measured` by reading the
    beginning of a shard. Raises InputError if the Hub cannot be asked."""
    absent = [(name, shards, shards.to_download(files)) for name, shards, files in sources_of(requests)]
    downloads = tuple((name, nbytes) for name, _, nbytes in absent)
    rates = [shards.rate() for _, shards, nbytes in absent if nbytes and measured]
    return Cost(downloads, write, out, min(rates, default=None))


def ask(cost: Cost, agree: Callable[[Cost], bool]) -> None:
    """Tell a cost. Raises KeyboardInterrupt without an agreement to it."""
    tell(str(cost))
    if not agree(cost):
        raise KeyboardInterrupt("nothing was downloaded")
