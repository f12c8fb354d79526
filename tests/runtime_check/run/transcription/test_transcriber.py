"""Runs of several clips together are those of each, of either family; only time and memory are shared."""

from dataclasses import replace

import numpy as np
import pytest

from mimo_api import ConvertOptions, convert
from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.qwen3_asr.stages import ROLE
from mimo_families.qwen3_asr.system import SYSTEM as QWEN3
from mimo_families.registry import families
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import GREEDY, RESPONSE_LOGITS, Activations
from runtime_check.run.members import open_system
from runtime_check.run.system import Compute, Task
from runtime_check.run.transcription.transcriber import Request, Transcriber
from tests.opened import open_pair
from tests.runtime_check.conftest import Converter

TASKS = Task(language="english", max_new_tokens=9), Task(language="chinese", max_new_tokens=4)


@pytest.fixture(scope="module")
def systems(converted: Converter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Transcriber]:
    out = tmp_path_factory.mktemp("tiny-qwen3")
    convert(ConvertOptions("tiny-qwen3", out=out, checked=False))
    [file] = out.glob("*.gguf")
    qwen3 = open_system(QWEN3, {ROLE: file}, OpenFiles(families()), Compute(2))
    pair = open_pair(*converted("q8_0"))
    assert isinstance(qwen3, Transcriber)
    assert isinstance(pair, Transcriber)
    return {"mimo_audio": pair, "qwen3_asr": qwen3}


def parts(jfk: Clip) -> list[Clip]:
    """Clips of other lengths, more than are decoded together."""
    rate = jfk.rate
    return [
        replace(jfk, wave=jfk.wave[int(a * rate) : int(b * rate)]) for a, b in ((0, 4), (2, 3), (5, 9), (1, 7), (8, 11))
    ]


@pytest.mark.parametrize("name", ["mimo_audio", "qwen3_asr"])
def test_clips_get_together_what_each_gets_alone(systems: dict[str, Transcriber], jfk: Clip, name: str) -> None:
    system = systems[name]
    requests = [Request(clip, TASKS[i % 2]) for i, clip in enumerate(parts(jfk))]
    alone = [system.run(request.clip, request.task) for request in requests]
    together = system.run_together(requests)
    assert len({one.stages[RESPONSE_LOGITS].tobytes() for one in alone}) == len(alone), "else nothing was compared"
    for one, other in zip(together, alone, strict=True):
        assert one.stages.keys() == other.stages.keys()
        for stage in one.stages:
            np.testing.assert_array_equal(one.stages[stage], other.stages[stage], err_msg=stage)
        assert (one.transcript, one.language, one.origin) == (other.transcript, other.language, other.origin)
        assert one.timings.keys() == other.timings.keys()
        assert one.memory["working"] > other.memory["working"], "caches of all of them are held at once"


def test_stages_that_were_heard_are_those_of_their_own_clip(systems: dict[str, Transcriber], jfk: Clip) -> None:
    system, clips = systems["mimo_audio"], parts(jfk)[:3]
    codes = [{CODES: system.run(clip, TASKS[0]).stages[CODES]} for clip in clips]
    expected = [system.run(clip, TASKS[0]) for clip in clips]
    requests = [Request(clip, TASKS[0], codes[i] if i != 1 else None) for i, clip in enumerate(clips)]
    found = system.run_together(requests)
    assert [said(one) for one in found] == [said(one) for one in expected]
    assert ["tokenize_s" in one.timings for one in found] == [False, True, False]


def test_without_logits_there_is_no_stage_of_them(systems: dict[str, Transcriber], jfk: Clip) -> None:
    [kept], [left] = (
        systems["qwen3_asr"].run_together([Request(jfk, TASKS[0])], keep_logits=keep) for keep in (True, False)
    )
    assert kept.stages.keys() - left.stages.keys() == {RESPONSE_LOGITS}
    assert said(kept) == said(left)


def said(run: Activations) -> list[int]:
    return run.stages[GREEDY].tolist()
