"""The agreement of files, from their answers."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..records import (
    ALL_CONDITIONS,
    CHARACTERS,
    WORDS,
    Agreement,
    Answer,
    ModelFiles,
    Pair,
    Quarantined,
    SpokenClip,
)
from ..words import unit_of
from .counts import Counts, counts_of
from .doubts import notes_of
from .front import Point, front
from .rows import rows_of
from .table import Table, table_of
from .verdict import verdict_of
from .worst import worst_of


def agreement_of(
    files: Sequence[ModelFiles], clips: Sequence[SpokenClip], conditions: Sequence[str],
    answers: Iterable[tuple[Pair, Answer]], *, baseline: str, seed: int, quarantined: Sequence[Quarantined] = (),
    versions: Mapping[str, str] | None = None,
) -> Agreement:  # fmt: skip
    """The agreement of `files` on `clips` in `conditions` (their names), bit for bit the same whatever the order of
    `answers` and `clips`; answers of other files, clips, conditions or seeds are left out.

    `baseline` is the SHA-256 of one of the files. Only pairs that all files have answered count; notes tell the rest.
    Raises InputError for the same file, clip or condition twice, two answers to one pair, or an unknown baseline.
    """
    table = table_of(files, clips, conditions, answers, baseline, seed)
    counts = counts_of(table)
    rows = tuple(rows_of(table, counts))
    overall = [row for row in rows if row.condition == ALL_CONDITIONS]
    nbytes = {file.sha256: file.all_bytes for file in files}
    rate = [row.wer.value if table.has_texts else row.disagreement.value for row in overall]
    unit = unit_of_all(table)
    smallest, text = verdict_of(files, overall, baseline, words_once(table, counts), unit)
    return Agreement(
        baseline=baseline,
        unit=unit,
        has_texts=table.has_texts,
        seed=seed,
        conditions=table.conditions,
        clips=table.clips,
        files=table.files,
        rows=rows,
        worst=tuple(worst_of(table, counts)),
        front_wer=front([Point(row.file, nbytes[row.file], one) for row, one in zip(overall, rate, strict=True)]),
        front_kl=front([Point(row.file, nbytes[row.file], row.kl.value if row.kl else None) for row in overall]),
        smallest=smallest,
        verdict=text,
        quarantined=tuple(quarantined),
        versions=dict(versions or {}),
        notes=tuple(notes_of(table, counts, rows)),
    )


def unit_of_all(table: Table) -> str:
    """CHARACTERS if every clip that counts is counted in them, else WORDS."""
    units = {
        unit_of(table.clips[i].language, table.reference(table.conditions[c], table.clips[i]))
        for c, i in np.argwhere(table.counted)
    }
    return CHARACTERS if units == {CHARACTERS} else WORDS


def words_once(table: Table, counts: Counts) -> int:
    """The words that error rates are of, each clip's once, in however many conditions it was heard."""
    numbers = counts.errors if table.has_texts else counts.beside
    return int(numbers[table.baseline, ..., 0].max(axis=0, initial=0).sum())
