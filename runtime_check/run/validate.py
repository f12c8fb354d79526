"""Validate systems on clips, as every command does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mimo_convert.model.model_file import OpenFiles
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_SHA256
from runtime_check.audio.manifests import AudioFile
from runtime_check.choices import AUTO

from .activations import Activations
from .check import Checked, check
from .facts import file_facts
from .members import Paths, open_system
from .records import FileFacts
from .references.sources import Reference
from .system import AUTO_LANGUAGE, RUNTIME, TASK_OPTIONS, Compute, System, SystemType, Task, Work
from .transcription.length import check_length

JFK_LANGUAGE = "english"


@dataclass(frozen=True)
class Inputs:
    """The inputs that all checks of a command share. `language` is None if it was not given."""

    clips: Sequence[AudioFile]
    reference: Reference | None = None
    language: str | None = None
    repack: str = AUTO
    products: str = AUTO
    max_new_tokens: int | None = None
    context: str = ""
    attention: str = AUTO
    runtime: str = ""
    keep_stages: bool = False
    needs_wave: bool = False  # whether the systems must compute a wave
    references: dict[str, Activations] = field(default_factory=dict)  # that are known already, by the clip's hash

    @property
    def work(self) -> Work:
        """The expected work of each system."""
        return Work(sum(clip.seconds for clip in self.clips), len(self.clips), self.reference is not None)

    def compute(self, threads: int) -> Compute:
        """How each system computes."""
        return Compute(threads, self.repack, self.products)

    def check_clips(self) -> None:
        """Raise InputError for a clip that is not the stored reference's."""
        origin = self.reference.origin if self.reference else None
        for clip in self.clips:
            if origin and origin.audio_sha256 != clip.sha256:
                raise InputError(
                    clip.path,
                    "is not the clip that the reference was made from",
                    expected=origin.audio,
                    todo="give that file as --audio, or make a reference with `mimo-check reference`",
                )


@dataclass(frozen=True)
class Ready:
    """An open system, and its files."""

    system: System
    files: OpenFiles

    @cached_property
    def facts(self) -> Sequence[FileFacts]:
        """The facts of its members' files; waits for their hashes."""
        return [file_facts(member.role, member.model, self.files) for member in self.system.members]


def open_ready(system: SystemType, paths: Paths, files: OpenFiles, inputs: Inputs, threads: int) -> Ready:
    """Open a system. Raises InputError for files that could not be run, or a clip that is too long, before anything is
    run.

    A file that is repacked is hashed in the same reading, others beside loading and running.
    """
    from runtime_check.ggml.repack import may_repack  # ggml is slow to import

    for path in paths.values():
        files.hash_of(path).wanted = True
        if not may_repack(inputs.repack, inputs.products):
            files.hash_of(path).begin()
    opened = open_system(system, paths, files, inputs.compute(threads), inputs.work)
    if inputs.needs_wave and opened.wave_rate is None:
        main = opened.members[0].model.path
        raise InputError(main, "makes no sound", expected="a file with a decoder, for --wav")
    for clip in inputs.clips:
        check_length(opened, clip.path, clip.seconds)
    return Ready(opened, files)


def validate(
    inputs: Inputs, systems: Sequence[tuple[SystemType, Paths]], files: OpenFiles, threads: int
) -> Iterator[Checked]:
    """Check the files of each system on every clip.

    A clip's reference is computed once: later systems are compared on the first one's response.
    """
    for system, paths in systems:
        ready = open_ready(system, paths, files, inputs, threads)
        for clip in inputs.clips:
            yield validate_clip(inputs, ready, system, clip.read())


def validate_clip(inputs: Inputs, ready: Ready, system: SystemType, clip: Clip) -> Checked:
    """Check one system on one clip."""
    found, known = inputs.reference, inputs.references
    language = choose_language(inputs.language, found, clip, system, inputs.runtime)
    task = Task(ready.system.task, language, inputs.max_new_tokens, inputs.context, inputs.attention, inputs.runtime)

    def reference(response: Sequence[int] | None) -> Activations:
        assert found is not None
        if clip.sha256 not in known:
            known[clip.sha256] = found.activations(clip, task, response)
        return known[clip.sha256]

    make = reference if found else None
    return check(ready.system, lambda: ready.facts, clip, task, make, keep_stages=inputs.keep_stages)


def check_language(asked: str | None, system: SystemType) -> None:
    """Raise InputError for a language that the system does not support."""
    if asked and system.languages and asked not in (*system.languages, AUTO_LANGUAGE):
        raise InputError("--language", repr(asked), expected=" or ".join(system.languages))


def check_task_options(system: SystemType, language: str | None = None, **asked: str) -> None:
    """Raise InputError for an option of TASK_OPTIONS that was given, and that the system does not know; and for a
    `language` where a runtime is imitated: their commands name none."""
    for name, value in asked.items():
        if value != TASK_OPTIONS[name] and name not in system.task_options:
            raise InputError(f"--{name}", f"does not concern {system.family.architecture}", todo="leave it out")
    runtime = asked.get(RUNTIME)
    if runtime and runtime not in system.imitates:
        raise InputError(f"--{RUNTIME}", repr(runtime), expected=" or ".join(system.imitates))
    if runtime and language not in (None, AUTO_LANGUAGE):
        what = f"{language!r}, but {runtime} detects it"
        raise InputError("--language", what, todo=f"leave it out, or --{RUNTIME}")


def choose_language(
    asked: str | None, reference: Reference | None, clip: Clip | AudioFile, system: SystemType, runtime: str = ""
) -> str:
    """The language of the prompt: as given, else the stored reference's, else English for the JFK clip, else automatic,
    as always where a `runtime` is imitated.

    Raises InputError for a language that the system does not support.
    """
    bound = reference.origin.language if reference and reference.origin else None
    known = (*system.languages, AUTO_LANGUAGE) if AUTO_LANGUAGE not in system.languages else system.languages
    if bound and system.languages and bound not in known:
        raise InputError("reference", f"was made with the language {bound!r}", expected=" or ".join(known))
    check_language(asked, system)
    is_jfk = clip.sha256 == JFK_SHA256 and JFK_LANGUAGE in system.languages
    usual = JFK_LANGUAGE if is_jfk and not runtime else AUTO_LANGUAGE
    return asked or bound or usual
