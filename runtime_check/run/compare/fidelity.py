"""Fidelity: how far files are from the reference over all clips, side by side, with what another choice of clips would
have given.

Intervals are of the percentile bootstrap (Efron 1979) over clips: clips are drawn with replacement, with all their
steps. Every file is judged on the same draws, so that ratios of two files are paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..records import Check, Steps

DRAWS, SEED = 2000, 0
COVERED = 95.0  # % of the draws, that an interval holds
TAIL = 0.99  # the quantile of steps that stands for the worst

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value over all clips, and the interval that holds it in 95 % of the draws of clips."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClipFidelity:
    """A clip: mean KL divergence of its steps in nats, and the share of equal top-1 tokens."""

    clip: str
    sha256: str
    tokens: int
    kl_mean: float | None
    top1: float | None


@dataclass(frozen=True)
class FileFidelity:
    """A file over all clips: KL divergence D(reference ‖ ours) of the steps in nats, its mean, median and 99 %
    quantile; the share of equal top-1 tokens; the mean divided by the first file's; the KL divergence that its
    allocation of types predicted, None if there was none; the number of clips whose response is a loop."""

    file: str
    sha256: str
    bytes: int
    label: str
    bits_per_weight: float | None
    kl_mean: Estimate
    kl_median: Estimate
    kl_p99: Estimate
    top1: Estimate
    of_first: Estimate
    predicted_kl: float | None
    loops: int
    clips: tuple[ClipFidelity, ...]


@dataclass(frozen=True)
class HeldOut:
    """What the clips are to a calibration: the name and hash of its file, whether all of its clips were synthetic, and
    whether the measured clips are those that it holds out; else they are others."""

    calibration: str
    sha256: str
    is_synthetic: bool
    is_held_out: bool


@dataclass(frozen=True)
class Fidelity:
    """Files compared with one reference on the same clips, `sources` of which are of different recordings or speakers,
    `tokens` steps in all; of one recording or speaker, intervals are over its versions. `held_out` is None where
    nothing is known of a calibration."""

    clips: int
    sources: int
    tokens: int
    files: tuple[FileFidelity, ...]
    held_out: HeldOut | None = None

    @property
    def about(self) -> str:
        """The clips in words: how many, of how many sources, and what they are to a calibration."""
        versions = f"{self.clips} versions of one recording or speaker, over which intervals are"
        sources = f" of {self.sources} recordings or speakers" if self.sources < self.clips else ""
        text = f"{versions if self.sources == 1 else f'{self.clips} clips{sources}'}, {self.tokens:,} tokens"
        if not self.held_out:
            return text
        synthetic = ", which was made with synthetic speech" if self.held_out.is_synthetic else ""
        part = "held out by" if self.held_out.is_held_out else "other ones than are held out by"
        return f"{text}, {part} {self.held_out.calibration}{synthetic}"


def fidelity_of(checks: Sequence[Check], held_out: HeldOut | None = None) -> Fidelity | None:
    """The fidelity of every file with steps on two clips or more; None if there is none, or if files were run on
    different ones."""
    by_file: dict[tuple[str, str], list[tuple[Check, Steps]]] = {}
    for check in checks:
        if check.steps and not check.speech:
            by_file.setdefault((check.main.file, check.main.sha256), []).append((check, check.steps))
    sets = {tuple(check.clip.sha256 for check, _ in found) for found in by_file.values()}
    if len(sets) != 1 or len(next(iter(sets))) < 2:
        return None
    first = next(iter(by_file.values()))
    clips = [check.clip.sha256 for check, _ in first]
    sources = [check.clip.source or check.clip.sha256 for check, _ in first]
    drawn = draws(sources if len(set(sources)) > 1 else clips)
    base = means(first, drawn)
    return Fidelity(
        clips=len(clips),
        sources=len(set(sources)),
        tokens=sum(steps.tokens for _, steps in first),
        files=tuple(file_fidelity(found, drawn, base) for found in by_file.values()),
        held_out=held_out,
    )


def draws(sources: Sequence[str]) -> Numbers:
    """How often each clip is in each draw, (1 + DRAWS, clips): first every clip once, then drawn by `sources`, whose
    clips stay together."""
    names = list(dict.fromkeys(sources))
    place = {name: i for i, name in enumerate(names)}
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    drawn = counts[:, [place[source] for source in sources]]
    return np.concatenate([np.ones((1, len(sources))), drawn])


def file_fidelity(found: Sequence[tuple[Check, Steps]], drawn: Numbers, base: Numbers) -> FileFidelity:
    """The fidelity of a file; `base` are the first file's means of each draw."""
    file = found[0][0].main
    kl_mean = means(found, drawn)
    equal = per_step(found, lambda steps: [float(step.top1 == step.reference_top1) for step in steps.steps])
    with np.errstate(all="ignore"):
        ratio = kl_mean / base
    return FileFidelity(
        file=file.file,
        sha256=file.sha256,
        bytes=file.bytes,
        label=file.label,
        bits_per_weight=file.bits_per_weight,
        kl_mean=estimate(kl_mean),
        kl_median=estimate(quantiles(divergences(found), drawn, 0.5)),
        kl_p99=estimate(quantiles(divergences(found), drawn, TAIL)),
        top1=estimate(weighted_means(equal, drawn)),
        of_first=estimate(ratio),
        predicted_kl=file.predicted_kl,
        loops=sum(check.loop is not None for check, _ in found),
        clips=tuple(
            ClipFidelity(check.clip.file, check.clip.sha256, steps.tokens, steps.kl_mean, steps.top1_agreement)
            for check, steps in found
        ),
    )


def divergences(found: Sequence[tuple[Check, Steps]]) -> list[Numbers]:
    """The KL divergences of each clip's steps; NaN where one is not a number."""
    return per_step(found, lambda steps: [np.nan if step.kl is None else step.kl for step in steps.steps])


def per_step(found: Sequence[tuple[Check, Steps]], values: Callable[[Steps], Sequence[float]]) -> list[Numbers]:
    """A value of each step, by clip."""
    return [np.array(values(steps), np.float64) for _, steps in found]


def means(found: Sequence[tuple[Check, Steps]], drawn: Numbers) -> Numbers:
    """The mean KL divergence of the steps of each draw."""
    return weighted_means(divergences(found), drawn)


def weighted_means(values: Sequence[Numbers], drawn: Numbers) -> Numbers:
    """The mean over the steps of each draw: (draws,)."""
    sums, tokens = (np.array([f(one) for one in values], np.float64) for f in (np.sum, np.size))
    return np.asarray(drawn @ sums / (drawn @ tokens))


def quantiles(values: Sequence[Numbers], drawn: Numbers, share: float) -> Numbers:
    """The least value of each draw that at least a `share` of its steps do not exceed: (draws,)."""
    steps = np.concatenate(values)
    if not np.isfinite(steps).all():
        return np.full(len(drawn), np.nan)
    clip_of = np.repeat(np.arange(len(values)), [len(one) for one in values])
    order = np.argsort(steps, kind="stable")
    steps, clip_of = steps[order], clip_of[order]
    found = np.empty(len(drawn))
    for i, counts in enumerate(drawn):
        below = np.cumsum(counts[clip_of])
        found[i] = steps[np.searchsorted(below, share * below[-1])]
    return found


def estimate(by_draw: Numbers) -> Estimate:
    """The value over all clips, which is the first draw's, and the interval of the others."""
    rest = (100 - COVERED) / 2
    low, high = np.percentile(by_draw[1:], [rest, 100 - rest])
    return Estimate(float(by_draw[0]), float(low), float(high))
