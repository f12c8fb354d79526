"""Jobs: what is asked, pair by pair, and what each depends on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.conditions.condition import parse_condition
from mimo_agreement.records import ModelFiles, SpokenClip
from mimo_agreement.run.jobs import Asked, Job, Model, Settings, jobs_of
from quantize.errors import InputError
from runtime_check.choices import ON


def model(name: str, companion: str = "t") -> Model:
    return Model(ModelFiles(f"{name}.gguf", name, 8, "q8_0", 8.5, "t.gguf", companion, 8), "mimo_audio", {}, "chunks")


def clip(name: str, seconds: float = 1.0, language: str = "english") -> SpokenClip:
    return SpokenClip(f"{name}.wav", name, seconds, "Words.", name, language)


CLIPS = [clip(name) for name in "abcdefg"]
CLEAN, BABBLE, WHITE = map(parse_condition, ("clean", "noise:babble:5dB", "noise:white:5dB"))
ASKED = Asked([model("x"), model("y")], CLIPS, [CLEAN, BABBLE, WHITE], seed=3)


def by_place(jobs: list[Job]) -> dict[tuple[str, str, str], Job]:
    return {(job.pair.lm, job.pair.clip, job.pair.condition): job for job in jobs}


def test_every_file_is_asked_once_for_every_clip_in_every_condition_the_longest_first() -> None:
    clips = [clip("short", 1), clip("long", 9), clip("middle", 3)]
    jobs = jobs_of(Asked([model("x"), model("y")], clips, [CLEAN, WHITE]))
    assert [(job.pair.lm, job.pair.clip, job.pair.condition) for job in jobs] == [
        (lm, name, condition) for lm in "xy" for name in ("long", "middle", "short")
        for condition in ("clean", "noise:white:5dB")
    ]  # fmt: skip


def test_one_more_clip_or_file_leaves_the_pairs_of_the_others_as_they_are() -> None:
    """But for babble of which the new clip is a voice."""
    before = by_place(jobs_of(ASKED))
    after = by_place(jobs_of(replace(ASKED, models=[*ASKED.models, model("z")], clips=[*CLIPS, clip("new")])))
    for place, job in before.items():
        same_voices = after[place].voices == job.voices
        assert (after[place].pair == job.pair) == same_voices, place
        assert same_voices or place[2] == BABBLE.name
    assert any(after[place].voices != job.voices for place, job in before.items())


@given(st.permutations(CLIPS))
def test_the_order_of_clips_changes_nothing(clips: list[SpokenClip]) -> None:
    assert by_place(jobs_of(replace(ASKED, clips=clips))) == by_place(jobs_of(ASKED))


def test_files_share_what_their_companion_hears_whatever_the_language() -> None:
    jobs = by_place(jobs_of(ASKED))
    other = by_place(jobs_of(replace(ASKED, clips=[replace(one, language="chinese") for one in CLIPS])))
    for (lm, name, condition), job in jobs.items():
        assert job.hearing == jobs["y" if lm == "x" else "x", name, condition].hearing
        assert job.hearing == other[lm, name, condition].hearing
        assert job.pair != other[lm, name, condition].pair
    assert len({job.hearing for job in jobs.values()}) == len(CLIPS) * 3


@pytest.mark.parametrize(
    "changed",
    [
        replace(ASKED, seed=4), replace(ASKED, settings=Settings(repack=ON)),
        replace(ASKED, models=[model("x", "u"), model("y", "u")]),
        replace(ASKED, models=[replace(model(name), hearing="segments") for name in "xy"]),
    ],
)  # fmt: skip
def test_what_changes_codes_makes_other_pairs(changed: Asked) -> None:
    before, after = (by_place(jobs_of(asked)) for asked in (ASKED, changed))
    for place, job in before.items():
        assert after[place].hearing != job.hearing
        assert after[place].pair != job.pair


def test_a_reference_makes_another_pair_of_the_clean_clip_alone() -> None:
    before, after = (by_place(jobs_of(replace(ASKED, references=one))) for one in ({}, {"a": "r" * 64}))
    differing = {place for place, job in before.items() if after[place].pair != job.pair}
    assert differing == {(lm, "a", "clean") for lm in "xy"}
    assert all(after[place].hearing == job.hearing for place, job in before.items())


def test_babble_lacks_voices_in_a_small_set_but_not_with_noise() -> None:
    few = replace(ASKED, clips=CLIPS[:6])
    with pytest.raises(InputError, match="noise:babble: needs 6 other clips, found 5; give more clips, or noise"):
        jobs_of(few)
    jobs = jobs_of(replace(few, noise=["n"]))
    assert {job.voices for job in jobs if job.condition == BABBLE} == {("n",)}
