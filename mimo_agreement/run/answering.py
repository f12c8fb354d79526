"""Answer jobs: open the files of a model, degrade the clip, run it, and say what was heard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mimo_agreement.records import Answer
from mimo_agreement.store.store import Heard
from mimo_convert.model.model_file import OpenFiles
from mimo_families.registry import families, systems
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import AT_PAUSES, CutClip, Cutting
from runtime_check.run.activations import GREEDY, Activations
from runtime_check.run.members import open_system
from runtime_check.run.system import Compute, System, SystemType
from runtime_check.run.transcription.transcribe import longest_piece
from runtime_check.run.transcription.transcriber import Request, Transcriber
from runtime_check.text.loops import loop_of

from .clips import Clips
from .divergence import divergence, stored
from .heard import packed, unpacked
from .jobs import AT_ONCE, Done, Failed, Job, Model, Outcome
from .places import Places

LOADING = ("load_s", "repack_s")  # timings of a system, which are not of a run
PER_TOKEN, PROOF = "ms_per_token", "proof_s"
NOT_SHARED = (*LOADING, PER_TOKEN, PROOF)
WORKING = "working"  # memory that a run takes for graphs and states
BLANK = "…"  # a loop of what is not to be seen


@dataclass(frozen=True)
class Open:
    """A model whose files are open."""

    model: Model
    kind: SystemType
    system: System


@dataclass(frozen=True)
class Cut:
    """A job whose clip is cut into `parts`, as `cutting` has it, and what is asked about each."""

    job: Job
    clip: Clip
    cutting: Cutting
    parts: Sequence[CutClip]
    requests: Sequence[Request]


class Answerer:
    """Answers jobs about `models`, whose files are in `places`, with so many threads. One model is open at a time;
    `files` are those that the command has read already."""

    def __init__(self, models: Sequence[Model], places: Places, threads: int, files: OpenFiles | None = None) -> None:
        self.models = {(model.facts.sha256, model.facts.companion_sha256): model for model in models}
        self.places, self.threads, self.clips = places, threads, Clips(places)
        self.files = files or OpenFiles(families())
        self._open: Open | None = None

    def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Answer jobs about one model, whose clips are decoded together; a clip that has changed, or cannot be
        degraded, fails.

        Raises InputError for files of a model that have changed, or cannot be run.
        """
        opened = self._opened(jobs[0])
        cut = [self._cut(opened, job) for job in jobs]
        requests = [request for one in cut if isinstance(one, Cut) for request in one.requests]
        runs = iter(run_all(opened.system, requests, keep_logits=any(job.settings.reference for job in jobs)))
        outcomes = [
            self._done(opened, one, [next(runs) for _ in one.parts]) if isinstance(one, Cut) else one for one in cut
        ]
        self._check_unchanged(opened.model)
        return outcomes

    def _cut(self, opened: Open, job: Job) -> Cut | Failed:
        """The clip of a job, cut as the model has it; each part with what its companion has heard, if that is known."""
        try:
            clip = self.clips.of(job)
        except InputError as error:
            return Failed(job, 1, str(error))
        cutting = AT_PAUSES if job.settings.runtime else opened.kind.cutting
        parts = list(cutting.cut(clip, longest_piece(opened.system, clip.path)))
        task, lengths = job.settings.task(opened.system.task), [len(part.clip.wave) for part in parts]
        known = unpacked(job.heard.stages, lengths) if job.heard else None
        requests = [Request(part.clip, task, known[i] if known else None) for i, part in enumerate(parts)]
        return Cut(job, clip, cutting, parts, requests)

    def _done(self, opened: Open, cut: Cut, runs: list[Activations]) -> Done:
        """The answer of the runs on the parts of a clip."""
        job = cut.job
        answer = answer_of(opened.system, cut.clip, runs, cut.cutting)
        if job.settings.reference and len(cut.parts) == 1:
            reference = stored(self.places.path(job.settings.reference), opened.kind.name)
            kl, n = divergence(opened.system, runs[0], reference, job.settings.task(opened.system.task))
            answer = replace(answer, kl=kl, kl_tokens=n)
        return Done(job, *shared(opened.kind, job, answer, runs, cut.parts))

    def _opened(self, job: Job) -> Open:
        key = job.pair.lm, job.pair.companion
        if self._open is None or self.models[key] is not self._open.model:
            self._open = None  # before the next one is opened: its memory is needed
            self._open = self._opening(self.models[key], job)
        return self._open

    def _opening(self, model: Model, job: Job) -> Open:
        kind = next(one for one in systems() if one.name == model.system)
        paths = {role: self.places.path(sha256) for role, sha256 in model.members.items()}
        compute = Compute(self.threads, job.settings.repack, job.settings.products)
        return Open(model, kind, open_system(kind, paths, self.files, compute))

    def _check_unchanged(self, model: Model) -> None:
        """Raise InputError for a file that has changed since it was hashed: what was answered is of neither."""
        for sha256 in model.members.values():
            self.places.path(sha256)


