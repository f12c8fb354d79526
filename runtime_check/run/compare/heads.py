"""Heads under teacher forcing: at each of many choices behind the same ids, the scores of ours and of the reference."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_check.gate import Gate, Subject, at_least, at_most, must_hold

from ..records import HeadResult
from .measures import kl_divergence, log_softmax
from .steps import number
from .thresholds import HeadThreshold

Array = npt.NDArray[Any]


def compare_head(
    subject: Subject, ours: Array, theirs: Array, threshold: HeadThreshold
) -> tuple[HeadResult | None, list[Gate]]:
    """Compare the scores of a head, (…, choices, vocabulary), choice by choice; no result if the shapes differ."""
    if ours.shape != theirs.shape:
        return None, [must_hold(subject, "shape", False, f"shape {ours.shape}, expected {theirs.shape}")]
    rows = list(zip(*(x.reshape(-1, x.shape[-1]) for x in (ours, theirs)), strict=True))
    with np.errstate(all="ignore"):  # what is not finite fails by its threshold
        kls = [kl_divergence(log_softmax(expected), log_softmax(found)) for found, expected in rows]
    equal = [int(found.argmax()) == int(expected.argmax()) for found, expected in rows]
    result = HeadResult(
        subject.stage, subject.role, len(rows), float(np.mean(equal)), float(np.mean(kls)), float(np.max(kls))
    )
    return result, list(head_gates(subject, result, threshold))


def head_gates(subject: Subject, head: HeadResult, threshold: HeadThreshold) -> Iterator[Gate]:
    """The gates over all choices of a head."""
    note = f", over {head.choices} choices"
    yield at_least(subject, "head_top1", number(head.top1_agreement), threshold.top1, "{:.1%}", note)
    note = f" nats a choice; the largest is {number(head.kl_max):.6f}"
    yield at_most(subject, "head_kl", number(head.kl_mean), threshold.kl_mean, "{:.6g}", note)
