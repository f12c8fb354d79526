"""Distance measures between arrays, in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Logarithms = npt.NDArray[np.float64]


def cosines(ours: Array, theirs: Array) -> npt.NDArray[np.float64]:
    """Cosine similarity ⟨a, b⟩ / (‖a‖ ‖b‖) of each row: (n, d) → (n,). Rows that are zero on both sides are skipped;
    zero on one side gives 0."""
    a, b = (np.atleast_2d(x).astype(np.float64) for x in (ours, theirs))
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    there = (norms[0] > 0) | (norms[1] > 0)
    product = (norms[0] * norms[1])[there]
    dots = np.einsum("ij,ij->i", a[there], b[there])
    return np.divide(dots, product, out=np.zeros_like(dots), where=product > 0)


def relative_rmse(ours: Array, theirs: Array) -> float:
    """RMSE relative to the RMS of the reference, ‖ours - theirs‖ / ‖theirs‖: 0 if equal, infinite relative to zero."""
    difference, size = norm(ours - theirs), norm(theirs)
    return difference / size if size else (float("inf") if difference else 0.0)


def snr_db(ours: Array, theirs: Array) -> float:
    """Signal-to-noise ratio of ours, 20 log₁₀(‖theirs‖ / ‖ours - theirs‖) in dB; infinite if equal."""
    error = relative_rmse(ours, theirs)
    return -20 * float(np.log10(error)) if error else float("inf")


def mean_difference(ours: Array, theirs: Array) -> float:
    """The mean of |ours - theirs|; 0 for empty arrays."""
    return float(np.abs(ours.astype(np.float64) - theirs).mean()) if ours.size else 0.0


def norm_ratio(ours: Array, theirs: Array) -> float:
    """‖ours‖ / ‖theirs‖; 1 if both are zero."""
    a, b = norm(ours), norm(theirs)
    return a / b if b else (float("inf") if a else 1.0)


def norm_ratios(ours: Array, theirs: Array) -> npt.NDArray[np.float64]:
    """‖a‖ / ‖b‖ of each row: (n, d) → (n,). Rows that are zero in the reference are skipped."""
    a, b = (np.linalg.norm(np.atleast_2d(x).astype(np.float64), axis=1) for x in (ours, theirs))
    return np.asarray(a[b > 0] / b[b > 0])


def norm(x: Array) -> float:
    """Euclidean norm."""
    return float(np.linalg.norm(x.astype(np.float64)))


def log_softmax(logits: Array) -> Logarithms:
    """Log-probabilities of logits (vocab_size,)."""
    x = logits.astype(np.float64) - logits.max()
    return np.asarray(x - np.log(np.exp(x).sum()))


def kl_divergence(p: Logarithms, q: Logarithms) -> float:
    """KL divergence D(p ‖ q) = Σ p (log p - log q) of log-probabilities, in nats; clamped at 0, NaN if q is not
    finite."""
    return max(0.0, float(np.sum(np.exp(p) * (p - q)))) if np.isfinite(q).all() else float("nan")
