"""Notes on what does not count, and on answers that raise doubts about the input."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from quantize.quoting import quoted

from ..records import ALL_CONDITIONS, ModelFiles, Row, SpokenClip
from ..words import count, unit_of, words_of
from .counts import Counts
from .table import Table, text_words

NAMED = 3  # of a longer list
MOST_WRONG = 0.5  # a rate of errors from which on a transcript may be another clip's, or a baseline another model's
FITS = 0.25  # a rate of errors up to which a transcript is taken to be that of a text
LEAST_WORDS = 3  # of a text that is recognized among others
MOST_CHECKED = 50  # transcripts of a file that are compared with all texts


def notes_of(table: Table, counts: Counts, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence on each: pairs without an answer, clips without words, unknown KL divergences, transcripts that
    are the text of another clip, and a baseline that none agrees with."""
    yield from _unanswered(table)
    yield from _without_words(table)
    yield from _unknown_kl(table, counts)
    yield from _swapped(table, counts)
    yield from _foreign_baseline(table, rows)


def _unanswered(table: Table) -> Iterator[str]:
    n = table.answered[0].size
    for file, answered in zip(table.files, table.answered, strict=True):
        if missing := n - int(answered.sum()):
            what = f"has no answer to {missing:,} of {n:,} pairs of clip and condition"
            yield f"{_name(file)} {what}: they count for no file"


def _without_words(table: Table) -> Iterator[str]:
    no_text = [clip for clip in table.clips if not clip.text]
    if no_text and table.has_texts:
        yield f"{_names(no_text)} without a text: not counted"
    if empty := [clip for clip in table.clips if clip.text and not text_words(clip)]:
        yield f"{_names(empty)} whose text has no words, once it is normalised: not counted"


def _unknown_kl(table: Table, counts: Counts) -> Iterator[str]:
    known = ~np.isnan(counts.kl[..., 1])
    if not known.any():
        return
    n = int(known.any(axis=0).sum())
    for f, file in enumerate(table.files):
        if not np.isfinite(counts.kl[f, ..., 0][known[f]]).all():
            yield f"{_name(file)} has KL divergences that are not finite: their mean is not known"
        if missing := n - int(known[f].sum()):
            yield f"{_name(file)} has no KL divergence of {missing:,} of {n:,} pairs that others have one of"


def _swapped(table: Table, counts: Counts) -> Iterator[str]:
    """Transcripts that are wrong beside their own text and right beside another's, in the first condition."""
    if not table.has_texts:
        return
    texts = [text_words(clip) for clip in table.clips]
    bags = [Counter(words) for words in texts]
    for f, file in enumerate(table.files):
        words, *wrong = np.moveaxis(counts.errors[f, 0], -1, 0)
        suspects = np.flatnonzero(table.counted[0] & (words >= LEAST_WORDS) & (sum(wrong) >= MOST_WRONG * words))
        for i in suspects[:MOST_CHECKED]:
            clip = table.clips[i]
            transcript = table.transcript(file, table.conditions[0], clip)
            said = Counter(words_of(transcript, clip.language, unit_of(clip.language, clip.text or "")))
            for j, other in enumerate(table.clips):
                if j == i or len(texts[j]) < LEAST_WORDS or (said & bags[j]).total() < (1 - FITS) * len(texts[j]):
                    continue
                rate = count(other.text or "", transcript, other.language).rate
                if rate is not None and rate <= FITS:
                    heard = f"what {_name(file)} heard in {quoted(clip.name)} is the text of {quoted(other.name)}"
                    yield f"{heard}: their texts or answers may be swapped"
                    break


def _foreign_baseline(table: Table, rows: Sequence[Row]) -> Iterator[str]:
    baseline = table.files[table.baseline]
    others = [row for row in rows if row.condition == ALL_CONDITIONS and row.file != baseline.sha256]
    if others and all((row.disagreement.value or 0) >= MOST_WRONG for row in others):
        yield f"no file agrees with half of the words of the baseline {_name(baseline)}: it may be of another model"


def _name(file: ModelFiles) -> str:
    return quoted(file.file)


def _names(clips: Sequence[SpokenClip]) -> str:
    names = ", ".join(quoted(clip.name) for clip in clips[:NAMED])
    more = ", …" if len(clips) > NAMED else ""
    return f"{len(clips):,} {'clip' if len(clips) == 1 else 'clips'} ({names}{more})"
