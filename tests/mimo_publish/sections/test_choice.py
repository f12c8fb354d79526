"""Which file a card recommends, and whom each is for: by the report alone."""

from dataclasses import replace
from typing import Any

import pytest

from mimo_publish.card_parts import published_files
from mimo_publish.sections.choice import Choice, choices_of, shown
from runtime_check.run.records import Check
from runtime_check.text.words import count_words
from tests import reports

from ..published import bad, of_checks

TEXT = "and so my fellow americans " * 300  # 1,500 words
SIZES = {"q2_k": 2, "q3_k": 3, "q4_k": 4, "q5_k": 5, "q8_0": 8, "f16": 16}


def run(outtype: str, kl: float = 0.001, top1: float = 1.0, **more: Any) -> Check:
    """A check of a file of that type, which passed."""
    check = reports.check()
    assert check.steps is not None
    lm = replace(
        check.main,
        file=f"/models/mimo-asr-{outtype}.gguf",
        sha256=outtype.ljust(64, "0"),
        bytes=SIZES[outtype] * 10**9,
        type=outtype,
        outtype=outtype,
    )
    steps = replace(check.steps, kl_mean=kl, top1_agreement=top1)
    return replace(check, files=(lm, check.files[1]), steps=steps, **more)


def failing(check: Check) -> Check:
    """The check with a gate that failed."""
    return replace(check, passed=False, gates=(replace(check.gates[-1], passed=False),))


def heard(check: Check, transcript: str, text: str | None = TEXT) -> Check:
    """The check of a clip in which `text` is said, and the reference hears that."""
    assert check.reference is not None
    clip, reference = replace(check.clip, text=text), replace(check.reference, transcript=TEXT)
    words = count_words(text, transcript) if text else None
    return replace(check, clip=clip, reference=reference, transcript=transcript, words=words)


def rows(*checks: Check) -> list[Choice]:
    return choices_of(published_files(of_checks(*checks)))


def recommended(*checks: Check) -> list[str]:
    return [row.label for row in rows(*checks) if row.recommended]


def test_the_smallest_goes_first_whatever_order_they_were_checked_in() -> None:
    assert [row.label for row in rows(run("f16"), run("q4_k"), run("q8_0"))] == ["q4_k", "q8_0", "f16"]


@pytest.mark.parametrize(
    ("small", "is_recommended"),
    [
        (run("q4_k"), True),
        (run("q4_k", kl=0.05, top1=25 / 27), True),
        (run("q4_k", kl=0.0501), False),
        (run("q4_k", top1=24 / 27), False),
        (failing(run("q4_k")), False),
        (run("q3_k"), False),
        (run("q2_k"), False),
        (run("q5_k"), True),
    ],
)
def test_the_smallest_that_is_good_enough_is_recommended_and_no_other(small: Check, is_recommended: bool) -> None:
    found = rows(run("f16"), run("q8_0"), small)
    assert [row.recommended for row in found] == [is_recommended, not is_recommended, False]
    assert shown(found).recommended


def test_a_failed_file_is_recommended_to_nobody_and_used_in_no_command() -> None:
    [row] = choices_of(published_files(bad()))
    assert (row.passed, row.recommended) == (False, False)
    found = rows(failing(run("q4_k")), run("q8_0", kl=0.2))
    assert not any(row.recommended for row in found)
    assert shown(found).label == "q8_0"


def test_what_was_compared_with_nothing_is_not_recommended() -> None:
    assert recommended(reports.without_reference(run("q4_k"))) == []


def test_of_files_that_are_not_good_enough_the_nearest_is_used() -> None:
    assert shown(rows(run("q4_k", kl=0.3), run("q5_k", kl=0.06), run("f16", kl=0.07))).label == "q5_k"


def test_numbers_are_of_all_clips() -> None:
    first = heard(run("q4_k", kl=0.01), TEXT)
    second = heard(run("q4_k", kl=0.04, top1=20 / 27), TEXT.removesuffix("americans "))
    second = replace(second, clip=replace(second.clip, file="/clips/b.wav", sha256="b" * 64))
    [row] = rows(first, second)
    assert row.kl == pytest.approx(0.025)
    assert (str(row.top1), str(row.right)) == ("47 of 54", "2,999 of 3,000")
    assert row.lost == 1


@pytest.mark.parametrize(("n_lost", "is_recommended"), [(0, True), (1, True), (2, False)])
def test_a_word_in_a_thousand_is_none(n_lost: int, is_recommended: bool) -> None:
    """A word error rate, which is given in tenths of a per cent, does not show it."""
    transcript = " ".join(TEXT.split()[: 1500 - n_lost])
    best = recommended(heard(run("q4_k"), transcript), heard(run("q8_0"), TEXT))
    assert best == ["q4_k" if is_recommended else "q8_0"]


def test_a_word_that_the_model_does_not_get_right_is_not_lost() -> None:
    wrong = TEXT.replace("fellow", "yellow")
    check = heard(run("q4_k"), wrong)
    assert check.reference is not None
    check = replace(check, reference=replace(check.reference, transcript=wrong))
    [row] = rows(check)
    assert (row.lost, row.recommended) == (0, True)
    assert str(row.right) == "1,200 of 1,500"


def test_where_the_model_parts_from_the_response_the_best_file_is_the_measure() -> None:
    """Its own response is then known only as far as there."""

    def parted(check: Check) -> Check:
        assert check.steps is not None
        assert check.reference is not None
        steps = (replace(check.steps.steps[0], reference_top1=5), *check.steps.steps[1:])
        reference = replace(check.reference, transcript="and")
        return replace(check, steps=replace(check.steps, steps=steps), reference=reference)

    worse = " ".join(TEXT.split()[:1400])
    found = rows(parted(heard(run("q4_k"), worse)), parted(heard(run("q8_0"), TEXT)))
    assert [(row.label, row.lost, row.recommended) for row in found] == [("q4_k", 100, False), ("q8_0", 0, True)]


def test_where_nobody_knows_what_is_said_words_are_the_models() -> None:
    found = rows(heard(run("q4_k"), "and so", None), heard(run("q8_0"), TEXT, None))
    assert [row.recommended for row in found] == [False, True]
    assert found[0].words is None
    assert "more word errors than the model" in found[0].audience


def test_whom_each_is_for_and_what_speaks_against_it() -> None:
    told = {
        row.label: row.audience
        for row in rows(
            *map(run, SIZES),
        )
    }
    assert list(told.values()) == [
        "where nothing larger fits", "where nothing larger fits", "little memory", "some memory to spare",
        "plenty of memory", "making other types, comparing",
    ]  # fmt: skip
    [row] = rows(run("q4_k", kl=0.2))
    assert row.audience == "little memory; differs from the model more than a 5-bit file may"


def test_layouts_are_named_where_types_do_not_tell_files_apart() -> None:
    fused, separate = run("q4_k"), run("q4_k")
    lm = replace(separate.main, file="/models/split.gguf", sha256="5" * 64, layout="separate")
    separate = replace(separate, files=(lm, separate.files[1]))
    assert [row.label for row in rows(fused, separate)] == ["q4_k, fused QKV", "q4_k, separate QKV"]
