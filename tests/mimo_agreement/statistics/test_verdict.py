"""The sentence on the smallest file that is good enough."""

from dataclasses import replace

import pytest

from mimo_agreement.records import ALL_CONDITIONS, CHARACTERS, WORDS, Row
from mimo_agreement.statistics.agreement import agreement_of
from mimo_agreement.statistics.verdict import verdict_of
from runtime_check.run.compare.fidelity import Estimate

from .made import SEED, answers_of, clip_of, file_of, made

FILES = [file_of("f16", 9_000_000), file_of("q8", 5_000_000), file_of("q4", 3_000_000), file_of("q2", 1_000_000)]


def rows(**high: float | None) -> list[Row]:
    """Rows with the upper ends of the intervals of their differences."""
    [first, *_] = [row for row in made({"f16": 0.1, "q4": 0.1}).rows if row.condition == ALL_CONDITIONS]
    return [replace(first, file=file, difference=Estimate(0.0, 0.0, value)) for file, value in high.items()]


@pytest.mark.parametrize(
    ("q8", "q4", "q2", "smallest"),
    [(0.0, 0.01, 0.02, "q4"), (0.0, 0.0, 0.0, "q2"), (0.02, 0.01, 0.0101, "q4"), (0.009, 0.02, None, "q8")],
)
def test_the_smallest_file_whose_interval_ends_within_a_point(
    q8: float, q4: float, q2: float | None, smallest: str
) -> None:
    found = verdict_of(FILES, rows(f16=0.0, q8=q8, q4=q4, q2=q2), "f16", 300, WORDS)
    assert found.smallest == smallest
    assert found.text.startswith(f"Smallest file within 1 point of the baseline: {smallest}.gguf, ")


def test_the_sentence() -> None:
    found = verdict_of(FILES, rows(f16=0.0, q8=0.0, q4=0.0055, q2=0.5), "f16", 5000, WORDS)
    wer = rows(f16=0)[0].wer.value
    assert found.text == (
        f"Smallest file within 1 point of the baseline: q4.gguf, 3.00 MB (WER {wer:.2%}, of the baseline {wer:.2%}; at "
        "most +0.55 points, 95 % interval)."
    )
    assert "CER" in verdict_of(FILES, rows(f16=0, q8=0, q4=0, q2=0), "f16", 5000, CHARACTERS).text


def test_no_smaller_file() -> None:
    found = verdict_of(FILES, rows(f16=0.0, q8=0.02, q4=0.02, q2=0.02), "f16", 300, WORDS)
    assert found == (None, "No smaller file is within 1 point of the baseline, f16.gguf, by the 95 % interval.")
    larger = verdict_of(FILES[:2], rows(f16=0.0, q8=0.0), "q8", 300, WORDS)
    assert larger.smallest is None


def test_too_few_words() -> None:
    found = verdict_of(FILES, rows(f16=0.0, q8=0.0, q4=0.0, q2=0.0), "f16", 299, WORDS)
    assert found == (None, "Not enough words: 299 of the 300 that a verdict needs.")


def test_a_clip_in_several_conditions_has_its_words_once() -> None:
    assert made({"f16": 0.0, "q4": 0.0}, 20, [f"noise:white:{i}dB" for i in range(9)], n_words=10).smallest is None
    assert made({"f16": 0.0, "q4": 0.0}, 30, n_words=10).smallest == "q4"


def test_a_single_clip_or_file_has_no_verdict() -> None:
    assert made({"f16": 0.0, "q4": 0.0}, 1, n_words=400).verdict == "Not enough clips: an interval needs two or more."
    assert made({"f16": 0.0}).verdict == "Nothing to compare: f16.gguf alone was run."


def test_without_texts_the_verdict_is_beside_the_baselines_transcripts() -> None:
    clips = [clip_of(i) for i in range(40)]
    answers = answers_of({"f16": 0.3, "q4": 0.3, "q2": 0.5}, clips, ["clean"])
    for clip in clips:
        pair, _ = answers["q4", "clean", clip.name]
        answers["q4", "clean", clip.name] = (pair, answers["f16", "clean", clip.name][1])
    without_texts = [replace(clip, text=None) for clip in clips]
    files = [file_of("f16", 9), file_of("q4", 3), file_of("q2", 1)]
    found = agreement_of(files, without_texts, ["clean"], answers.values(), baseline="f16", seed=SEED)
    assert found.smallest == "q4"
    assert "beside its transcripts 0.00%" in found.verdict
