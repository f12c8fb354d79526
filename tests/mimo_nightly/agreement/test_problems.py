"""What is said of an agreement that is beyond its tolerance."""

from dataclasses import replace

from mimo_agreement.records import Agreement
from mimo_nightly.agreement.problems import beyond_tolerance, not_measured
from mimo_nightly.agreement.records import AgreementSet
from runtime_check.run.compare.fidelity import Estimate
from tests.mimo_agreement import made_up

BASE = made_up.sha("f16")


def of(name: str, found: Agreement) -> Agreement:
    """The agreement of one file with the baseline."""
    two = {made_up.sha(name), BASE}
    return replace(
        found,
        files=tuple(file for file in found.files if file.sha256 in two),
        rows=tuple(row for row in found.rows if row.file in two),
    )


def wanted(tolerance: float) -> AgreementSet:
    return AgreementSet(["a"], ["clean"], "b", tolerance, "", "", 0)


def told(found: Agreement, tolerance: float) -> list[str]:
    return list(beyond_tolerance(found, wanted(tolerance)))


def test_a_condition_that_is_beyond_the_tolerance_is_told_with_its_numbers() -> None:
    found = of("q3_k", made_up.agreement())
    assert told(found, 3) == []
    [one] = told(found, 2.5)
    assert one == (
        "agreement, noise:babble:5dB: +2.45 points from the baseline, at most +2.85 by the 95 % interval; "
        "expected at most +2.5; WER 11.79% on 4 clips, of mimo-asr-f16.gguf (sha256 663136000000…) 9.34%"
    )
    assert [text.split(":")[0] for text in told(found, 0)] == [
        "agreement, clean", "agreement, noise", "agreement, reverb", "agreement, all"
    ]  # fmt: skip


def test_of_one_condition_nothing_is_told_twice() -> None:
    assert len(told(of("q3_k", made_up.of_one_condition()), 0)) == 1


def test_without_texts_it_is_the_baseline_that_counts() -> None:
    [one, *_] = told(of("q3_k", made_up.without_texts()), 0)
    assert one.endswith("WER 1.02% to mimo-asr-f16.gguf (sha256 663136000000…) on 4 clips")


def test_a_clip_without_an_answer_is_told() -> None:
    assert list(not_measured(made_up.unanswered(), wanted(1))) == [
        "agreement, reverb:0.6s: mimo-asr-q3_k.gguf has no answer to clip-3.wav: killed by SIGSEGV"
    ]


def test_too_few_clips_are_no_failure() -> None:
    found = of("q3_k", made_up.of_one_condition())
    rows = [replace(row, clips=1, difference=Estimate(0.5, None, None)) for row in found.rows]
    found = replace(found, rows=tuple(rows))
    assert told(found, 1) == []
    assert list(not_measured(found, wanted(1))) == [
        "agreement, clean: the difference from the baseline has no interval; expected at most +1 points; clips: 1"
    ]
