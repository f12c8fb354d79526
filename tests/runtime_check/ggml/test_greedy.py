"""Responses of several clips that are decoded together are those of each alone, to the last bit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.prompt import build_prompt
from mimo_families.mimo_audio.segments import Ids
from quantize.types import TYPES
from runtime_check.choices import AUTO, GGML
from runtime_check.ggml.decoder import LOGITS
from runtime_check.ggml.graph import Backend
from runtime_check.ggml.greedy import TOGETHER, Prompted, Response, Together, are_alike, greedy
from runtime_check.products.library import variants
from tests.opened import model_file
from tests.runtime_check.conftest import Converter

FRAMES = (36, 8, 100, 52, 20)  # of clips, more of them than a step can have
MOST = (7, 30, 12, 30, 30)  # tokens of their responses, which so end one after the other
ROOM = (40, 12, 700, 60, 40)  # behind their prompts: one ends because its cache is full


def opened(path: Path, threads: int = 2, products: str = AUTO) -> SpeechLM:
    return SpeechLM(model_file(path), Backend(threads, products))


def prompt(lm: SpeechLM, n_frames: int) -> Ids:
    rng = np.random.default_rng(n_frames)
    codes = np.stack([rng.integers(0, zero, n_frames) for zero in lm.d.speech_zeroemb], axis=1)
    return build_prompt(codes.astype(np.int32), lm.text.encode, lm.d)


def prompted(lm: SpeechLM, clips: Sequence[int] = range(len(FRAMES))) -> list[Prompted]:
    read = []
    for clip in clips:
        ids = prompt(lm, FRAMES[clip])
        decoder = lm.decoder(lm.length(ids) + ROOM[clip])
        read.append(Prompted(decoder, decoder.read(ids)[LOGITS][0], MOST[clip]))
    return read


def told(response: Response) -> tuple[list[int], bytes]:
    return response.tokens, np.stack(response.logits).tobytes()


@pytest.mark.parametrize("outtype", list(TYPES))
def test_each_gets_what_it_would_get_alone(converted: Converter, outtype: str) -> None:
    lm = opened(converted(outtype)[0])
    alone = [told(*greedy([one], set())) for one in prompted(lm)]
    together = [told(one) for one in greedy(prompted(lm), set())]
    assert together == alone
    assert [len(tokens) for tokens, _ in alone] == [7, 13, 12, 30, 30], "else they did not end one after the other"
    assert len({tuple(tokens) for tokens, _ in alone}) == len(alone), "else nothing was compared"
    one_thread = [told(one) for one in greedy(prompted(opened(converted(outtype)[0], 1)), set())]
    assert one_thread == together


def test_a_stop_token_ends_one_response_and_no_other(converted: Converter) -> None:
    lm = opened(converted("q8_0")[0])
    free = [response.tokens for response in greedy(prompted(lm), set())]
    stop = free[3][4]
    expected = [tokens[: tokens.index(stop) + 1] if stop in tokens else tokens for tokens in free]
    assert [response.tokens for response in greedy(prompted(lm), {stop})] == expected != free


def test_weights_are_read_once_for_all(converted: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of several clips has one product for each matrix."""
    lm = opened(converted("q4_k")[0])
    decoders = [one.decoder for one in prompted(lm, range(TOGETHER))]
    steps = [Together(decoders[:n]).graph for n in (1, TOGETHER)]
    assert len(steps[0].products) == len(steps[1].products) > 0
    planned: list[int] = []
    monkeypatch.setattr(Together, "__init__", counted(Together.__init__, planned))
    greedy(prompted(lm), set())
    assert planned == [1, 4, 3, 2, 1, 1], "one more for the first look, and the fifth clip by itself"


def counted(make, planned: list[int]):  # type: ignore[no-untyped-def]
    def init(self: Together, decoders: Sequence[object]) -> None:
        planned.append(len(decoders))
        make(self, decoders)

    return init


def test_where_ggml_multiplies_they_are_decoded_one_by_one(
    converted: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sums depend on the number of columns."""
    lm = opened(converted("q8_0")[0], products=GGML)
    [read] = prompted(lm, [0])
    assert not are_alike(read.decoder)
    planned: list[int] = []
    monkeypatch.setattr(Together, "__init__", counted(Together.__init__, planned))
    alone = [told(*greedy([one], set())) for one in prompted(lm)]
    assert [told(one) for one in greedy(prompted(lm), set())] == alone
    assert set(planned) == {1}


def test_own_kernels_are_alike_for_every_type(converted: Converter) -> None:
    assert variants()
    for outtype in ("f32", "f16", "q4_k", "iq4_nl"):
        [read] = prompted(opened(converted(outtype)[0]), [1])
        assert are_alike(read.decoder), outtype


def test_logits_need_not_be_kept(converted: Converter) -> None:
    lm = opened(converted("q8_0")[0])
    kept, left = greedy(prompted(lm), set()), greedy(prompted(lm), set(), keep_logits=False)
    assert [one.tokens for one in left] == [one.tokens for one in kept]
    assert not any(one.logits for one in left)
    assert all(one.seconds > 0 for one in left)
