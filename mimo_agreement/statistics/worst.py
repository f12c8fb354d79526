"""The worst answers of each file."""

from collections.abc import Iterator

import numpy as np

from ..records import WorstClip
from .counts import Counts, word_errors
from .table import Table

WORST = 10  # answers of a file that are shown


def worst_of(table: Table, counts: Counts) -> Iterator[WorstClip]:
    """Yield up to WORST answers of each file that have the most errors, beside the texts, or the baseline's transcripts
    if there are none; of equally many, those with fewer words first."""
    numbers = counts.errors if table.has_texts else counts.beside
    pairs = np.argwhere(table.counted)  # by condition, then by the clips' hashes
    for f, file in enumerate(table.files):
        errors = [numbers[f, c, i] for c, i in pairs]
        order = sorted(range(len(pairs)), key=lambda n: (-errors[n][1:].sum(), errors[n][0], n))
        for n in order[:WORST]:
            found = word_errors(errors[n])
            if found.errors:
                condition, clip = table.conditions[pairs[n][0]], table.clips[pairs[n][1]]
                text = table.reference(condition, clip)
                yield WorstClip(
                    file.sha256, clip.name, clip.sha256, condition, found, text,
                    table.transcript(file, condition, clip),
                )  # fmt: skip
