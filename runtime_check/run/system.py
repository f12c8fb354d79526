"""The interface of a system: files that work together, and their tasks. Families implement it (docs/families.md); the
engines know nothing else of a model."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.family import Family
from mimo_convert.model.model_file import ModelFile
from quantize.types import Type
from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import AT_PAUSES, Cutting
from runtime_check.choices import AUTO, TRANSCRIBE
from runtime_check.text.tokenizer import TextTokenizer

from .activations import Activations, Stages
from .speech.tasks import SpeechTask
from .stages import Stage

AUTO_LANGUAGE = "auto"
CONTEXT, ATTENTION, RUNTIME = "context", "attention", "runtime"
# Fields of a task that not every system knows → their defaults.
TASK_OPTIONS = {CONTEXT: "", ATTENTION: AUTO, RUNTIME: ""}


class Task(NamedTuple):
    """A task: its name, the language of the prompt, the maximum number of response tokens (None: the system's own),
    and what only some systems know: the `context`, hints for the prompt, the `attention` of the audio encoder
    (choices.ATTENTION; AUTO: as the file says), and the `runtime` that is imitated (empty: upstream)."""

    name: str = TRANSCRIBE
    language: str = AUTO_LANGUAGE
    max_new_tokens: int | None = None
    context: str = ""
    attention: str = AUTO
    runtime: str = ""

    def longest(self, clip: Clip) -> int:
        """The maximum number of response tokens for `clip`."""
        return self.max_new_tokens or clip.longest_response


class Compute(NamedTuple):
    """How a system computes: its threads, whether weights are repacked, and the code that multiplies (choices.REPACK,
    choices.PRODUCTS)."""

    threads: int
    repack: str = AUTO
    products: str = AUTO


class Work(NamedTuple):
    """The expected work: seconds of audio, number of clips, and whether each is also teacher-forced."""

    seconds: float
    clips: int = 1
    compared: bool = False


NO_WORK = Work(0)


class Member(NamedTuple):
    """A file of a system and its role."""

    role: str
    model: ModelFile


class System(Protocol):
    """Open files, ready to run. `members` are its files, the main one first; `stages` every stage of a run, in order;
    `text` the tokenizer of its text model, None if it has none; `context` the positions that prompt and response can
    have together, None if that is not bounded; `wave_rate` the sampling rate of the waves that it computes, None if it
    computes none; `task` the name of what a check runs."""

    @property
    def members(self) -> Sequence[Member]: ...
    @property
    def stages(self) -> Sequence[Stage]: ...
    @property
    def text(self) -> TextTokenizer | None: ...
    @property
    def context(self) -> int | None: ...
    @property
    def wave_rate(self) -> int | None: ...
    @property
    def task(self) -> str: ...

    def prompt_positions(self, seconds: float) -> int:
        """Positions of the prompt of a clip of that length."""

    def run(self, clip: Clip, task: Task, *, keep_stages: bool = False, heard: Stages | None = None) -> Activations:
        """Run `task` on `clip` with greedy decoding; with `keep_stages`, the text model's stages are kept.

        `heard` are stages of a run on the same clip, those that `SystemType.heard` names: they are not computed
        again, nor are those before them.
        """

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """The text model's stages for the reference's codes and response, and the logits of incremental decoding; of a
        system without text, the stages that follow from the codes.

        Results of `run` are reused.
        """

    def transcript(self, ids: Sequence[int], task: Task) -> str:
        """The transcript of a response to `task`, without the model's markers."""


class Runtime(NamedTuple):
    """Another runtime for the files: its name, its URL, and its command, with the placeholders `{file}`, `{companion}`
    and `{clip}`. The command names a companion, also where the runtime could find it by itself; `finds` is the name of
    the companion that it finds so, empty if it finds none. `remark` is what its user should know besides."""

    name: str
    url: str
    command: tuple[str, ...]
    finds: str = ""
    remark: str = ""

    @property
    def companion_option(self) -> str:
        """The option that names the companion; empty if the command has none."""
        before = dict(zip(self.command[1:], self.command, strict=False))
        return before.get("{companion}", "")

    @property
    def note(self) -> str:
        """What its user should know; empty if there is nothing."""
        if not self.finds:
            return self.remark
        return f"Without {self.companion_option} it finds the file beside this one only by the name {self.finds}."


class Program(NamedTuple):
    """Another program that people run speech models with: its name and its URL."""

    name: str
    url: str


class Bundled(NamedTuple):
    """A model bundled with the package: folder and name of each role's checkpoint, and a stored reference for the JFK
    clip."""

    checkpoints: Mapping[str, tuple[Path, str]]
    reference: Path | None = None


ReferenceRun = Callable[[Mapping[str, Checkpoint], Clip, Task, Sequence[int] | None, str], Activations]


def no_problems(stages: Stages) -> Iterator[tuple[str, str]]:
    """No constraints on a stored reference's stages beyond equal dimensions."""
    return iter(())


def in_one_way(files: Mapping[str, ModelFile]) -> str:
    """How companions hear a clip, if the main file has no say in it."""
    return ""


@dataclass(frozen=True)
class SystemType:
    """The type of a system, which a family registers: its main family and `companions`.

    `open(files, compute, work)` opens files by role; `reference` is the module whose `run(checkpoints, clip,
    task, response, dtype)` computes the same stages in PyTorch, imported on demand; `calibration` is the module whose
    `open_forwards(checkpoints, task)` gives the Forwards that it is calibrated by, imported likewise; empty: it cannot
    be. `languages` are those of the
    prompt, `task_options` the fields of a task that not every system knows (TASK_OPTIONS); `published` the Hub ids of
    the published checkpoints by role; `bundled` the models bundled with the package. `reference_problems(stages)`
    yields contradictions in a stored reference as (found, expected); `sizes` tell one of another model: the name of an
    axis, or of a numbered stage, → the role and the field of its dimensions that give its size, or the number of its
    layers. `runtimes` are other programs that run the files, `not_run_by` those that are known to refuse them.
    `least_companion` is the type of the companions of main files that are smaller; None: companions are of the type of
    their main file. `cutting` is how clips that are too long are cut, and what was heard joined.

    A checkpoint may become files of several layouts: a system whose `layout_of` is the name of another one has the same
    model in the files that `runtime` loads, all of which are made of the one checkpoint. Its files are named after
    the model, and a companion as its main file is, behind `companion_prefix`. `companion_key` is what a config of
    nightly runs calls the companion's file. `imitates` are the runtimes whose results a task can ask for.

    `heard` are the stages that companions alone compute, and all that the main file takes of them: files of one model
    that have the companions in common can share them. `hearing(files)` says in a text how they are computed, beside
    the clip and the companions' files: where it is the same, they are.

    `speech_tasks` are the tasks beside transcription; `speaker` is the module whose `open_speaker(system)` gives a
    Speaker for them, `speech_reference` that whose `run` is a SpeechReference; both are imported on demand.
    """

    name: str
    family: Family
    stages: Sequence[Stage]
    open: Callable[..., System]
    reference: str
    calibration: str = ""
    companions: Sequence[Family] = ()
    languages: Sequence[str] = ()
    task_options: Collection[str] = ()
    published: Mapping[str, str] = field(default_factory=dict)
    bundled: Mapping[str, Bundled] = field(default_factory=dict)
    reference_problems: Callable[[Stages], Iterator[tuple[str, str]]] = no_problems
    sizes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    runtimes: Sequence[Runtime] = ()
    not_run_by: Sequence[Program] = ()
    least_companion: Type | None = None
    cutting: Cutting = AT_PAUSES
    layout_of: str = ""
    runtime: str = ""
    companion_prefix: str = ""
    companion_key: str = "tokenizer"
    imitates: Collection[str] = ()
    heard: Sequence[str] = ()
    hearing: Callable[[Mapping[str, ModelFile]], str] = in_one_way
    speech_tasks: Sequence[SpeechTask] = ()
    speaker: str = ""
    speech_reference: str = ""

    @property
    def families(self) -> tuple[Family, ...]:
        """The families of the members, the main one first."""
        return (self.family, *self.companions)

    def companion_type(self, main: Type) -> Type:
        """The type of the companions that belong to a main file of the type `main`."""
        least = self.least_companion
        return least if least and main.bits_per_weight < least.bits_per_weight else main

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the members, the main one first."""
        return tuple(family.role for family in self.families)
