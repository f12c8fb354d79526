"""Numbers as text; an unknown number is a dash."""

from collections.abc import Callable
from typing import Any

NOTHING = "–"
TIMINGS = {
    "load_s": "load", "repack_s": "repack", "tokenize_s": "tokenize", "encode_s": "encode audio",
    "decode_s": "decode audio", "prefill_s": "prefill", "speak_s": "generate",
    "ms_per_token": "each token", "proof_s": "teacher forcing", "reference_s": "reference",
}  # fmt: skip


def _number(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: write(value) if isinstance(value, (int, float)) else NOTHING


def _size(value: float) -> str:
    """Decimal, as disks and the Hub give it."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if value >= u), (1.0, "bytes"))
    return f"{value / unit:.2f} {name}" if unit > 1 else f"{value:.0f} {name}"


cosine = _number(lambda value: f"{value:.6f}".replace("-", "−"))
gate = _number("{:.3f}".format)
percent = _number("{:.2%}".format)
rate = _number("{:.1%}".format)
plain = _number("{:g}".format)
brief = _number("{:.2g}".format)
count = _number("{:,}".format)
decimals = _number("{:.2f}".format)
times = _number("{:.2f}×".format)
seconds = _number(lambda value: f"{value:.3g} s" if value < 100 else f"{value:,.0f} s")
decibels = _number("{:.1f} dB".format)
milliseconds = _number("{:.3g} ms".format)
size = _number(_size)
small = _number(lambda value: f"{value:.1e}" if 0 < value < 1e-4 else f"{value:.6f}" if value else "0")


def about(seconds: float) -> str:
    """About how long, for people who wait."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"about {max(1, round(seconds))} s"
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.1f} h"


def timings(found: dict[str, float]) -> list[tuple[str, str]]:
    """(phase, duration) as text, in the order of the run."""
    write = {True: milliseconds, False: seconds}
    return [(TIMINGS.get(name, name), write[name.startswith("ms_")](value)) for name, value in found.items()]


def times_expected(found: float | None, expected: float | None) -> float | None:
    """The ratio of a tensor's error to the expected error; None if none is expected."""
    return found / expected if found is not None and expected else None


def token(text: str) -> str:
    """A token's text with line breaks and tabs made visible."""
    return text.translate({ord("\n"): "⏎", ord("\r"): "␍", ord("\t"): "⇥"})


FILTERS: dict[str, Callable[..., Any]] = {
    "cosine": cosine, "gate": gate, "percent": percent, "rate": rate, "plain": plain, "brief": brief, "count": count,
    "decimals": decimals, "times": times, "seconds": seconds, "size": size, "small": small, "timings": timings,
    "times_expected": times_expected, "token": token,
}  # fmt: skip
