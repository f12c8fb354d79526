"""Perform a task that speaks or converses: prompt → text and speech, which the same files then recognise."""

import io
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.listener import OnMessage, OnProgress, heard_by, phase
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import model_of_checkpoint, model_of_file
from mimo_families.opening import OpenCheckpoints, open_speech_reference
from mimo_families.registry import families, system_of
from mimo_families.same_model import check_same
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.manifests import AudioFile
from runtime_check.audio.wav_stream import WavStream
from runtime_check.audio.wave import Sound, Wave
from runtime_check.audio.write import encoded
from runtime_check.choices import SPEECH, TRANSCRIBE
from runtime_check.gate import WAVE
from runtime_check.report.records import Report
from runtime_check.report.results import Results
from runtime_check.run.activations import Stages
from runtime_check.run.check import OURS, Checked
from runtime_check.run.records import Check, ClipFacts, SpeechFacts, TaskFacts
from runtime_check.run.speech.generated import compare_generation
from runtime_check.run.speech.tasks import (
    Asked,
    Codes,
    Prompt,
    Reply,
    Speaker,
    SpeechReference,
    SpeechTask,
    check_takes,
    find_task,
    option,
)
from runtime_check.run.system import AUTO_LANGUAGE, SystemType, Task
from runtime_check.run.transcription.transcribe import longest_piece
from runtime_check.run.validate import Inputs, Ready, check_language, open_ready
from runtime_check.text.tokenizer import TextTokenizer
from runtime_check.text.words import count_words

from ..checking import make_folder, members, write_stages
from .asked import SpeechOptions, asked_of, check_texts, read_material

SPOKEN = Path("speech.wav")  # the name of speech that is not written
NO_CLIP = ClipFacts("no audio", "", 0.0, 0)


