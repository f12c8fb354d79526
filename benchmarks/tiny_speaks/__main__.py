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
from mimo_api import ConvertOptions, convert
from mimo_families.mimo_audio.system import MimoAudioSystem
from mimo_families.mimo_audio.tasks.speaker import MimoAudioSpeaker
from mimo_families.mimo_audio.tasks.table import TASKS
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.choices import SPEAK
from runtime_check.run.speech.tasks import Asked, Codes, Reply, Sampling, find_task
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
    """Measure, and put the table into docs/benchmarks.md."""
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
    insert_lines("tiny speaks", lines)


def measured(folder: Path) -> Iterator[Heard]:
    """The types, one after the other."""
    for outtype in TYPES:
        speaker = speaker_of(outtype, folder)
        counts = [heard(speaker, said(speaker, text).codes, text) for text in TEXTS]
        for text, count in zip(TEXTS, counts, strict=True):
            if count.errors:
                print(f"{outtype}: {count.errors} words wrong of: {text}")
        right = sum(one.errors == 0 for one in counts)
        jfk = heard(speaker, speaker.encode(read_clip(JFK)), JFK_TEXT)
        [tokenizer] = (folder / outtype).glob("mimo-tokenizer-*.gguf")
        yield Heard(outtype, tokenizer.stem.rpartition("-")[2], right, sum(counts, start=NO_WORDS), jfk)


def speaker_of(outtype: str, folder: Path) -> MimoAudioSpeaker:
    """The tiny pair in a type, converted into a folder of the type's name."""
    out = folder / outtype
    convert(ConvertOptions("tiny", types=[outtype], parts=frozenset({"decoder"}), out=out, checked=False))
    [lm], [tokenizer] = out.glob("mimo-asr-*.gguf"), out.glob("mimo-tokenizer-*.gguf")
    system = open_pair(lm, tokenizer)
    assert isinstance(system, MimoAudioSystem)
    return MimoAudioSpeaker(system)


def said(speaker: MimoAudioSpeaker, text: str) -> Reply:
    """The groups of a text, spoken greedily."""
    task = find_task(TASKS, SPEAK, None, "mimo_asr")
    prompt = task.make_prompt(Asked(text=text), speaker.lm.text, speaker.lm.d)
    return speaker.reply(task, prompt, Sampling(greedy=True, max_new=MOST_GROUPS), None)


def heard(speaker: MimoAudioSpeaker, codes: Codes, text: str) -> WordErrors:
    """Word errors of the wave of codes that are to say a text."""
    clip = Clip(Path("said.wav"), speaker.decode(codes), speaker.rate, "", text)
    run = speaker.system.run(clip, Task(language="english", max_new_tokens=64))
    return count_words(text, run.transcript)


if __name__ == "__main__":
    main()
