"""Transcribe audio of any length with GGUF files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from mimo_convert.claims import Claims
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.threads import default_threads
from mimo_families.registry import families
from quantize.errors import InputError
from runtime_check.audio.cutting import AT_PAUSES
from runtime_check.audio.follow import PIECE_SECONDS, follow
from runtime_check.audio.manifests import AudioFile, find_clips
from runtime_check.choices import AUTO
from runtime_check.run.members import open_system
from runtime_check.run.system import AUTO_LANGUAGE, Compute, System, SystemType, Task, Work
from runtime_check.run.transcription.transcribe import Piece, Transcript, longest_piece, transcribe_clip
from runtime_check.run.validate import check_language, check_task_options, choose_language

from .checking import members
from .paths import with_paths


@dataclass(frozen=True)
class TranscribeOptions:
    """Options of a transcription of `audio`: files, folders, manifests, or `-` for standard input.

    `companions` are files of the other roles (None: those beside `file`). With `follow_idle` the one audio file may be
    growing; it has ended when nothing was added for so many seconds. `runtime` is another program whose results are
    computed; it cuts no clip that the context holds.
    """

    file: Path
    audio: Sequence[Path]
    threads: int = field(default_factory=default_threads)
    companions: Mapping[str, Path | None] = field(default_factory=dict)
    language: str | None = None
    context: str = ""
    attention: str = AUTO
    runtime: str = ""
    max_new_tokens: int | None = None
    repack: str = AUTO
    products: str = AUTO
    follow_idle: float | None = None

    def __post_init__(self) -> None:
        with_paths(self)


def transcribe(
    options: TranscribeOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> list[Transcript]:  # fmt: skip
    """The transcript of each clip, whose pieces are run as they are read, in order.

    Raises InputError, before anything is run, for files that cannot be run and audio that cannot be decoded.
    """
    with heard_by(progress, message):
        transcripts = _transcripts(options, claims or Claims())
    for transcript in transcripts:
        transcript.run_under(lambda: heard_by(progress, message))
    return transcripts


def _transcripts(o: TranscribeOptions, claims: Claims) -> list[Transcript]:
    files = OpenFiles(families())
    system, paths = members(o.file, files, {role: path for role, path in o.companions.items() if path})
    for path in paths.values():
        claims.reads("FILE", path)
    check_language(o.language, system)
    check_task_options(system, o.language, context=o.context, attention=o.attention, runtime=o.runtime)
    if o.follow_idle and len(o.audio) != 1:
        raise InputError("--follow", f"is for one audio file, found {len(o.audio)}", todo="start a command for each")
    clips = [] if o.follow_idle else find_clips(o.audio)
    work = Work(sum(clip.seconds for clip in clips), len(clips))
    opened = open_system(system, paths, files, Compute(o.threads, o.repack, o.products), work)
    if opened.text is None:
        what = f"is an {system.family.role.replace('_', ' ')}, which writes no words"
        raise InputError(o.file, what, todo="give the file that it belongs to")
    if o.follow_idle:
        return [_of_growing(o, opened, o.audio[0], o.follow_idle)]
    return [_of_clip(o, opened, system, clip) for clip in clips]


def _of_clip(o: TranscribeOptions, opened: System, system: SystemType, file: AudioFile) -> Transcript:
    """The transcript of a clip."""
    task = _task(o, choose_language(o.language, None, file, system, o.runtime))
    cutting = AT_PAUSES if o.runtime else system.cutting

    def pieces() -> Iterator[Piece]:
        yield from transcribe_clip(opened, file.read(), task, cutting=cutting)

    return Transcript(file.path, task.language, pieces(), file.seconds, cutting.join)


def _task(o: TranscribeOptions, language: str) -> Task:
    return Task("transcribe", language, o.max_new_tokens, o.context, o.attention, o.runtime)


def _of_growing(o: TranscribeOptions, opened: System, path: Path, idle: float) -> Transcript:
    """The transcript of a growing file."""
    task = _task(o, o.language or AUTO_LANGUAGE)
    parts = follow(path, idle, min(longest_piece(opened, path), PIECE_SECONDS))
    pieces = chain.from_iterable(transcribe_clip(opened, clip, task, begin) for begin, clip in parts)
    return Transcript(path, task.language, pieces)
