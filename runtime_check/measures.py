"""How far apart two arrays are, in the numbers that reports and gates are made of; all in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Logarithms = npt.NDArray[np.float64]


def cosines(ours: Array, theirs: Array) -> npt.NDArray[np.float64]:
    """Cosine of each row: (n,). A row that is zero on both sides is not compared; on one side it is 0."""
    a, b = (np.atleast_2d(x).astype(np.float64) for x in (ours, theirs))
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    there = (norms[0] > 0) | (norms[1] > 0)
    product = (norms[0] * norms[1])[there]
    dots = np.einsum("ij,ij->i", a[there], b[there])
    return np.divide(dots, product, out=np.zeros_like(dots), where=product > 0)


def relative_rmse(ours: Array, theirs: Array) -> float:
    """Root mean square of the difference by that of the reference's: 0 if equal, infinite if only that is zero."""
    difference, size = norm(ours - theirs), norm(theirs)
    return difference / size if size else (float("inf") if difference else 0.0)


def norm_ratio(ours: Array, theirs: Array) -> float:
    """The norm of ours by the reference's; 1 if both are zero."""
    a, b = norm(ours), norm(theirs)
    return a / b if b else (float("inf") if a else 1.0)


def norm(x: Array) -> float:
    """Square root of the sum of squares."""
    return float(np.linalg.norm(x.astype(np.float64)))


def log_softmax(logits: Array) -> Logarithms:
    """Logarithms of the probabilities that logits stand for."""
    x = logits.astype(np.float64) - logits.max()
    return np.asarray(x - np.log(np.exp(x).sum()))


def kl_divergence(p: Logarithms, q: Logarithms) -> float:
    """Of q from p, both as logarithms: sum of p × (log p - log q), in nats; at least 0, whatever rounding does."""
    return max(0.0, float(np.sum(np.exp(p) * (p - q)))) if np.isfinite(q).all() else float("nan")
