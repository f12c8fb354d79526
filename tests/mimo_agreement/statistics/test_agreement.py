"""Agreement, from answers to rows, notes and a verdict."""

import random
from dataclasses import replace

import jiwer
import pytest

from mimo_agreement.records import ALL_CONDITIONS, CHARACTERS, WORDS, Agreement, ModelFiles, Row, SpokenClip
from mimo_agreement.statistics.agreement import agreement_of
from mimo_agreement.statistics.bootstrap import UNKNOWN
from quantize.errors import InputError
from runtime_check.run.compare.fidelity import Estimate
from runtime_check.text.words import NO_WORDS

from .made import SEED, Answers, answer_of, answers_of, clip_of, file_of, heard, made, pair_of

CONDITIONS = ("clean", "noise:white:5dB")
FILES = [file_of("f16", 9000), file_of("q4", 3000)]
CLIPS = [clip_of(i) for i in range(30)]


def row(found: Agreement, file: str, condition: str = ALL_CONDITIONS) -> Row:
    [one] = [row for row in found.rows if (row.file, row.condition) == (file, condition)]
    return one


def agreement(answers: Answers, clips: list[SpokenClip] = CLIPS, files: list[ModelFiles] = FILES) -> Agreement:
    return agreement_of(files, clips, CONDITIONS, answers.values(), baseline="f16", seed=SEED)


@pytest.fixture
def answers() -> Answers:
    return answers_of({"f16": 0.05, "q4": 0.3}, CLIPS, CONDITIONS)


def test_rows_are_of_every_file_in_every_condition_and_in_all(answers: Answers) -> None:
    found = agreement(answers)
    assert [(row.condition, row.file) for row in found.rows] == [
        (condition, file) for condition in (*CONDITIONS, ALL_CONDITIONS) for file in ("f16", "q4")
    ]
    assert [(row.clips, row.seconds) for row in found.rows] == [(30, 90.0)] * 4 + [(30, 180.0)] * 2


@pytest.mark.parametrize("condition", CONDITIONS)
def test_rates_are_micro_averaged(answers: Answers, condition: str) -> None:
    found = row(agreement(answers), "q4", condition)
    ours = [answers["q4", condition, clip.name][1].transcript for clip in CLIPS]
    theirs = [answers["f16", condition, clip.name][1].transcript for clip in CLIPS]
    assert found.wer.value == pytest.approx(jiwer.wer([clip.text or "" for clip in CLIPS], ours))
    assert found.disagreement.value == pytest.approx(jiwer.wer(theirs, ours))
    assert found.errors.words == found.beside_baseline.words == 30 * 12


def test_all_conditions_are_the_sum_of_each(answers: Answers) -> None:
    found = agreement(answers)
    parts = [row(found, "q4", condition).errors for condition in CONDITIONS]
    assert row(found, "q4").errors == parts[0] + parts[1]


def test_an_interval_holds_its_value_and_a_worse_file_is_known_as_such(answers: Answers) -> None:
    found = row(agreement(answers), "q4")
    for one in (found.wer, found.disagreement, found.difference):
        assert one.low < one.value < one.high  # type: ignore[operator]
    assert (found.is_worse, found.is_better) == (True, False)
    assert found.difference.value == pytest.approx(found.wer.value - row(agreement(answers), "f16").wer.value)
    other = agreement_of(FILES, CLIPS, CONDITIONS, answers.values(), baseline="q4", seed=SEED)
    assert (row(other, "f16").is_worse, row(other, "f16").is_better) == (False, True)


def test_a_file_against_itself_differs_by_nothing_at_all(answers: Answers) -> None:
    files = [*FILES, file_of("copy", 9000)]
    copied = {
        ("copy", *key[1:]): (replace(pair, lm="copy"), answer)
        for key, (pair, answer) in answers.items() if key[0] == "f16"
    }  # fmt: skip
    found = agreement({**answers, **copied}, files=files)
    for condition in (*CONDITIONS, ALL_CONDITIONS):
        for file in ("f16", "copy"):
            one = row(found, file, condition)
            assert one.difference == one.disagreement == Estimate(0.0, 0.0, 0.0)
            assert not one.is_worse
            assert not one.is_better
        assert row(found, "f16", condition).wer == row(found, "copy", condition).wer


