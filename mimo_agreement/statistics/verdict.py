"""The verdict, in one sentence: the smallest file that is good enough."""

from collections.abc import Sequence
from typing import NamedTuple

from mimo_convert.numbers_text import percent, size
from quantize.quoting import quoted
from runtime_check.report.records import file_name
from runtime_check.run.compare.fidelity import COVERED

from ..records import CHARACTERS, ModelFiles, Row

POINT = 0.01  # of an error rate: the upper end of a difference's interval must not exceed it
LEAST_WORDS = 300
INTERVAL = f"{COVERED:g} % interval"


class Verdict(NamedTuple):
    """The SHA-256 of the smallest file that is within a POINT of the baseline, None if there is none, and a
    sentence."""

    smallest: str | None
    text: str


def verdict_of(files: Sequence[ModelFiles], rows: Sequence[Row], baseline: str, words: int, unit: str) -> Verdict:
    """The verdict on `rows` of all conditions, one a file, on clips of so many words (or characters: `unit`), each clip
    counted once.

    A file is good enough if the upper end of its difference's interval is at most a POINT; there is no verdict on fewer
    than LEAST_WORDS, or on a single clip.
    """
    row_of, by_hash = {row.file: row for row in rows}, {file.sha256: file for file in files}
    name = quoted(file_name(by_hash[baseline].file))
    if len(files) < 2:
        return Verdict(None, f"Nothing to compare: {name} alone was run.")
    if words < LEAST_WORDS:
        return Verdict(None, f"Not enough {unit}: {words:,} of the {LEAST_WORDS} that a verdict needs.")
    if row_of[baseline].clips < 2:
        return Verdict(None, "Not enough clips: an interval needs two or more.")
    good = [file for file in files if file.sha256 == baseline or _is_close(row_of[file.sha256])]
    smallest = min(good, key=lambda file: (file.all_bytes, file.sha256 != baseline, file.sha256))
    if smallest.sha256 == baseline:
        return Verdict(None, f"No smaller file is within 1 point of the baseline, {name}, by the {INTERVAL}.")
    rate = "CER" if unit == CHARACTERS else "WER"
    row, of_baseline = row_of[smallest.sha256], row_of[baseline]
    found = f"{rate} {percent(row.wer.value)}, of the baseline {percent(of_baseline.wer.value)}"
    if row.wer.value is None:
        found = f"{rate} beside its transcripts {percent(row.disagreement.value)}"
    sentence = (
        f"Smallest file within 1 point of the baseline: {quoted(file_name(smallest.file))}, {size(smallest.all_bytes)}"
    )
    more = 100 * (row.difference.high or 0)
    return Verdict(smallest.sha256, f"{sentence} ({found}; at most {more:+.2f} points, {INTERVAL}).")


def _is_close(row: Row) -> bool:
    return row.difference.high is not None and row.difference.high <= POINT
