"""What files spoke, in the card: apart from what they transcribed."""

from dataclasses import replace

from mimo_publish.card import as_card
from runtime_check.choices import SPEECH
from runtime_check.run.records import Check, ClipFacts, HeadResult, SpeechFacts, TaskFacts
from runtime_check.text.words import count_words

from ..published import LM, good, of_checks
from ..rendered import read, table, tables


def spoken(check: Check, said: str, heard: str) -> Check:
    """The check's files, which said one thing and heard another."""
    clip = ClipFacts("hello.wav", "0" * 64, 1.6, 24_000, said)
    speech = SpeechFacts(SPEECH, said, 1.6, 19, 12, True, 0, 1, {"temperature": 0.6})
    words = count_words(said, heard)
    return replace(
        check, clip=clip, task=TaskFacts("speak", "auto"), transcript=heard, words=words, speech=speech, gates=(),
        stages=(), steps=None, passed=None, reference=None,
    )  # fmt: skip


def test_what_was_spoken_and_heard() -> None:
    report = good()
    first = report.checks[0]
    body = read(as_card(of_checks(*report.checks, spoken(first, "Hello *world*.", "hello word"))))
    assert next(rows for rows in tables(body) if rows[0][:2] == ["file", "task"]) == [
        ["file", "task", "seconds", "to be said", "heard", "word error rate"],
        [LM, "speak", "1.60", "Hello *world*.", "hello word", "50.0%"],
    ]
    headings = [heading.text for heading in body.all("h2")]
    assert headings[headings.index("Speech") - 1] == "Transcripts"
    before = read(as_card(report))
    assert "Speech" not in [heading.text for heading in before.all("h2")]
    words = [[row[4] for row in table(one, "type")] for one in (before, body)]
    assert words[0] == words[1] == ["words right", *["22\xa0of\xa022"] * 2]  # those of recognition


def test_how_heads_choose_codes() -> None:
    report = good()
    heads = (
        HeadResult("text", "speech_lm", 17, 1.0, 0.0002, 0.001),
        HeadResult("head_0", "speech_lm", 64, 0.875, None, None),
    )
    first = replace(spoken(report.checks[0], "Hello.", "hello"), heads=heads)
    body = read(as_card(of_checks(*report.checks, first)))
    assert next(rows for rows in tables(body) if rows[0][:3] == ["file", "task", "head"])[1:] == [
        [LM, "speak", "text", "17", "100.0%", "0.0002", "0.001"],
        [LM, "speak", "head_0", "64", "87.5%", "–", "–"],
    ]
