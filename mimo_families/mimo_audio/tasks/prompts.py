"""The segments of each task's prompt.

| | |
| --- | --- |
| `asr_sft` | `transcribe` |
| `tts_sft` | `speak` |
| `audio_understanding_sft` | `understand` |
| `spoken_dialogue_sft`, `spoken_dialogue_sft_multiturn` | `answer_by_speech` |
| `speech2text_dialogue_sft`, `speech2text_dialogue_sft_multiturn` | `answer_by_text` |
| `text_dialogue_sft`, `text_dialogue_sft_multiturn` | `chat` |
| `in_context_learning_s2s` | `follow_examples` |

Source: github.com/XiaomiMiMo/MiMo-Audio, the methods `get_…_prompt`.
"""

from collections.abc import Iterator

from quantize.errors import InputError
from runtime_check.run.speech.tasks import Asked, Codes, Turn

from ..prompt import ASSISTANT, END, NO_THINKING, USER, segments_of
from ..segments import SOSTM, Audio, Segment, Spoken, Text
from .templates import IN_STYLE, IN_VOICE, VOICE, tts_template

SYSTEM, THINKING = "<|im_start|>system\n", "<think>\n"
SPEAKS, SPEAKS_THINKING = ASSISTANT + SOSTM, ASSISTANT + THINKING


def texts(*parts: str) -> list[Segment]:
    """Texts, a segment each."""
    return list(map(Text, parts))


def audio(turn: Turn) -> Audio:
    """The codes of a turn, which the task needs."""
    assert turn.codes is not None
    return Audio(turn.codes)


def spoken(turn: Turn) -> Spoken:
    """Text and codes of a turn as what the model says."""
    assert turn.codes is not None
    return Spoken(turn.text, turn.codes)


def answer(asked: Asked) -> list[Segment]:
    """The beginning of an answer as text."""
    return texts(ASSISTANT, THINKING if asked.thinking else NO_THINKING)


def transcribe(asked: Asked) -> list[Segment]:
    """The words of a clip."""
    return segments_of(audio(asked.turns[-1]).codes, asked.language)


def speak(asked: Asked) -> list[Segment]:
    """Say a text. With a style, or a text as it is, the system asks for a style, and for a voice if there is one.

    Raises InputError for a voice without either, which the prompt would not name.
    """
    if asked.as_is and asked.instruct:
        raise InputError("--instruct", "and --as-is: the text itself says how", todo="give one of them")
    if asked.voice is not None and not (asked.as_is or asked.instruct):
        raise InputError("--voice", "is not heard without a style", todo="add --instruct, or --as-is")
    text = normalized(asked.text)
    if asked.as_is:
        return [*style_of(asked.voice), *texts(f"{USER}{text}{END}", SPEAKS_THINKING)]
    wanted = f"{USER}{tts_template(text)}: {text}"
    if asked.instruct:
        return [*style_of(asked.voice), *texts(f"{wanted}({asked.instruct}){END}", SPEAKS_THINKING)]
    return texts(f"{wanted}{END}", SPEAKS)


def normalized(text: str) -> str:
    """A text all in capitals, or all in small letters, with the first letter a capital and the others small."""
    return text.capitalize() if text.isupper() or text.islower() else text


def style_of(voice: Codes | None) -> list[Segment]:
    """The system's turn that asks for a style, and for a `voice`."""
    if voice is None:
        return texts(SYSTEM, IN_STYLE, END)
    return [*texts(SYSTEM, IN_VOICE), Audio(voice), Text(END)]


def understand(asked: Asked) -> list[Segment]:
    """A question about a clip."""
    return [Text(USER), audio(asked.turns[-1]), *texts(asked.question, END), *answer(asked)]


def answer_by_speech(asked: Asked) -> Iterator[Segment]:
    """A spoken dialogue: the system's text stands in the first message, if that is the user's."""
    if asked.voice is not None:
        yield from (*texts(SYSTEM, VOICE), Audio(asked.voice), Text(END))
    for i, turn in enumerate(asked.turns):
        if turn.is_user:
            system = texts(asked.system, "\n\n") if asked.system and i == 0 else []
            yield from (Text(USER), *system, audio(turn), Text(END))
        else:
            yield from (Text(ASSISTANT), spoken(turn), Text(END))
    yield Text(SPEAKS)


def answer_by_text(asked: Asked) -> Iterator[Segment]:
    """A dialogue in which the user speaks and the model writes."""
    for turn in asked.turns:
        if turn.is_user:
            yield from (Text(USER), audio(turn), Text(END))
        else:
            yield from texts(ASSISTANT, turn.text, END)
    yield from answer(asked)


def chat(asked: Asked) -> Iterator[Segment]:
    """A dialogue in text."""
    for turn in asked.turns:
        yield from texts(USER if turn.is_user else ASSISTANT, turn.text, END)
    yield from answer(asked)


def follow_examples(asked: Asked) -> Iterator[Segment]:
    """Speech to speech by examples, pairs of the user's turn and the assistant's, as the Base model learnt it."""
    yield Text(f"[Int]:{asked.instruct}\n")
    for turn in asked.turns:
        if turn.is_user:
            yield from (audio(turn), Text("\n"))
        else:
            yield from (spoken(turn), Text(" \n\n"))
    yield Text(SOSTM)
