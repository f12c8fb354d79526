"""The interface of a system that speaks: its tasks, what is asked of one, and what comes of it. Families implement it
(docs/families.md)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from mimo_convert.model.checkpoint import Checkpoint
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Wave
from runtime_check.choices import AUTO, TRANSCRIBE
from runtime_check.text.tokenizer import TextTokenizer

from ..activations import Activations, Stages
from ..stages import Stage

Codes = npt.NDArray[Any]  # (frames, codebooks) whole numbers
Prompt = npt.NDArray[Any]  # (1 + codebooks, positions) ids, of which row 0 is text


@dataclass(frozen=True)
class SpeechTask:
    """A task: its `name`, what it replies with (TEXT or SPEECH), the options that it `takes`, beyond those of every
    task, and those that it needs, of each group of alternatives one. `user` and `assistant` are what it needs of their
    turns in a dialogue: `text`, `audio`."""

    name: str
    reply: str
    takes: frozenset[str]
    needs: tuple[tuple[str, ...], ...] = ()
    user: tuple[str, ...] = ()
    assistant: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The options that choose it, such as `--task dialogue --reply text`."""
        return f"--task {self.name}" + (f" --reply {self.reply}" if "reply" in self.takes else "")

    def make_prompt(self, asked: "Asked", text: TextTokenizer, dims: Any, history: Prompt | None = None) -> Prompt:
        """The prompt, behind a `history` that an earlier reply left. Raises InputError for one of another model."""
        raise NotImplementedError

    def text_ids(self, prompt: Prompt, dims: Any) -> list[int]:
        """The text ids of a prompt, one a position of the text model."""
        raise NotImplementedError


@dataclass(frozen=True)
class Turn:
    """A turn of a dialogue, the user's or the assistant's: its text, and its codes, where the task needs them."""

    is_user: bool
    text: str = ""
    codes: Codes | None = None


@dataclass(frozen=True)
class Asked:
    """What is asked of a task. `instruct` is the style of speech, or the instruction that examples follow; `as_is`: the
    text itself says how it is to be spoken; `turns` end with the user's; `language` is that of a transcription."""

    text: str = ""
    instruct: str = ""
    voice: Codes | None = None
    as_is: bool = False
    question: str = ""
    system: str = ""
    turns: Sequence[Turn] = ()
    thinking: bool = False
    language: str = AUTO


@dataclass(frozen=True)
class Sampling:
    """How text ids and codes are drawn; None: as the task has it. `greedy`: both by argmax."""

    seed: int = 0
    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    local_temperature: float | None = None
    local_top_p: float | None = None
    max_new: int | None = None
    min_new: int = 0


@dataclass(frozen=True)
class Reply:
    """What a system replied: its `text`, its `codes`, none where it replied with text alone; `groups` is the number of
    positions generated behind `prompt_groups`, `ended`: by a stop token; `dropped_forbidden` counts draws whose filters
    left only forbidden ids; `history` is the whole sequence, to which another prompt can be appended; `sampling` are
    the settings by option, a temperature of 0 is argmax."""

    text: str
    codes: Codes
    token_ids: Sequence[int]
    prompt_groups: int
    groups: int
    ended: bool
    dropped_forbidden: int
    history: Prompt
    stages: Stages
    sampling: Mapping[str, float]


class Forced(NamedTuple):
    """The stages of groups that were given behind a prompt, and the text that they spell."""

    stages: Stages
    text: str


class Measured(NamedTuple):
    """Timings in seconds, memory in bytes, and which code multiplied with which types, of all that a speaker did."""

    timings: dict[str, float]
    memory: dict[str, int]
    products: dict[str, tuple[str, ...]]


class Speaker(Protocol):
    """The open files of a system, ready to speak; `rate` is that of its waves, in Hz, `stages` those of a generation,
    behind the system's own."""

    @property
    def rate(self) -> int: ...
    @property
    def stages(self) -> Sequence[Stage]: ...

    def encode(self, clip: Clip) -> Codes:
        """The codes of a clip."""

    def reply(
        self, task: SpeechTask, prompt: Prompt, sampling: Sampling, hear: Callable[[Wave], object] | None
    ) -> Reply:
        """Reply to a prompt. With `hear`, the wave is decoded while it is spoken, and given to it piece by piece."""

    def force(self, reply: Reply) -> Forced:
        """Every stage of the groups of a reply, as far as they are compared, given behind its prompt."""

    def decode(self, codes: Codes) -> Wave:
        """The wave of codes, (samples,) at `rate`."""

    def measured(self) -> Measured:
        """What it took."""


# The reference's stages and text of the groups in `stages`, given behind the prompt of a task, which it makes itself of
# what is asked and the history; and what it would choose at each place by the same noise. PyTorch's dtype is the last.
SpeechReference = Callable[[Checkpoint, SpeechTask, Asked, Prompt | None, Sampling, Stages, str], Activations]


def find_task(tasks: Sequence[SpeechTask], name: str, reply: str | None, architecture: str) -> SpeechTask:
    """The task of that name that replies so; None: as the first of that name does. Raises InputError if the files of
    `architecture`, which have `tasks`, have no such."""
    named = [task for task in tasks if task.name == name]
    if not named:
        what = f"{name}: files of {architecture} do not {'do so' if tasks else 'speak'}"
        raise InputError("--task", what, expected=" or ".join(dict.fromkeys(task.name for task in tasks)) or TRANSCRIBE)
    found = [task for task in named if reply in (None, task.reply)]
    if not found:
        raise InputError("--reply", f"{reply}, but --task {name} replies with {named[0].reply}", todo="leave it out")
    return found[0]


def check_takes(given: Collection[str], task: SpeechTask, tasks: Iterable[SpeechTask]) -> None:
    """Raise InputError for an option in `given`, by its field, that only others of the `tasks` take, and for one that
    the task needs and that was not given."""
    known = list(tasks)
    for name in given:
        takers = list(dict.fromkeys(other.option for other in known if name in other.takes))
        if takers and name not in task.takes:
            verb = "take it" if len(takers) > 1 else "takes it"
            raise InputError(option(name), f"is not for {task.option}", todo=f"{', '.join(takers)} {verb}")
    for group in task.needs:
        if not set(group) & set(given):
            raise InputError(task.option, f"needs {' or '.join(map(option, group))}")


def option(field: str) -> str:
    """The option of a field."""
    return f"--{field.replace('_', '-')}"
