"""Check a system: run it on a clip and compare every stage with a reference."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Sound
from runtime_check.gate import CODES, IDS, WAVE
from runtime_check.text.loops import loop_of
from runtime_check.text.words import count_words

from .activations import GREEDY, INCREMENTAL_LOGITS, RESPONSE, Activations, Origin, Stages
from .compare.stages import Comparison, Texts, compare
from .records import Check, ClipFacts, FileFacts, ReferenceFacts, TaskFacts
from .stages import stage_named
from .system import TASK_OPTIONS, System, Task

# The reference for a response, token ids (None: that of the clip's text, or its own).
MakeReference = Callable[[Sequence[int] | None], Activations]
OURS, REFERENCE = "by the file", "by the reference"  # whose waves they are
MAKE_AGAIN = "make it again with `mimo-check reference`"


@dataclass(frozen=True)
class Checked:
    """A check, the activations of its run by stage, the waves that were compared, and the wave of the run, which may be
    of other codes."""

    check: Check
    stages: Stages
    sounds: tuple[Sound, ...] = ()
    wave: Sound | None = None


def check(
    system: System,
    facts: Callable[[], Sequence[FileFacts]],
    clip: Clip,
    task: Task,
    make_reference: MakeReference | None,
    *,
    keep_stages: bool = False,
) -> Checked:
    """Run the system on `clip` and compare it with a reference. `facts` gives those of its members' files: it is called
    after the run, beside which their hashes may be computed.

    Without a reference, all stages are kept only with `keep_stages`. Raises InputError for a reference that does not
    belong to the system.
    """
    run = system.run(clip, task, keep_stages=keep_stages and make_reference is None)
    files, made = facts(), sounds_of(system, run.stages, OURS)
    found = facts_of(system, files, clip, task, run)
    if make_reference is None:
        return Checked(found, run.stages, made, next(iter(made), None))
    begin = time.perf_counter()
    reference = make_reference(response_to_force(system, run, clip))
    run.timings["reference_s"] = time.perf_counter() - begin
    check_reference(reference, system, task)
    ours, comparison = compare_with(system, files, run, reference, task)
    origin = reference.origin
    found = replace(
        found,
        passed=comparison.passed,
        reference=ReferenceFacts(tuple(origin.checkpoints), origin.torch, origin.dtype, reference.transcript),
        stages=comparison.stages,
        gates=comparison.gates,
        steps=comparison.steps,
        heads=comparison.heads,
        timings=dict(run.timings),
    )
    stages = run.stages | ours
    sounds = *sounds_of(system, stages, OURS), *sounds_of(system, reference.stages, REFERENCE)
    return Checked(found, stages, sounds, next(iter(made), None))


def facts_of(system: System, files: Sequence[FileFacts], clip: Clip, task: Task, run: Activations) -> Check:
    """The check of a run before it is compared."""
    transcript = run.transcript if system.text else None
    ids = tuple(run.stages[GREEDY].tolist()) if GREEDY in run.stages else ()
    return Check(
        passed=None,
        files=tuple(files),
        clip=ClipFacts(str(clip.path), clip.sha256, clip.seconds, clip.rate, clip.text, clip.source),
        task=TaskFacts(task.name, task.language, task.context, task.attention, task.runtime),
        transcript=transcript,
        language=run.language,
        token_ids=ids,
        loop=loop_of(ids, system.text.encode(clip.text or ""), system.text.decode) if system.text else None,
        words=None if clip.text is None or transcript is None else count_words(clip.text, transcript),
        timings=dict(run.timings),
        memory=run.memory,
        products=run.products,
    )


def response_to_force(system: System, run: Activations, clip: Clip) -> Sequence[int] | None:
    """The response for teacher forcing: the system's own if it ended, else the reference text, which the reference
    encodes (None)."""
    if not system.text:
        return None
    response: list[int] = run.stages[GREEDY].tolist()
    ended = response[-1] in system.text.stops
    return response if ended or clip.text is None else None


def compare_with(
    system: System, files: Sequence[FileFacts], run: Activations, reference: Activations, task: Task
) -> tuple[Stages, Comparison]:
    """Compare a run with the reference: stages after the codes are computed from the reference's codes and response.

    Returns the compared stages and the comparison.
    """
    roles = {file.role for file in files if not system.text or file.role != files[0].role}
    ours = {name: x for name, x in run.stages.items() if (s := stage_named(system.stages, name)) and s.role in roles}
    ours |= system.teacher_force(run, reference.stages, task)
    texts = None
    if system.text:
        response = reference.stages[RESPONSE].tolist()
        texts = Texts(
            role=files[0].role,
            vocabularies=(run.origin.vocabulary_sha256, reference.origin.vocabulary_sha256),
            transcripts=(system.transcript(reference.stages[GREEDY].tolist(), task), reference.transcript),
            tokens=system.text.token_texts(response),
        )
    check_stages(reference, ours)
    types = {file.role: file.judged_as for file in files}
    role_types = {role: name for file in reversed(files) for role, name in file.role_types.items()}
    return ours, compare(system.stages, ours, reference.stages, types, texts, reference.origin.dtype, role_types)


def sounds_of(system: System, stages: Stages, title: str) -> tuple[Sound, ...]:
    """The waves among the stages of a run."""
    names = [name for name in stages if (stage := stage_named(system.stages, name)) and stage.kind == WAVE]
    return tuple(Sound(title, stages[name], system.wave_rate) for name in names if system.wave_rate)


def check_reference(reference: Activations, system: System, task: Task) -> None:
    """Raise InputError unless `reference` was computed for this task by a system with the same parts, with ids in
    range."""
    needed = [stage.name for stage in system.stages if stage.kind == CODES]
    if system.text:
        prompts = [stage.name for stage in system.stages if stage.kind == IDS]
        if any(name not in reference.stages for name in prompts):
            raise InputError("reference", "was made from an audio tokenizer alone", expected="one of both models")
        needed += [GREEDY, RESPONSE]
    missing = [name for name in needed if name not in reference.stages]
    if missing:
        raise lacking(missing)
    if not system.text:
        return
    check_task(reference.origin, task)
    vocab_size = system.members[0].model.dims.vocab_size
    for name in (GREEDY, RESPONSE):
        if reference.stages[name].max() >= vocab_size:
            what = f"stage {name} holds token {reference.stages[name].max()}"
            raise InputError("reference", what, expected=f"ids below {vocab_size}, the file's vocab_size")


def check_task(origin: Origin, task: Task) -> None:
    """Raise InputError unless a reference of that origin was computed for this task."""
    for name in ("language", *TASK_OPTIONS):
        asked, made_with = getattr(task, name), getattr(origin, name)
        if asked != made_with:
            what = f"{asked or 'nothing'}, the reference was made with {made_with or 'nothing'}"
            raise InputError(f"--{name}", what, todo="give that one")


def check_stages(reference: Activations, ours: Stages) -> None:
    """Raise InputError unless `reference` has every stage of ours: no stage may pass without a comparison."""
    missing = [name for name in ours if name != INCREMENTAL_LOGITS and name not in reference.stages]
    if missing:
        raise lacking(missing)


def lacking(stages: Sequence[str]) -> InputError:
    """The error for a reference without some stages, such as one of another version."""
    return InputError("reference", f"lacks the stages {', '.join(stages)}", todo=MAKE_AGAIN)
