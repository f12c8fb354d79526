"""What a conversion costs before it begins: bytes to download and to write, and how long the download takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.numbers_text import size
from mimo_convert.plan.request import Request
from mimo_convert.write.convert import what_is_to_do
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
    def is_worth_asking(self) -> bool:
        """Whether so much is downloaded that people want to know it before."""
        return self.download >= WORTH_ASKING

    @property
    def seconds(self) -> float | None:
        """Seconds that the download takes at that rate."""
        return self.download / self.rate if self.rate else None

    def __str__(self) -> str:
        each = " and ".join(f"{size(nbytes)} of {source}" for source, nbytes in self.downloads if nbytes)
        parts = [f"downloads {each}"] if each else []
        if self.rate and self.seconds is not None:
            parts.append(f"{duration(self.seconds)} at the {size(self.rate)}/s measured now")
        return "; ".join([*parts, f"writes {size(self.write)} to {quoted(self.out)}"])


def cost_of(requests: Sequence[Request], out: Path, *, force: bool, measured: bool) -> Cost:
    """The cost of writing the files of `requests` into `out`, with `force` also those that are there.

    Where much is to be downloaded, the network is `measured` by reading the beginning of a shard. Raises InputError if
    the Hub cannot be asked.
    """
    absent = [(request.model, request.model.shards.to_download(request.files)) for request in requests]
    downloads = tuple((model.name, nbytes) for model, nbytes in absent)
    worth = measured and sum(nbytes for _, nbytes in downloads) >= WORTH_ASKING
    rates = [model.shards.rate() for model, nbytes in absent if nbytes and worth]
    return Cost(downloads, what_is_to_do(requests, out, force=force).nbytes, out, min(rates, default=None))


def duration(seconds: float) -> str:
    """About how long, for people."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"about {max(1, round(seconds))} s"
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.1f} h"
