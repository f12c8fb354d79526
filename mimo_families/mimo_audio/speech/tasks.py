"""The tasks of MiMo-Audio that speak or converse, as data: what each takes, its prompt, its sampler, its stop tokens.

Source: github.com/XiaomiMiMo/MiMo-Audio, `MimoAudio` and `MiMoSampler`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from runtime_check.run.speech import SPEECH, TEXT, Asked, SpeechTask

from ..segments import EOSTM, Segment
from . import prompts
from .sampler import GREEDY, Sampler

END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
STOPS = frozenset({END_OF_TEXT, END_OF_TURN})
SPOKEN = frozenset({"wav", "stream", "local_temperature", "local_top_p"})  # options about speech
CONVERSES = frozenset({"reply", "dialogue", "history"})


@dataclass(frozen=True)
class MimoAudioTask(SpeechTask):
    """A task: the segments of its prompt, the sampler of text ids, and the tokens that end it."""

    prompt: Callable[[Asked], Iterable[Segment]] = field(kw_only=True)
    sampler: Sampler = field(kw_only=True)
    stops: frozenset[str] = field(kw_only=True)


TASKS = (
    MimoAudioTask(
        "speak", SPEECH, SPOKEN | {"text", "instruct", "voice", "as_is"}, (("text",),),
        prompt=prompts.speak, sampler=Sampler(temperature=0.6), stops=STOPS | {EOSTM},
    ),
    MimoAudioTask(
        "understand", TEXT, frozenset({"audio", "question", "thinking"}), (("audio",), ("question",)), ("audio",),
        prompt=prompts.understand, sampler=Sampler(temperature=0.3, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        "dialogue", SPEECH, SPOKEN | CONVERSES | {"audio", "voice", "system"}, (("audio", "dialogue"),),
        ("audio",), ("text", "audio"),
        prompt=prompts.answer_by_speech, sampler=Sampler(temperature=0.6, top_p=0.95), stops=STOPS | {EOSTM},
    ),
    MimoAudioTask(
        "dialogue", TEXT, CONVERSES | {"audio", "thinking"}, (("audio", "dialogue"),), ("audio",), ("text",),
        prompt=prompts.answer_by_text, sampler=Sampler(temperature=0.6, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        "chat", TEXT, frozenset({"text", "dialogue", "history", "thinking"}), (("text", "dialogue"),),
        ("text",), ("text",),
        prompt=prompts.chat, sampler=Sampler(temperature=0.4, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        "continue", SPEECH, SPOKEN | {"audio", "instruct", "dialogue"}, (("instruct",), ("dialogue", "audio")),
        ("audio",), ("text", "audio"),
        prompt=prompts.follow_examples, sampler=GREEDY, stops=frozenset({END_OF_TEXT, EOSTM}),
    ),
)  # fmt: skip
