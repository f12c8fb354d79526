"""The bundled pair speaks: each text gets its own sentence, which the pair itself hears word for word."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_api import Sampling, SpeechOptions, speak
from mimo_commands.convert import main as mimo_convert
from mimo_families.mimo_audio.tasks.speaker import MimoAudioSpeaker
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.run.records import Check
from runtime_check.run.system import Task
from runtime_check.text.words import count_words
from tools.train_tiny.text import SENTENCES

TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()
MOST_GROUPS = 60  # the longest sentence has less than half
Say = Callable[[str], Check]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speaks")
    options = ["--with", "decoder", "--outtype", "f16", "--outtype", "q4_k", "--out", str(out), "--no-check"]
    result = CliRunner().invoke(mimo_convert, ["tiny", *options])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def say(files: Path) -> Say:
    """What came of a text: spoken greedily, and heard by the same files."""

    def said(text: str, outtype: str = "f16") -> Check:
        options = SpeechOptions(
            files / f"mimo-asr-{outtype}.gguf", text=text, sampling=Sampling(greedy=True, max_new=MOST_GROUPS)
        )
        [check] = speak(options).checks
        return check

    return said


@pytest.mark.parametrize("outtype", ["f16", "q4_k"])
@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[20], TEXTS[39]])
def test_a_sentence_is_said_and_heard_word_for_word(say: Say, text: str, outtype: str) -> None:
    check = say(text, outtype)
    assert check.speech is not None
    assert check.speech.ended
    assert check.transcript == text


def test_two_texts_exchanged_are_two_sentences_exchanged(say: Say) -> None:
    """The second half of the first is asked for in place of that of the second, and the other way round: nothing but
    the text says which sentence is spoken."""
    first, second = TEXTS[5], TEXTS[33]
    heard = [say(text).transcript for text in (first, second)]
    exchanged = [say(text).transcript for text in (second, first)]
    assert heard == [first, second]
    assert exchanged == [second, first]


def test_jfk_is_heard_behind_the_tokenizer_and_back(open_speaker: MimoAudioSpeaker, jfk: Clip) -> None:
    codes = open_speaker.encode(jfk)
    wave = open_speaker.decode(codes)
    assert len(wave) == 960 * len(codes)
    again = Clip(Path("again.wav"), wave, open_speaker.rate, "", JFK_TEXT)
    heard = open_speaker.system.run(again, Task(language="english", max_new_tokens=64)).transcript
    assert count_words(JFK_TEXT, heard).rate <= 0.1


@pytest.fixture
def open_speaker(files: Path) -> MimoAudioSpeaker:
    from tests.opened import open_pair

    return MimoAudioSpeaker(open_pair(files / "mimo-asr-f16.gguf", files / "mimo-tokenizer-f16.gguf"))