def speak(
    options: SpeechOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> Report:  # fmt: skip
    """Perform a task, as `mimo-check FILE --task TASK` does: the report has one check, of what was generated.

    Raises InputError, before anything is run, for a file that does not do the task, options that it does not take, and
    outputs that cannot be written.
    """
    with heard_by(progress, message):
        return Speaking(options, claims or Claims()).report()


def prompt_ids(
    options: SpeechOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
) -> list[int]:  # fmt: skip
    """The text ids of a task's prompt, one a position; nothing is generated, and companions are opened only to encode
    clips. Raises InputError as `speak`."""
    with heard_by(progress, message):
        return Speaking(options, Claims()).prompt_ids()


class Speaking:
    """A task with its options, which are validated: its files are opened when they are needed."""

    def __init__(self, o: SpeechOptions, claims: Claims) -> None:
        self.o, self.claims, self.files = o, claims, OpenFiles(families())
        self.type = system_of(self.files.family(o.file))
        self.task = find_task(self.type.speech_tasks, o.task, o.reply, self.type.family.architecture)
        check_options(o, self.task, self.type)
        self.material = read_material(o, self.task, claims)

    @cached_property
    def ready(self) -> Ready:
        """The open system."""
        given = {role: path for role, path in self.o.companions.items() if path}
        paths = members(self.o.file, self.files, given)[1]
        for role, path in paths.items():
            if role != self.type.family.role:
                self.claims.reads("--tokenizer", path)
        return open_ready(
            self.type, paths, self.files, Inputs((), repack=self.o.repack, products=self.o.products), self.o.threads
        )

    @cached_property
    def speaker(self) -> Speaker:
        """The open system as a speaker."""
        found: Speaker = import_module(self.type.speaker).open_speaker(self.ready.system)
        return found

    @cached_property
    def asked(self) -> Asked:
        """What is asked, with the codes of its clips."""
        known: dict[str, Codes] = {}

        def encode(clip: AudioFile) -> Codes:
            if clip.sha256 not in known:
                known[clip.sha256] = self.speaker.encode(clip.read())
            return known[clip.sha256]

        return asked_of(self.o, self.task, self.material, encode)

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt of the task."""
        model, text = self.files.model(self.o.file), self.type.family.text
        assert text is not None
        tokenizer = TextTokenizer.from_gguf(model, text)
        return self.task.make_prompt(self.asked, tokenizer, model.dims, self.material.history)

    def prompt_ids(self) -> list[int]:
        """The text ids of the prompt, one a position."""
        return self.task.text_ids(self.prompt, self.files.model(self.o.file).dims)

    def report(self) -> Report:
        """Perform the task and write what was asked for."""
        o = self.o
        o.outputs.check()
        make_folder(o.dump)
        for path in (o.wav, o.stream, o.save_history):
            check_can_write(path)
        results = Results("mimo-check")
        self.open_reference()
        checked, history = self.check()
        results.add_check(checked)
        if o.save_history:
            write_whole(o.save_history, array_bytes(history))
        if o.dump:
            write_stages(o.dump, checked.stages, self.claims)
        return results.write(o.outputs)

    def check(self) -> tuple[Checked, Prompt]:
        """Perform the task: what was generated, and, of speech, what the same files hear in it; with the history."""
        reply, wave = self.perform()
        measured = self.speaker.measured()
        found = Check(
            passed=None,
            files=tuple(self.ready.facts),
            clip=self.heard_clip(),
            task=TaskFacts(self.task.name, self.o.language or AUTO_LANGUAGE),
            transcript=reply.text,
            token_ids=tuple(reply.token_ids),
            timings=measured.timings,
            memory=measured.memory,
            products=measured.products,
            speech=SpeechFacts(
                reply=self.task.reply,
                text=reply.text,
                seconds=0.0 if wave is None else len(wave) / self.speaker.rate,
                prompt_groups=reply.prompt_groups,
                groups=reply.groups,
                ended=reply.ended,
                dropped_forbidden=reply.dropped_forbidden,
                seed=self.o.sampling.seed,
                sampling=reply.sampling,
            ),
        )
        found, stages = self.compared(found, reply)
        if wave is None:
            return Checked(found, stages), reply.history
        clip = self.write(wave, reply)
        heard = self.recognise(clip) if len(reply.codes) else ""
        words = count_words(clip.text, heard) if clip.text else None
        facts = ClipFacts(str(clip.path), clip.sha256, clip.seconds, clip.rate, clip.text)
        found = replace(found, clip=facts, transcript=heard, words=words)
        sound = Sound(OURS, wave, self.speaker.rate)
        return Checked(found, stages | {WAVE: wave}, (sound,), sound), reply.history

    def open_reference(self) -> None:
        """Open the checkpoint that is compared with, before long work. Raises InputError if it is none, of another
        model, or if PyTorch is missing."""
        self.reference: tuple[Checkpoint, SpeechReference] | None = None
        if self.o.reference:
            found = open_speech_reference(self.o.reference, self.type, OpenCheckpoints())
            family = self.type.family
            check_same(model_of_file(self.o.file, self.files), model_of_checkpoint(found[0], family))
            self.reference = found

    def compared(self, found: Check, reply: Reply) -> tuple[Check, Stages]:
        """The check with every stage of the generation compared, if there is a reference, and those stages, if they are
        compared or written."""
        if not (self.reference or self.o.dump):
            return found, reply.stages
        forced = self.speaker.force(reply)
        if not self.reference:
            return found, forced.stages
        checkpoint, run = self.reference
        nbytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        begin = time.perf_counter()
        with phase("reference in PyTorch", nbytes):
            reference = run(
                checkpoint, self.task, self.asked, self.material.history, self.o.sampling, forced.stages,
                self.o.reference_dtype,
            )  # fmt: skip
        timings = {**self.speaker.measured().timings, "reference_s": time.perf_counter() - begin}
        compared = compare_generation(
            replace(found, timings=timings), self.ready.system, self.speaker, forced, reference
        )
        return compared, forced.stages

    def perform(self) -> tuple[Reply, Wave | None]:
        """Reply to the prompt; the wave is None of a reply in text."""
        o, parts = self.o, list[Wave]()
        prompt = self.prompt
        with ExitStack() as stack:
            stream = stack.enter_context(WavStream(o.stream, self.speaker.rate)) if o.stream else None

            def hear(wave: Wave) -> None:
                assert stream is not None
                stream.write(wave)
                parts.append(wave)

            reply = self.speaker.reply(self.task, prompt, o.sampling, hear if stream else None)
        if self.task.reply != SPEECH:
            return reply, None
        return reply, np.concatenate(parts) if stream and not o.wav else self.speaker.decode(reply.codes)

    def write(self, wave: Wave, reply: Reply) -> Clip:
        """What was spoken, written if that was asked for, with the text that was to be said: that of the task, else the
        reply's own."""
        data = encoded(wave, self.speaker.rate, "WAV", "PCM_16")
        if self.o.wav:
            write_whole(self.o.wav, data)
        text = self.o.text if "text" in self.task.takes else reply.text
        has_words = text is not None and any(character.isalnum() for character in text)
        path = self.o.wav or self.o.stream or SPOKEN
        return Clip(path, wave, self.speaker.rate, sha256(data).hexdigest(), text if has_words else None)

    def heard_clip(self) -> ClipFacts:
        """The user's last clip, if there is one."""
        if self.material.clip is None:
            return NO_CLIP
        clip = self.material.clip.read()
        return ClipFacts(str(clip.path), clip.sha256, clip.seconds, clip.rate)

    def recognise(self, clip: Clip) -> str:
        """What the same files hear."""
        system, cutting = self.ready.system, self.type.cutting
        task = Task(TRANSCRIBE, self.o.language or AUTO_LANGUAGE)
        parts = cutting.cut(clip, longest_piece(system, clip.path))
        return "".join(cutting.join(system.run(part.clip, task).transcript.strip() for part in parts))


def check_options(o: SpeechOptions, task: SpeechTask, system: SystemType) -> None:
    """Raise InputError for options that the task does not take, lacks, or that contradict each other."""
    check_takes(o.given, task, system.speech_tasks)
    check_language(o.language, system)
    check_texts(o)
    for name in ("temperature", "top_k", "top_p", "local_temperature", "local_top_p"):
        if o.sampling.greedy and getattr(o.sampling, name) is not None:
            raise InputError(option(name), "and --greedy: nothing is drawn", todo="give one of them")
    for name in ("voice", "system"):
        if o.history and getattr(o, name):
            what = "stands at the beginning, which --history has"
            raise InputError(option(name), what, todo="leave it out")


def array_bytes(array: Any) -> bytes:
    """An array as a NumPy file."""
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()
