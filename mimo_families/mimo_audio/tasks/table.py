"""The tasks of MiMo-Audio that speak or converse, as data: what each takes, its prompt, its sampler, its stop tokens.

Source: github.com/XiaomiMiMo/MiMo-Audio, `MimoAudio` and `MiMoSampler`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from quantize.errors import InputError
from runtime_check.choices import CHAT, CONTINUE, DIALOGUE, SPEAK, SPEECH, TEXT, TRANSCRIBE, UNDERSTAND
from runtime_check.run.speech.tasks import Asked, SpeechTask
from runtime_check.text.tokenizer import TextTokenizer

from ..layout import SpeechLMDims
from ..segments import EOSTM, EOT, SOSTM, Ids, Segment, lay_out
from ..speech.sampler import GREEDY, Sampler
from . import prompts

END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
STOPS = frozenset({END_OF_TEXT, END_OF_TURN})
SPOKEN = frozenset({"wav", "stream", "local_temperature", "local_top_p"})  # options about speech
CONVERSES = frozenset({"dialogue", "history"})
DRAWS = frozenset({"seed", "greedy", "temperature", "top_k", "top_p", "min_new", "save_history"})  # about generation


@dataclass(frozen=True)
class MimoAudioTask(SpeechTask):
    """A task: the segments of its prompt, the sampler of text ids, and the tokens that end it."""

    prompt: Callable[[Asked], Iterable[Segment]] = field(kw_only=True)
    sampler: Sampler = field(kw_only=True)
    stops: frozenset[str] = field(kw_only=True)

    def make_prompt(self, asked: Asked, text: TextTokenizer, d: SpeechLMDims, history: Ids | None = None) -> Ids:
        """The prompt, (1 + channels, T) int32, behind a `history` of that form. Raises InputError for a vocabulary
        without a token of speech, and for a history that is not the model's."""
        for token in (SOSTM, EOSTM, EOT):
            if text.tokenizer.token_to_id(token) is None:
                raise InputError("key tokenizer.ggml.tokens", f"has no token {token}", expected="it, to speak")
        ids = lay_out(self.prompt(asked), text.encode, d)
        return ids if history is None else np.concatenate([checked_history(history, d), ids], axis=1)

    def text_ids(self, prompt: Ids, d: SpeechLMDims) -> list[int]:
        """The text id of each group of a prompt, (1 + channels, T)."""
        found: list[int] = prompt[0, :: d.group_size].tolist()
        return found


def checked_history(history: Ids, d: SpeechLMDims) -> Ids:
    """A sequence of groups. Raises InputError for one that is not the model's."""
    n_rows = 1 + d.channels
    if history.ndim != 2 or len(history) != n_rows or history.shape[1] % d.group_size or history.dtype.kind not in "iu":
        expected = f"whole numbers of the shape ({n_rows}, a multiple of {d.group_size})"
        raise InputError("--history", f"holds {history.dtype} of the shape {history.shape}", expected=expected)
    text, codes = history[0, :: d.group_size], history[1:]
    known = (codes >= 0).all() and (codes < np.array(d.speech_vocab)[:, None]).all()
    if not known or (text < 0).any() or (text >= d.vocab_size).any():
        raise InputError("--history", "holds ids that the model does not have", expected="what --save-history wrote")
    return history.astype(np.int32)


TASKS = (
    MimoAudioTask(
        TRANSCRIBE, TEXT, frozenset({"audio", "text"}), (), ("audio",),
        prompt=prompts.transcribe, sampler=GREEDY, stops=STOPS,
    ),
    MimoAudioTask(
        SPEAK, SPEECH, DRAWS | SPOKEN | {"text", "instruct", "voice", "as_is"}, (("text",),),
        prompt=prompts.speak, sampler=Sampler(temperature=0.6), stops=STOPS | {EOSTM},
    ),
    MimoAudioTask(
        UNDERSTAND, TEXT, DRAWS | {"audio", "question", "thinking"}, (("audio",), ("question",)), ("audio",),
        prompt=prompts.understand, sampler=Sampler(temperature=0.3, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        DIALOGUE, SPEECH, DRAWS | SPOKEN | CONVERSES | {"reply", "audio", "voice", "system"},
        (("audio", "dialogue"),), ("audio",), ("text", "audio"),
        prompt=prompts.answer_by_speech, sampler=Sampler(temperature=0.6, top_p=0.95), stops=STOPS | {EOSTM},
    ),
    MimoAudioTask(
        DIALOGUE, TEXT, DRAWS | CONVERSES | {"reply", "audio", "thinking"}, (("audio", "dialogue"),),
        ("audio",), ("text",),
        prompt=prompts.answer_by_text, sampler=Sampler(temperature=0.6, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        CHAT, TEXT, DRAWS | CONVERSES | {"text", "thinking"}, (("text", "dialogue"),), ("text",), ("text",),
        prompt=prompts.chat, sampler=Sampler(temperature=0.4, top_p=0.95), stops=STOPS,
    ),
    MimoAudioTask(
        CONTINUE, SPEECH, DRAWS | SPOKEN | {"audio", "instruct", "dialogue"}, (("instruct",), ("dialogue", "audio")),
        ("audio",), ("text", "audio"),
        prompt=prompts.follow_examples, sampler=GREEDY, stops=frozenset({END_OF_TEXT, EOSTM}),
    ),
)  # fmt: skip
