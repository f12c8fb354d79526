"""Prompts of every task: the published ids of a sentence, and every segment with the tiny model's vocabulary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mimo_families.mimo_audio.layout import FAMILY, SpeechLMDims
from mimo_families.mimo_audio.tasks.table import TASKS, MimoAudioTask
from mimo_families.mimo_audio.tasks.templates import TTS_CHINESE, TTS_ENGLISH, tts_template
from quantize.errors import InputError
from runtime_check.run.speech.tasks import Asked, Turn
from runtime_check.text.tokenizer import TextTokenizer
from tests.opened import TINY_ASR, open_tiny

# Ids of the published vocabulary, as another byte-level BPE with its ranks gives them.
PUBLISHED = {
    "<|im_start|>user\nPlease convert this text to speech: Hello world.<|im_end|>\n":
        [151644, 872, 198, 5501, 5508, 419, 1467, 311, 8806, 25, 21927, 1879, 13, 151645, 198],
    "<|im_start|>assistant\n<|sostm|>": [151644, 77091, 198, 151670],
    "<|im_start|>user\n请将这段文字转换为语音: 你好。<|im_end|>\n":
        [151644, 872, 198, 14880, 44063, 107083, 87335, 105359, 17714, 105761, 25, 220, 108386, 1773, 151645, 198],
    "<|im_start|>user\nPlease convert this text to speech: Hello world.(whispering)<|im_end|>\n":
        [151644, 872, 198, 5501, 5508, 419, 1467, 311, 8806, 25, 21927, 1879, 12832, 1312, 27370, 287, 8, 151645, 198],
    "<|im_start|>user\n(whispering) Hello world.<|im_end|>\n":
        [151644, 872, 198, 7, 1312, 27370, 287, 8, 21927, 1879, 13, 151645, 198],
    "<|im_start|>system\n": [151644, 8948, 198],
    "你需要根据指定的风格指令和文本内容来生成语音。":
        [112735, 100345, 105146, 9370, 104040, 109504, 33108, 108704, 43815, 36407, 43959, 105761, 1773],
    "<|im_end|>\n": [151645, 198],
    "<|im_start|>assistant\n<think>\n": [151644, 77091, 198, 13708, 766, 397],
}  # fmt: skip
HELLO = [151644, 872, 198, 5501, 5508, 419, 1467, 311, 8806, 25, 21927, 1879, 13, 151645, 198, 151644, 77091, 198,
         151670]  # fmt: skip

DIMS: SpeechLMDims = FAMILY.dimensions(open_tiny().config)
CODES, OTHER = np.zeros((8, DIMS.channels), np.int32), np.ones((5, DIMS.channels), np.int32)
A, B = ["<|sosp|>", *["<|empty|>"] * 2, "<|eosp|>"], ["<|sosp|>", *["<|empty|>"] * 2, "<|eosp|>"]  # both two groups
U, E, R, Y = "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_start|>system\n"
N, K, O, W = "<think>\n\n</think>\n", "<think>\n", R + "<|sostm|>", R + "<think>\n"  # noqa: E741, as the paper has it
STYLE = "你需要根据指定的风格指令和文本内容来生成语音。"
VOICE = "你需要根据指定的风格指令和文本内容来生成和语音prompt具有相同音色的语音。你的音色应该是："
ASKS = "Please convert this text to speech: "
SAID = ["<|sostm|>", "hi", "<|eot|>", "<|empty|>", "<|empty|>", "<|eostm|>"]
USER, ASSISTANT = Turn(True, "so", CODES), Turn(False, "hi", OTHER)


def task(name: str, reply: str | None = None) -> MimoAudioTask:
    return next(one for one in TASKS if one.name == name and reply in (None, one.reply))


def segments_of(chosen: MimoAudioTask, asked: Asked) -> list[str]:
    """The texts of a prompt, each of which is tokenized alone."""
    return [segment.text for segment in chosen.prompt(asked) if hasattr(segment, "text")]


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        (Asked("Hello world."), HELLO),
        (Asked("HELLO WORLD."), HELLO),  # upstream writes such texts as sentences
        (Asked("hello world."), HELLO),
    ],
)
def test_hello_world_is_the_published_prompt(asked: Asked, ids: list[int]) -> None:
    found = [token for text in segments_of(task("speak"), asked) for token in PUBLISHED[text]]
    assert found == ids


@pytest.mark.parametrize(
    "asked",
    [Asked("你好。"), Asked("Hello world.", "whispering"), Asked("(whispering) Hello world.", as_is=True)],
)
def test_other_ways_to_speak_have_published_segments(asked: Asked) -> None:
    assert all(text in PUBLISHED for text in segments_of(task("speak"), asked))


PROMPTS: list[tuple[MimoAudioTask, Asked, Sequence[Any]]] = [
    (task("transcribe"), Asked(turns=[USER]), [U, *A, "Please transcribe this audio file", E, R, N]),
    (task("speak"), Asked("So it is."), [f"{U}{ASKS}So it is.{E}", O]),
    (task("speak"), Asked("So it is.", "sadly"), [Y, STYLE, E, f"{U}{ASKS}So it is.(sadly){E}", W]),
    (task("speak"), Asked("So.", "sadly", CODES), [Y, VOICE, *A, E, f"{U}{ASKS}So.(sadly){E}", W]),
    (task("speak"), Asked("(sadly) So.", as_is=True), [Y, STYLE, E, f"{U}(sadly) So.{E}", W]),
    (task("speak"), Asked("(sadly) So.", voice=CODES, as_is=True), [Y, VOICE, *A, E, f"{U}(sadly) So.{E}", W]),
    (task("understand"), Asked(question="Who?", turns=[USER]), [U, *A, "Who?", E, R, N]),
    (task("understand"), Asked(question="Who?", turns=[USER], thinking=True), [U, *A, "Who?", E, R, K]),
    (task("dialogue", "speech"), Asked(turns=[USER]), [U, *A, E, O]),
    (task("dialogue", "speech"), Asked(turns=[USER], system="Be kind."), [U, "Be kind.", "\n\n", *A, E, O]),
    (
        task("dialogue", "speech"), Asked(turns=[USER, ASSISTANT, USER], system="Be kind.", voice=OTHER),
        [Y, "Your voice should be:", *B, E, U, "Be kind.", "\n\n", *A, E, R, *SAID, E, U, *A, E, O],
    ),
    (
        task("dialogue", "speech"), Asked(turns=[ASSISTANT, USER], system="Be kind."),
        [R, *SAID, E, U, *A, E, O],  # the system's text is for message 0 alone
    ),
    (task("dialogue", "text"), Asked(turns=[USER]), [U, *A, E, R, N]),
    (
        task("dialogue", "text"), Asked(turns=[USER, ASSISTANT, USER], thinking=True),
        [U, *A, E, R, "hi", E, U, *A, E, R, K],
    ),
    (task("chat"), Asked(turns=[USER]), [U, "so", E, R, N]),
    (task("chat"), Asked(turns=[USER, ASSISTANT, USER]), [U, "so", E, R, "hi", E, U, "so", E, R, N]),
    (
        task("continue"), Asked(instruct="Answer.", turns=[USER, ASSISTANT, USER]),
        ["[Int]:Answer.\n", *A, "\n", *SAID, " \n\n", *A, "\n", "<|sostm|>"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("chosen", "asked", "expected"), PROMPTS)
def test_every_segment_of_every_task(chosen: MimoAudioTask, asked: Asked, expected: Sequence[str]) -> None:
    """Against the same segments tokenized by the library's own reading of tokenizer.json."""
    theirs = Tokenizer.from_file(str(TINY_ASR / "tokenizer.json"))
    assert FAMILY.text is not None
    ours = TextTokenizer.from_checkpoint(open_tiny(), DIMS.vocab_size, FAMILY.text)
    ids = chosen.make_prompt(asked, ours, DIMS)
    wanted = [token for text in expected for token in theirs.encode(text, add_special_tokens=False).ids]
    assert chosen.text_ids(ids, DIMS) == wanted


def test_every_task_has_a_prompt_here() -> None:
    assert {id(chosen) for chosen, _, _ in PROMPTS} == set(map(id, TASKS))


@pytest.mark.parametrize(
    ("text", "templates"),
    [("Hello", TTS_ENGLISH), ("你好", TTS_CHINESE), ("Hello 好", TTS_CHINESE), ("こん", TTS_ENGLISH)],
)
def test_the_template_is_of_the_texts_language(text: str, templates: Sequence[str]) -> None:
    assert tts_template(text) == templates[0]
    assert len(set(templates)) == 10


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked("So.", voice=CODES), "--voice: is not heard without a style; add --instruct, or --as-is"),
        (Asked("So.", "sadly", as_is=True), "--instruct: and --as-is: the text itself says how; give one of them"),
    ],
)
def test_what_the_prompt_would_not_say_is_refused(asked: Asked, says: str) -> None:
    with pytest.raises(InputError, match=says):
        task("speak").prompt(asked)


def test_files_of_the_repository_are_not_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream takes a text that names a file for audio."""
    (tmp_path / "hello").write_text("no audio")
    monkeypatch.chdir(tmp_path)
    assert segments_of(task("speak"), Asked("hello"))[0] == f"{U}{ASKS}Hello{E}"