def test_differences_of_files_with_common_errors_are_paired() -> None:
    """Both get most clips wrong or right alike: the interval of their difference is far narrower than theirs."""
    answers = answers_of({"f16": 0.0, "q4": 0.0}, CLIPS, CONDITIONS)
    for i, clip in enumerate(CLIPS):
        for condition in CONDITIONS:
            said = heard(clip.text or "", i / 30, clip.name)
            answers["f16", condition, clip.name] = (pair_of(FILES[0], clip, condition), answer_of(said))
            answers["q4", condition, clip.name] = (pair_of(FILES[1], clip, condition), answer_of(f"well {said}"))
    found = row(agreement(answers), "q4")
    width = found.wer.high - found.wer.low  # type: ignore[operator]
    assert found.difference.high - found.difference.low < width / 10  # type: ignore[operator]
    assert found.is_worse


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_answers_and_clips_changes_nothing(answers: Answers, seed: int) -> None:
    with_kl = {
        key: (pair, replace(answer, kl=random.Random(str(key)).random() * 9, kl_tokens=9))
        for key, (pair, answer) in answers.items()
    }
    chosen = random.Random(seed)
    shuffled, clips = list(with_kl.items()), list(CLIPS)
    chosen.shuffle(shuffled)
    chosen.shuffle(clips)
    assert agreement(dict(shuffled), clips) == agreement(with_kl)


def test_clips_of_one_recording_are_drawn_together() -> None:
    """Ten copies of a clip tell as much as one."""
    alone = [clip_of(i) for i in range(8)]
    copies = [replace(clip, sha256=f"{clip.sha256}{n}", name=f"{clip.name}{n}") for clip in alone for n in range(10)]
    widths = []
    for clips in (alone, copies):
        answers = answers_of({"f16": 0.0, "q4": 0.0}, clips, CONDITIONS)
        for clip in clips:
            for condition in CONDITIONS:
                said = heard(clip.text or "", 0.3, clip.source)
                answers["q4", condition, clip.name] = (pair_of(FILES[1], clip, condition), answer_of(said))
        wer = row(agreement(answers, clips), "q4").wer
        widths.append(wer.high - wer.low)  # type: ignore[operator]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_a_single_clip_has_no_interval() -> None:
    found = agreement(answers_of({"f16": 0.0, "q4": 0.5}, CLIPS[:1], CONDITIONS), CLIPS[:1])
    one = row(found, "q4")
    assert one.wer.value
    assert (one.wer.low, one.wer.high, one.is_worse) == (None, None, False)


# ── what counts, and what is told ─────────────────────────────────────────────────────────────────────────────────────


def test_only_pairs_that_all_files_have_answered_count(answers: Answers) -> None:
    whole = dict(answers)
    for clip in CLIPS[:4]:
        del answers["q4", "clean", clip.name]
    del answers["f16", "clean", CLIPS[5].name]
    found = agreement(answers)
    assert [row.clips for row in found.rows] == [25, 25, 30, 30, 30, 30]
    assert {row(found, file).errors.words for file in ("f16", "q4")} == {55 * 12}
    assert row(found, "q4", CONDITIONS[1]) == row(agreement(whole), "q4", CONDITIONS[1])
    assert found.notes == (
        "f16.gguf has no answer to 1 of 60 pairs of clip and condition: they count for no file",
        "q4.gguf has no answer to 4 of 60 pairs of clip and condition: they count for no file",
    )


def test_files_without_a_common_pair_have_no_rates(answers: Answers) -> None:
    found = agreement({key: one for key, one in answers.items() if key[0] == "f16"})
    assert all(row.clips == 0 and row.wer == row.difference == UNKNOWN and row.kl is None for row in found.rows)
    assert found.verdict == "Not enough words: 0 of the 300 that a verdict needs."
    assert found.worst == found.front_wer == found.front_kl == ()


def test_answers_of_others_are_left_out(answers: Answers) -> None:
    [(pair, answer)] = [one for key, one in answers.items() if key == ("q4", "clean", "clip0.wav")]
    others = [
        replace(pair, lm="other"), replace(pair, companion="other"), replace(pair, clip="other"),
        replace(pair, condition="speed:2"), replace(pair, seed=SEED + 1),
    ]  # fmt: skip
    more: Answers = {(str(i), "", ""): (other, answer) for i, other in enumerate(others)}
    assert agreement({**more, **answers}) == agreement(answers)


def test_the_same_twice_is_refused(answers: Answers) -> None:
    renamed = replace(CLIPS[3], name="copy.wav")
    with pytest.raises(InputError, match=r"copy\.wav: is the same clip twice, and as 'clip3\.wav'"):
        agreement(answers, [*CLIPS, renamed])
    with pytest.raises(InputError, match=r"q4\.gguf: is the same file twice"):
        agreement(answers, files=[*FILES, FILES[1]])
    with pytest.raises(InputError, match="clean: is the same condition twice"):
        agreement_of(FILES, CLIPS, ["clean", "clean"], answers.values(), baseline="f16", seed=SEED)
    pair, answer = answers["q4", "clean", "clip3.wav"]
    with pytest.raises(InputError, match=r"clip3\.wav: has two answers of the file q4 in clean"):
        agreement({**answers, ("again", "", ""): (replace(pair, version="2"), answer)})
    with pytest.raises(InputError, match="--baseline: 'other' is not one of the files"):
        agreement_of(FILES, CLIPS, CONDITIONS, answers.values(), baseline="other", seed=SEED)


