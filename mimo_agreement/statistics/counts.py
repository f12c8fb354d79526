"""What each answer counts: errors beside the text and beside the baseline's transcript, KL divergence."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime_check.text.words import WordErrors

from ..words import count, unit_of
from .table import Table

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Numbers of each pair that counts, zeros for others: `errors` and `beside`, (files, conditions, clips, 4), are
    words, substitutions, deletions and insertions beside the text and the baseline's transcript; `kl`, (files,
    conditions, clips, 2), is the sum of KL divergences in nats and the number of steps, NaN where none is known."""

    errors: Numbers
    beside: Numbers
    kl: Numbers


def counts_of(table: Table) -> Counts:
    """Count every answer of a table."""
    shape = table.answered.shape
    errors, beside = np.zeros((*shape, 4)), np.zeros((*shape, 4))
    kl = np.full((*shape, 2), np.nan)
    for c, i in np.argwhere(table.counted):
        condition, clip = table.conditions[c], table.clips[i]
        theirs = table.transcript(table.files[table.baseline], condition, clip)
        unit = unit_of(clip.language, table.reference(condition, clip))
        for f, file in enumerate(table.files):
            answer = table.answers[file.sha256, condition, clip.sha256]
            if table.has_texts:
                errors[f, c, i] = _numbers(count(clip.text or "", answer.transcript, clip.language, unit))
            beside[f, c, i] = _numbers(count(theirs, answer.transcript, clip.language, unit))
            if answer.kl is not None and answer.kl_tokens:
                kl[f, c, i] = answer.kl, answer.kl_tokens
    return Counts(errors, beside, kl)


def word_errors(numbers: Numbers) -> WordErrors:
    """The errors of a row of Counts, or of a sum of such."""
    return WordErrors(*(int(number) for number in numbers))


def _numbers(found: WordErrors) -> tuple[int, int, int, int]:
    return found.words, found.substitutions, found.deletions, found.insertions
