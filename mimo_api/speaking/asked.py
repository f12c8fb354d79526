"""What is asked of a task that speaks or converses: options, dialogues and clips → texts and codes."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from mimo_convert.claims import Claims
from mimo_convert.files import MB, read_bytes
from mimo_convert.formats.json_file import SURROGATE
from mimo_convert.threads import default_threads
from quantize.errors import InputError
from runtime_check.audio.dialogues import USER, TurnFile, read_dialogue
from runtime_check.audio.jfk import JFK
from runtime_check.audio.manifests import AudioFile, checked_text, find_clips
from runtime_check.choices import AUTO, SPEAK, TRANSCRIBE
from runtime_check.report.results import NO_OUTPUTS, Outputs
from runtime_check.run.speech.tasks import Asked, Codes, Prompt, Sampling, SpeechTask, Turn, option

from ..paths import with_paths

MOST_HISTORY_BYTES = 64 * MB
HISTORY = "what --save-history wrote"
AS_THE_TASK = Sampling()
TEXTS = ("text", "instruct", "question", "system")


@dataclass(frozen=True)
class SpeechOptions:
    """Options of a `task` of `file` and its companions (None: those beside it).

    `text` is what is to be said, or the user's message; `audio` the user's clip, `voice` one of the voice to speak
    with; `instruct` the style, or the instruction that examples follow; `as_is`: the text itself says how to speak;
    `question` and `system` are texts, `dialogue` a file of turns before the last one (JSON lines), `history` one
    that `save_history` wrote after an earlier call. `reply` is "text" or "speech", None: as the task does. `wav` is
    written at the end, `stream` while the model speaks; `dump` is a folder for every stage. `language` is that of
    recognition. `reference` is a checkpoint that is given the same groups in PyTorch, in the dtype
    `reference_dtype`.
    """

    file: Path
    task: str = SPEAK
    outputs: Outputs = NO_OUTPUTS
    threads: int = field(default_factory=default_threads)
    companions: Mapping[str, Path | None] = field(default_factory=dict)
    text: str | None = None
    audio: Sequence[Path] = ()
    instruct: str | None = None
    voice: Path | None = None
    as_is: bool = False
    question: str | None = None
    system: str | None = None
    dialogue: Path | None = None
    history: Path | None = None
    save_history: Path | None = None
    reply: str | None = None
    thinking: bool = False
    wav: Path | None = None
    stream: Path | None = None
    sampling: Sampling = AS_THE_TASK
    language: str | None = None
    repack: str = AUTO
    products: str = AUTO
    dump: Path | None = None
    reference: str | None = None
    reference_dtype: str = "f32"

    def __post_init__(self) -> None:
        with_paths(self)

    @property
    def given(self) -> list[str]:
        """The names of the options that were given."""
        return [name for name in (*names_of(self), *names_of(self.sampling)) if name != "max_new"]


def names_of(options: SpeechOptions | Sampling) -> list[str]:
    """The fields of options that differ from their defaults."""
    return [one.name for one in fields(options) if getattr(options, one.name) not in (one.default, None, ())]


@dataclass(frozen=True)
class Material:
    """The files of what is asked, opened: the turns of a dialogue, the last one the user's, the clip of the voice, and
    the sequence before the prompt."""

    turns: Sequence[TurnFile] = ()
    voice: AudioFile | None = None
    history: Prompt | None = None

    @property
    def clip(self) -> AudioFile | None:
        """The user's last clip, if there is one."""
        return self.turns[-1].audio if self.turns else None


def read_material(o: SpeechOptions, task: SpeechTask, claims: Claims) -> Material:
    """Open the files of what is asked. Raises InputError for a file that cannot be read, a dialogue that does not end
    with the user's turn, and a turn without what the task needs of it."""
    turns = [*(read_dialogue(o.dialogue) if o.dialogue else []), *last_turn(o, task)]
    if turns and turns[-1].role != USER:
        raise InputError(turns[-1].where, "is the assistant's", expected="the user's turn at the end")
    for turn in turns:
        for name in needs_of(task, turn):
            if not getattr(turn, name):
                raise InputError(turn.where, f"has no {name}", expected=f"one in each turn of the {turn.role}")
        if turn.audio:
            claims.reads("--dialogue", turn.audio.path)
    return Material(turns, one_clip("--voice", [o.voice]) if o.voice else None, read_history(o.history))


def last_turn(o: SpeechOptions, task: SpeechTask) -> list[TurnFile]:
    """The user's turn that options give: a clip or a text, as the task needs it."""
    audio = o.audio or ([JFK] if task.name == TRANSCRIBE else [])
    if "audio" in task.user and audio:
        return [TurnFile(USER, "", one_clip("--audio", audio), "--audio")]
    return [TurnFile(USER, o.text, None, "--text")] if "text" in task.user and o.text else []


def needs_of(task: SpeechTask, turn: TurnFile) -> tuple[str, ...]:
    """What a task needs of a turn."""
    return task.user if turn.role == USER else task.assistant


def one_clip(name: str, paths: Sequence[Path]) -> AudioFile:
    """The clip of an option. Raises InputError if there are several, or if it cannot be decoded."""
    found = find_clips(paths)
    if len(found) != 1:
        raise InputError(name, f"is one clip, found {len(found)}", todo="give one file")
    return found[0]


def read_history(path: Path | None) -> Prompt | None:
    """The sequence in a file; None if there is none. Raises InputError for another file."""
    if path is None:
        return None
    data = read_bytes(path, MOST_HISTORY_BYTES, expected=HISTORY)
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise TypeError
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise InputError(path, "is not a sequence of ids", expected=HISTORY) from error
    return found


def check_texts(o: SpeechOptions) -> None:
    """Raise InputError for a text that says nothing, or that is not Unicode."""
    for name in TEXTS:
        text = getattr(o, name)
        if text is not None and SURROGATE.search(text):
            raise InputError(option(name), "is not text in UTF-8", todo="check the terminal's encoding")
        if text is not None:
            checked_text(text, option(name))


def asked_of(o: SpeechOptions, task: SpeechTask, material: Material, encode: Callable[[AudioFile], Codes]) -> Asked:
    """What is asked, with the codes of every clip that the task needs."""

    def turn_of(turn: TurnFile) -> Turn:
        heard = turn.audio if "audio" in needs_of(task, turn) else None
        return Turn(turn.role == USER, turn.text, encode(heard) if heard else None)

    return Asked(
        text=o.text or "",
        instruct=o.instruct or "",
        voice=encode(material.voice) if material.voice else None,
        as_is=o.as_is,
        question=o.question or "",
        system=o.system or "",
        turns=[turn_of(turn) for turn in material.turns],
        thinking=o.thinking,
        language=o.language or AUTO,
    )
