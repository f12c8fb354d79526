"""Answers of tiny files: what a run of mimo-check itself says, whoever heard the clip."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mimo_agreement.records import Answer
from mimo_agreement.run.answering import Answerer
from mimo_agreement.run.here import answer_here
from mimo_agreement.run.jobs import Done, Failed, Job, jobs_of
from mimo_agreement.run.progress import answer_missing
from mimo_agreement.run.queue import Queue
from mimo_agreement.store.store import Store
from mimo_api import TranscribeOptions, transcribe
from mimo_convert.disk import sha256_of
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError
from runtime_check.audio.clips import read_clip
from runtime_check.run.activations import GREEDY, RESPONSE_LOGITS
from runtime_check.run.system import Task
from tests.gguf_edit import Key, rewrite
from tests.mimo_agreement.spoken import BETTER, SMALLER, TOKENIZER
from tests.opened import open_pair

from .asking import asked_of, places_of

CONDITIONS = ["clean", "noise:babble:0dB", "speed:1.2"]


def told(answer: Answer) -> tuple[object, ...]:
    """What of an answer does not depend on the machine."""
    return answer.transcript, answer.tokens, answer.ended, answer.loop, answer.seconds, answer.kl, answer.kl_tokens


def all_done(jobs: list[Job], answerer: Answerer) -> list[Done]:
    found = [one for job in jobs for one in answerer.answer([job])]
    assert all(isinstance(one, Done) for one in found), found
    return found  # type: ignore[return-value]


def test_an_answer_is_that_of_a_run(tiny: Path, clips: Path) -> None:
    [job] = jobs_of(asked_of(tiny, [BETTER], clips, n=1))
    [done] = all_done([job], Answerer(asked_of(tiny, [BETTER], clips, n=1).models, places_of(tiny, clips.parent), 1))
    system, clip = open_pair(tiny / BETTER, tiny / TOKENIZER, 1), read_clip(clips.with_name("0.wav"))
    assert system.text
    run = system.run(clip, Task(language="english", max_new_tokens=20))
    ids = run.stages[GREEDY].tolist()
    expected = run.transcript.strip(), len(ids), ids[-1] in system.text.stops, "", clip.seconds, None, 0
    assert told(done.answer) == expected
    assert done.answer.timings.keys() == run.timings.keys()
    assert done.answer.memory == run.memory


def test_codes_that_were_heard_for_another_file_give_the_same_answers(tiny: Path, clips: Path) -> None:
    asked = asked_of(tiny, [BETTER, SMALLER], clips, CONDITIONS)
    answerer = Answerer(asked.models, places_of(tiny, clips.parent), 2)
    jobs = [job for job in jobs_of(asked) if job.pair.clip in {clip.sha256 for clip in asked.clips[:2]}]
    alone = all_done(jobs, answerer)
    heard = {one.job.hearing: one.heard for one in alone if one.job.pair.lm == asked.models[0].facts.sha256}
    of_smaller = [one for one in alone if one.job.pair.lm == asked.models[1].facts.sha256]
    shared = all_done([replace(one.job, heard=heard[one.job.hearing]) for one in of_smaller], answerer)
    for one, other in zip(shared, of_smaller, strict=True):
        assert one.heard is None
        assert told(one.answer) == told(other.answer)
        assert one.answer.timings["tokenize_s"] == heard[one.job.hearing].timings["tokenize_s"]  # type: ignore[union-attr]
        assert one.answer.memory["working"] >= other.answer.memory["working"] > 0
    transcripts = {one.answer.transcript for one in alone}
    assert len(transcripts) > 3, "else nothing was compared"


def test_neither_order_nor_threads_change_an_answer(tiny: Path, clips: Path) -> None:
    asked = asked_of(tiny, [SMALLER], clips, CONDITIONS)
    jobs = jobs_of(asked)[:9]
    places = places_of(tiny, clips.parent)
    one = {found.job.pair: told(found.answer) for found in all_done(jobs, Answerer(asked.models, places, 1))}
    two = {found.job.pair: told(found.answer) for found in all_done(jobs[::-1], Answerer(asked.models, places, 2))}
    assert one == two


@pytest.mark.parametrize("file", [BETTER, SMALLER])
def test_clips_that_are_answered_together_get_the_answers_that_each_gets_alone(
    tiny: Path, clips: Path, file: str
) -> None:
    asked = asked_of(tiny, [file], clips, CONDITIONS)
    jobs, answerer = jobs_of(asked), Answerer(asked.models, places_of(tiny, clips.parent), 1)
    alone = all_done(jobs[:10], answerer)
    together = [*answerer.answer(jobs[:4]), *answerer.answer(jobs[4:10])]
    assert [one.job for one in together] == jobs[:10]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Done)
        assert told(one.answer) == told(other.answer)
        assert one.heard
        assert other.heard
        assert one.heard.stages == other.heard.stages
        assert one.answer.timings.keys() == other.answer.timings.keys()
    assert len({one.answer.transcript for one in alone}) > 3, "else nothing was compared"


def test_a_long_clip_is_cut_as_transcribe_cuts_it(tiny: Path, clips: Path, tmp_path: Path) -> None:
    """A context of 4 s; codes of the pieces are shared, too."""
    context = 25 + 4 * 25 // 4 + 256

    def smaller(key: Key) -> Key:
        return key._replace(value=context) if key.name == "mimo_asr.llm.max_position_embeddings" else key

    shutil.copyfile(tiny / TOKENIZER, tmp_path / TOKENIZER)
    for name in (BETTER, SMALLER):
        rewrite(tiny / name, tmp_path / name, keys=smaller)
    parts = [read_clip(clips.with_name(f"{i}.wav")).wave for i in (0, 3)]
    silence = np.zeros(16000, np.float32)
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "long.wav", np.concatenate([parts[0], silence, parts[1], silence]), 16000)
    asked = asked_of(tmp_path, [BETTER, SMALLER], tmp_path / "clips")
    jobs, answerer = jobs_of(asked), Answerer(asked.models, places_of(tmp_path, tmp_path / "clips"), 2)
    with Store() as store:
        assert answer_missing(jobs, store, lambda queue: answer_here(queue, answerer)) == []
        found = dict(store.answers())
    [alone] = all_done([jobs[1]], answerer)
    assert told(found[jobs[1].pair]) == told(alone.answer)
    options = TranscribeOptions(
        tmp_path / SMALLER, [tmp_path / "clips"], 2, language="english", max_new_tokens=20,
        companions={"audio_tokenizer": tmp_path / TOKENIZER},
    )  # fmt: skip
    [transcript] = transcribe(options)
    assert alone.answer.transcript == transcript.text
    assert len(list(transcript.pieces)) == 2
    assert alone.answer.seconds == sum(map(len, parts)) / 16000 + 2


def test_divergence_is_that_of_a_check_and_of_a_file_from_itself_none(tiny: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copyfile(clips.with_name("6.wav"), tmp_path / "clip.wav")
    task = Task(language="english", max_new_tokens=20)
    made = open_pair(tiny / BETTER, tiny / TOKENIZER, 2).run(read_clip(tmp_path / "clip.wav"), task, keep_stages=True)
    made.save(tmp_path / "reference.safetensors")
    places = places_of(tiny, tmp_path)
    [clip, reference] = (sha256_of(tmp_path / name) for name in ("clip.wav", "reference.safetensors"))
    asked = replace(asked_of(tiny, [BETTER, SMALLER], tmp_path / "clip.wav"), references={clip: reference})
    itself, other = (done.answer for done in all_done(jobs_of(asked), Answerer(asked.models, places, 2)))
    assert itself.kl_tokens == other.kl_tokens == len(made.stages[RESPONSE_LOGITS])
    assert itself.kl is not None
    assert itself.kl < 1e-6
    assert other.kl is not None
    assert other.kl > 1e-3
    assert math.isfinite(other.kl)


def test_a_silent_clip_fails_and_others_go_on(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    asked = asked_of(tiny, [SMALLER], tmp_path, ["noise:white:5dB", "clean"])
    answerer = Answerer(asked.models, places_of(tiny, tmp_path), 1)
    noisy, clean = answerer.answer(jobs_of(asked))
    assert isinstance(noisy, Failed)
    assert "silent.wav: is silent; expected sound" in noisy.reason
    assert noisy.tries == 1
    assert isinstance(clean, Done)


def test_files_that_change_are_refused(tiny: Path, clips: Path, tmp_path: Path) -> None:
    """A clip fails alone; the answers of a model that changes would be of neither."""
    files, sounds = shutil.copytree(tiny, tmp_path / "tiny"), shutil.copytree(clips.parent, tmp_path / "clips")
    asked = asked_of(files, [SMALLER], sounds / "clips.jsonl", n=3)
    places = places_of(files, sounds)
    states = {sha256: LocalShards().state(path) for sha256, path in places.paths.items() if path.suffix == ".gguf"}
    answerer = Answerer(asked.models, replace(places, states=states), 1)
    first, second, third = jobs_of(asked)
    [done] = answerer.answer([first])
    assert isinstance(done, Done)
    shutil.copyfile(sounds / "6.wav", places.paths[second.pair.clip])
    [failed] = answerer.answer([second])
    assert isinstance(failed, Failed)
    assert "was changed while the command ran" in failed.reason
    model = files / SMALLER
    model.write_bytes(model.read_bytes())
    with pytest.raises(InputError, match=r"mimo-asr-q2_k.gguf: was changed while the command ran"):
        answerer.answer([third])


def test_what_is_answered_is_not_run_again(tiny: Path, clips: Path, tmp_path: Path) -> None:
    asked = asked_of(tiny, [SMALLER], clips, n=4)
    jobs, answerer = jobs_of(asked), Answerer(asked.models, places_of(tiny, clips.parent), 1)
    ran: list[str] = []

    def answers(queue: Queue):  # type: ignore[no-untyped-def]
        for outcome in answer_here(queue, answerer):
            ran.append(outcome.job.pair.clip)
            yield outcome
            if len(ran) == 2:
                raise KeyboardInterrupt

    with Store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        answer_missing(jobs, store, answers)
    with Store(tmp_path) as store:
        answer_missing(jobs, store, answers)
        assert {pair.clip for pair, _ in store.answers()} == {job.pair.clip for job in jobs}
    assert ran == [job.pair.clip for job in jobs]