@pytest.mark.parametrize("text", [None, "", "(uh, um)", "..."])
def test_clips_without_words_do_not_count_beside_others(answers: Answers, text: str | None) -> None:
    found = agreement(answers, [replace(CLIPS[0], text=text), *CLIPS[1:]])
    assert row(found, "q4").clips == 29
    assert row(found, "q4").errors == row(agreement(answers, CLIPS[1:]), "q4").errors
    [note] = found.notes
    assert note.startswith("1 clip (clip0.wav) ")
    assert note.endswith("not counted")


def test_without_texts_the_baseline_is_what_files_are_compared_with(answers: Answers) -> None:
    found = agreement(answers, [replace(clip, text=None) for clip in CLIPS])
    one, with_texts = row(found, "q4"), row(agreement(answers), "q4")
    assert not found.has_texts
    assert (one.errors, one.wer) == (NO_WORDS, UNKNOWN)
    assert one.beside_baseline == with_texts.beside_baseline
    assert one.difference == one.disagreement == with_texts.disagreement
    assert one.is_worse
    assert found.notes == ()
    assert {worst.file for worst in found.worst} == {"q4"}
    assert found.worst[0].text == answers["f16", found.worst[0].condition, found.worst[0].clip][1].transcript
    assert found.front_wer == ("q4", "f16")


def test_silence_that_is_heard_as_words_is_an_insertion() -> None:
    clips = [replace(clip, text=None) for clip in CLIPS]
    answers = answers_of({"f16": 0.0, "q4": 0.0}, CLIPS, CONDITIONS)
    answers["f16", "clean", "clip0.wav"] = (pair_of(FILES[0], CLIPS[0], "clean"), answer_of(""))
    one = row(agreement(answers, clips), "q4", "clean")
    assert (one.beside_baseline.words, one.beside_baseline.insertions) == (29 * 12, 12)


def test_loops_empty_and_over_long_answers_are_counted(answers: Answers) -> None:
    for name, values in (("clip0.wav", {"loop": "and so "}), ("clip1.wav", {"ended": False}), ("clip2.wav", {})):
        pair, answer = answers["q4", "clean", name]
        answers["q4", "clean", name] = (pair, replace(answer, **values))
    pair, answer = answers["q4", "clean", "clip2.wav"]
    answers["q4", "clean", "clip2.wav"] = (pair, replace(answer, transcript=" \n"))
    counted = [(row.loops, row.empty, row.over_long) for row in agreement(answers).rows]
    assert counted == [(0, 0, 0), (1, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 1)]


def test_real_time_and_memory(answers: Answers) -> None:
    timings = {"load_s": 99.0, "tokenize_s": 1.0, "encode_s": 0.5, "prefill_s": 0.5, "ms_per_token": 100, "proof_s": 9}
    for key, (pair, answer) in answers.items():
        memory = {"mapped": 1000, "working": 10 if key[1] == "clean" else 20}
        answers[key] = (pair, replace(answer, timings=timings, memory=memory))
    found = agreement(answers)
    assert row(found, "q4").real_time == pytest.approx((2 + 10 * 0.1) / 3)
    assert [row(found, "q4", name).peak_memory for name in (*CONDITIONS, ALL_CONDITIONS)] == [1010, 1020, 1020]


def test_characters_are_counted_for_languages_without_spaces() -> None:
    clips = [replace(clip, text="今天天气很好", language="auto") for clip in CLIPS[:3]]
    answers = answers_of({"f16": 0.0, "q4": 0.0}, clips, CONDITIONS)
    for condition in CONDITIONS:
        answers["q4", condition, "clip0.wav"] = (pair_of(FILES[1], clips[0], condition), answer_of("今天天气不好"))
    found = agreement(answers, clips)
    assert found.unit == CHARACTERS
    assert row(found, "q4").wer.value == pytest.approx(1 / 18)
    assert "characters" in found.verdict
    both = agreement({**answers, **answers_of({"f16": 0.0, "q4": 0.0}, CLIPS[3:], CONDITIONS)}, [*clips, *CLIPS[3:]])
    assert both.unit == WORDS


