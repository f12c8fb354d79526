"""How many of its forty sentences the tiny pair says, by its own ears: `python -m benchmarks.tiny_speaks` →
docs/benchmarks.md.

Each sentence is asked for by its text, spoken greedily, and recognised by the same files. The JFK clip goes through the
audio tokenizer and back, and is recognised behind it.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_api import ConvertOptions, Sampling, SpeechOptions, convert, speak
from mimo_families.mimo_audio.tasks.speaker import MimoAudioSpeaker
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.run.system import Task
from runtime_check.text.words import NO_WORDS, WordErrors, count_words
from tests.opened import open_pair
from tools.train_tiny.text import SENTENCES

TYPES = ("f16", "q8_0", "q4_k")
MOST_GROUPS = 60  # the longest sentence has less than half
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()


class Heard(NamedTuple):
    """What the files of a type said: sentences heard word for word, word errors of all, and of JFK behind the audio
    tokenizer."""

    type: str
    tokenizer: str
    right: int
    words: WordErrors
    jfk: WordErrors


def main() -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measured(Path(folder)))
    lines = [
        machine(),
        "",
        "| type | audio tokenizer | sentences word for word | word errors | JFK through the tokenizer and back |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {row.type} | {row.tokenizer} | {row.right} of {len(TEXTS)} | {row.words.errors} of {row.words.words} "
            f"| {row.jfk.errors} of {row.jfk.words} words wrong |"
            for row in rows
        ),
    ]
    insert_lines("tiny-speaks", lines)


def measured(folder: Path) -> Iterator[Heard]:
    """The types, one after the other."""
    for outtype in TYPES:
        out = folder / outtype
        convert(ConvertOptions("tiny", types=[outtype], parts=frozenset({"decoder"}), out=out, checked=False))
        [lm], [tokenizer] = out.glob("mimo-asr-*.gguf"), out.glob("mimo-tokenizer-*.gguf")
        counts = [said(lm, text) for text in TEXTS]
        words = sum(counts, start=NO_WORDS)
        right = sum(one.errors == 0 for one in counts)
        yield Heard(outtype, tokenizer.stem.rpartition("-")[2], right, words, there_and_back(lm, tokenizer))


def said(lm: Path, text: str) -> WordErrors:
    """Word errors of a text: spoken, and recognised."""
    [check] = speak(SpeechOptions(lm, text=text, sampling=Sampling(greedy=True, max_new=MOST_GROUPS))).checks
    assert check.words is not None
    return check.words


def there_and_back(lm: Path, tokenizer: Path) -> WordErrors:
    """Word errors of the JFK clip behind the audio tokenizer's encoder and decoder."""
    speaker = MimoAudioSpeaker(open_pair(lm, tokenizer))
    wave = speaker.decode(speaker.encode(read_clip(JFK)))
    again = Clip(JFK, wave, speaker.rate, "", JFK_TEXT)
    heard = speaker.system.run(again, Task(language="english", max_new_tokens=64)).transcript
    return count_words(JFK_TEXT, heard)


if __name__ == "__main__":
    main()
