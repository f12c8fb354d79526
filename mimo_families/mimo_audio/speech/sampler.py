"""Samplers of text ids and codes: temperature, top-k, top-p, forbidden ids, then argmax or a draw (MiMo-Audio,
modeling_mimo_audio.py); their reference is `reference.py`."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]  # (vocabulary,)


class Sampler(NamedTuple):
    """Settings of a sampler. Filters apply also where nothing is drawn; `top_k` 0 and `top_p` 1 keep every score."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    draws: bool = True


GREEDY = Sampler(draws=False)
LOCAL = Sampler(temperature=0.9, top_p=0.95)  # of codes, in every task


class Noise:
    """Exponential noise, Exp(1), for draws; the same for the same `seed`."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def __call__(self, n: int) -> Scores:
        """(n,) float32, above zero."""
        noise = self.generator.standard_exponential(n, np.float32)
        return np.maximum(noise, np.finfo(np.float32).tiny)


class Choice(NamedTuple):
    """A chosen id; `dropped`: filters left only forbidden ids, which were dropped before filtering for this draw."""

    id: int
    dropped: bool


def choose(scores: Scores, sampler: Sampler, forbidden: Collection[int], noise: Noise) -> Choice:
    """Choose an id by its scores, (vocabulary,) float32. Noise is used only if the sampler draws."""
    scaled = scores / np.float32(sampler.temperature)
    kept = filtered(scaled, sampler)
    ids = list(forbidden)
    kept[ids] = -np.inf
    dropped = bool(np.isneginf(kept).all())
    if dropped:
        scaled[ids] = -np.inf
        kept = filtered(scaled, sampler)
    if not sampler.draws:
        return Choice(int(kept.argmax()), dropped)
    return Choice(draw(softmax(kept), noise(len(kept))), dropped)


def filtered(scores: Scores, sampler: Sampler) -> Scores:
    """Scores with those outside of top-k and top-p (Holtzman et al. 2020) at -infinity.

    Top-k keeps all scores that equal the k-th largest. Top-p drops the smallest scores while their probabilities add up
    to at most 1 - p, but never the largest; equal scores at its edge are kept.
    """
    kept = scores.copy()
    if 0 < sampler.top_k < len(kept):
        kept[kept < np.partition(kept, -sampler.top_k)[-sampler.top_k]] = -np.inf
    if 0 < sampler.top_p < 1:
        ascending = np.sort(kept)
        below = np.cumsum(softmax(ascending)) <= np.float32(1 - sampler.top_p)
        below[-1] = False
        kept[kept < ascending[below.argmin()]] = -np.inf
    return kept


def draw(probabilities: Scores, noise: Scores) -> int:
    """Draw from (vocabulary,) probabilities with Exp(1) noise: argmax(p / e), as torch.multinomial does."""
    return int((probabilities / noise).argmax())


def softmax(scores: Scores) -> Scores:
    """Softmax of (vocabulary,) scores."""
    exponentials: npt.NDArray[Any] = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()