def run_all(system: System, requests: Sequence[Request], *, keep_logits: bool) -> Iterator[Activations]:
    """The run of each request: of a Transcriber, AT_ONCE of them together."""
    if not isinstance(system, Transcriber):
        yield from (system.run(*request[:2], heard=request.heard) for request in requests)
        return
    for first in range(0, len(requests), AT_ONCE):
        yield from system.run_together(requests[first : first + AT_ONCE], keep_logits=keep_logits)


def shared(
    kind: SystemType, job: Job, answer: Answer, runs: Sequence[Activations], parts: Sequence[CutClip]
) -> tuple[Answer, Heard | None]:
    """The answer with the timings and memory of what was heard for another file, and what others can be given."""
    if not job.hearing:
        return answer, None
    if job.heard:
        timings = {name: x for name, x in job.heard.timings.items() if name not in answer.timings} | {**answer.timings}
        memory = {**answer.memory, WORKING: max(one.get(WORKING, 0) for one in (answer.memory, job.heard.memory))}
        return replace(answer, timings=timings, memory=memory), None
    stages = [{name: run.stages[name] for name in kind.heard} for run in runs]
    timings = {name: x for name, x in answer.timings.items() if name not in NOT_SHARED}
    return answer, Heard(packed(stages, [len(part.clip.wave) for part in parts]), timings, dict(answer.memory))


def answer_of(system: System, clip: Clip, runs: Sequence[Activations], cutting: Cutting) -> Answer:
    """The answer of the runs on the parts of a clip."""
    assert system.text is not None  # what writes no words was refused
    ids = [run.stages[GREEDY].tolist() for run in runs]
    spoken = system.text.encode(clip.text or "")
    loops = [loop for one in ids if (loop := loop_of(one, spoken, system.text.decode))]
    return Answer(
        transcript="".join(cutting.join(run.transcript.strip() for run in runs)),
        tokens=sum(map(len, ids)),
        ended=all(one[-1] in system.text.stops for one in ids),
        loop=(loops[0].text or BLANK) if loops else "",
        seconds=clip.seconds,
        timings=timings_of(runs),
        memory={name: max(run.memory[name] for run in runs) for name in runs[0].memory},
    )


def timings_of(runs: Sequence[Activations]) -> Mapping[str, float]:
    """The seconds of each phase over all parts, those of loading once; milliseconds per token over all tokens."""
    found: dict[str, float] = {}
    for run in runs:
        for name, seconds in run.timings.items():
            found[name] = seconds if name in LOADING else found.get(name, 0) + seconds
    steps = [len(run.stages[GREEDY]) - 1 for run in runs]
    if PER_TOKEN in found:
        milliseconds = [run.timings.get(PER_TOKEN, 0.0) * n for run, n in zip(runs, steps, strict=True)]
        found[PER_TOKEN] = float(np.sum(milliseconds)) / sum(steps)
    return found