# ── KL divergence ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kl_is_the_mean_over_steps(answers: Answers) -> None:
    for i, clip in enumerate(CLIPS):
        pair, answer = answers["q4", "clean", clip.name]
        answers["q4", "clean", clip.name] = (pair, replace(answer, kl=0.5 * (i + 1), kl_tokens=i + 1))
        pair, answer = answers["f16", "clean", clip.name]
        answers["f16", "clean", clip.name] = (pair, replace(answer, kl=0.0, kl_tokens=i + 1))
    found = agreement(answers)
    assert row(found, "q4").kl == row(found, "q4", "clean").kl == Estimate(0.5, 0.5, 0.5)
    assert row(found, "f16").kl == Estimate(0.0, 0.0, 0.0)
    assert row(found, "q4", CONDITIONS[1]).kl is None
    assert found.front_kl == ("q4", "f16")


def test_kl_is_compared_on_the_same_pairs(answers: Answers) -> None:
    for file, clips in (("f16", CLIPS), ("q4", CLIPS[:10])):
        for clip in clips:
            pair, answer = answers[file, "clean", clip.name]
            kl = 1.0 if clip in CLIPS[:10] else 99.0
            answers[file, "clean", clip.name] = (pair, replace(answer, kl=kl, kl_tokens=10))
    found = agreement(answers)
    assert row(found, "f16").kl == row(found, "q4").kl == Estimate(0.1, 0.1, 0.1)
    assert found.notes == ("q4.gguf has no KL divergence of 20 of 30 pairs that others have one of",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_kl_that_is_not_finite_is_told_and_never_on_the_front(answers: Answers, value: float) -> None:
    for key, (pair, answer) in answers.items():
        answers[key] = (pair, replace(answer, kl=0.25, kl_tokens=8))
    pair, answer = answers["q4", "clean", "clip9.wav"]
    answers["q4", "clean", "clip9.wav"] = (pair, replace(answer, kl=value))
    found = agreement(answers)
    assert row(found, "q4").kl == UNKNOWN
    assert row(found, "f16").kl == Estimate(1 / 32, 1 / 32, 1 / 32)
    assert found.front_kl == ("f16",)
    assert found.notes == ("q4.gguf has KL divergences that are not finite: their mean is not known",)


# ── doubts about the input ────────────────────────────────────────────────────────────────────────────────────────────


def test_swapped_transcripts_are_told(answers: Answers) -> None:
    (one, first), (other, second) = (answers["f16", "clean", name] for name in ("clip0.wav", "clip1.wav"))
    answers["f16", "clean", "clip0.wav"], answers["f16", "clean", "clip1.wav"] = (one, second), (other, first)
    notes = agreement(answers).notes
    said = "what f16.gguf heard in {} is the text of {}: their texts or answers may be swapped"
    assert set(notes) == {said.format("clip0.wav", "clip1.wav"), said.format("clip1.wav", "clip0.wav")}


def test_a_baseline_that_no_file_agrees_with_is_told(answers: Answers) -> None:
    for key, (pair, answer) in answers.items():
        if key[0] == "f16":
            answers[key] = (pair, replace(answer, transcript="etwas ganz anderes"))
    [note] = agreement(answers).notes
    assert note.startswith("no file agrees with half of the words of the baseline f16.gguf")


def test_answers_without_doubt_have_no_notes(answers: Answers) -> None:
    assert agreement(answers).notes == ()


# ── what a report shows ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_file_is_last_and_off_the_front() -> None:
    found = made({"f16": 0.02, "q8": 0.02, "q4": 0.05, "damaged": 0.9, "q2": 0.4})
    overall = [row for row in found.rows if row.condition == ALL_CONDITIONS]
    assert max(overall, key=lambda row: row.wer.value or 0).file == "damaged"
    assert "damaged" not in found.front_wer
    assert found.front_wer[0] == "q2"


def test_worst_clips_are_those_with_most_errors(answers: Answers) -> None:
    pair, _ = answers["q4", "clean", "clip8.wav"]
    answers["q4", "clean", "clip8.wav"] = (pair, answer_of("wrong " * 40))
    found = agreement(answers)
    mine = [worst for worst in found.worst if worst.file == "q4"]
    assert len(mine) == 10
    assert (mine[0].clip, mine[0].condition, mine[0].errors.errors) == ("clip8.wav", "clean", 40)
    assert mine[0].text == CLIPS[8].text
    assert [worst.errors.errors for worst in mine] == sorted((worst.errors.errors for worst in mine), reverse=True)


def test_files_without_errors_have_no_worst_clips() -> None:
    assert made({"f16": 0.0, "q4": 0.0}).worst == ()
