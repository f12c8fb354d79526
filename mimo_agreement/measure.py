"""Agreement of opened files: what is asked of them, where it is, and what a store has no answer to yet."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import tell
from mimo_families.same_model import check_same, models_of
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import AudioFile
from runtime_check.choices import AUTO, OFF, ON, TRANSCRIBE
from runtime_check.report.results import versions
from runtime_check.run.check import check_task
from runtime_check.run.facts import file_facts
from runtime_check.run.members import Paths
from runtime_check.run.system import SystemType
from runtime_check.run.validate import choose_language

from .conditions.condition import Condition
from .records import Agreement, ModelFiles, SpokenClip
from .run.jobs import Asked, Failed, Job, Model, Outcome, Settings, jobs_of
from .run.places import LocalPlaces
from .run.progress import answer_missing, missing, quarantined
from .run.queue import Queue
from .run.references import Found
from .statistics.agreement import agreement_of
from .store.store import Store

T = TypeVar("T")
Answers = Callable[[Queue], Iterator[Outcome]]  # of the jobs of a queue, in this process or elsewhere


@dataclass(frozen=True)
class Material:
    """The files of an agreement, opened: of each model its `paths` by role, the baseline's among them; the clips, those
    for babble, and stored references by the SHA-256 of their clip."""

    system: SystemType
    models: Sequence[Paths]
    clips: Sequence[AudioFile]
    noise: Sequence[AudioFile]
    references: Mapping[str, Found]


def measure(asked: Asked, baseline: str, store: Store, answers: Answers) -> Agreement:
    """Answer what the store has no answer to, and compare the models with the `baseline`, a SHA-256.

    A pair that has no answer is `quarantined` in the result. Raises InputError as `answers` does, and
    KeyboardInterrupt that says what is kept.
    """
    jobs = jobs_of(asked)
    failed = answered(jobs, store, answers)
    wanted = {job.pair for job in jobs}
    return agreement_of(
        [model.facts for model in asked.models], asked.clips, [condition.name for condition in asked.conditions],
        ((pair, answer) for pair, answer in store.answers() if pair in wanted), baseline=baseline, seed=asked.seed,
        quarantined=quarantined(failed, {clip.sha256: clip.name for clip in asked.clips}), versions=versions(),
    )  # fmt: skip


def answered(jobs: Sequence[Job], store: Store, answers: Answers) -> Sequence[Failed]:
    """Answer what the store has no answer to. Raises KeyboardInterrupt that says what is kept."""

    def known() -> int:
        return len(jobs) - len(missing(jobs, {pair for pair, _ in store.answers()}))

    where = quoted(store.path.parent) if store.path else ""
    if n := known():
        tell(f"{where}: {n:,} of {len(jobs):,} answers are there")
    try:
        return answer_missing(jobs, store, answers)
    except KeyboardInterrupt:
        kept = f"{known():,} of {len(jobs):,} answers are in {where}: the same command resumes"
        lost = "nothing is kept: --store DIR keeps answers"
        raise KeyboardInterrupt(f"interrupted; {kept if store.path else lost}") from None


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────


def check_systems(paths: Sequence[Path], kinds: Sequence[SystemType]) -> None:
    """Raise InputError for a file of another system than the first one's, and for files that write no words."""
    for path, kind in zip(paths, kinds, strict=True):
        if kind is not kinds[0]:
            raise InputError(path, f"is of {kind.family.architecture}", expected=kinds[0].family.architecture)
        if not kind.family.text:
            what = f"is an {kind.family.role.replace('_', ' ')}, which writes no words"
            raise InputError(path, what, todo="give the file that it belongs to")


def check_models(first: Paths, models: Sequence[Paths], files: OpenFiles) -> None:
    """Raise InputError for a file of another model than those of `first`, the baseline."""
    ours = models_of(first, files)
    for of_model in models:
        for role, theirs in models_of(of_model, files).items():
            check_same(ours[role], theirs)


def once(option: str, found: Sequence[T], key: Callable[[T], str], name: Callable[[T], str] = str) -> Sequence[T]:
    """What was found. Raises InputError if something is among it twice, by its key."""
    seen: dict[str, str] = {}
    for one in found:
        if key(one) in seen:
            same = seen[key(one)]
            what = f"is there twice{f', as {same}' if same != name(one) else ''}"
            raise InputError(f"{option} {name(one)}", what, todo="give it once")
        seen[key(one)] = name(one)
    return found


def model_of(system: SystemType, paths: Paths, files: OpenFiles) -> Model:
    """The files of a model, hashed. Raises InputError for one that cannot be run."""
    for role in system.roles:
        files.hash_of(paths[role]).begin()  # beside the check of its vocabulary
    opened = {role: files.model(paths[role]).check() for role in system.roles}
    main, *others = (file_facts(role, model, files) for role, model in opened.items())
    companion = (others[0].file, others[0].sha256, others[0].bytes) if others else ()
    facts = ModelFiles(main.file, main.sha256, main.bytes, main.label, main.bits_per_weight, *companion)
    hearing = system.hearing(opened) if system.heard else ""
    return Model(facts, system.name, {one.role: one.sha256 for one in (main, *others)}, hearing)


def asked_of(
    material: Material, models: Sequence[Model], conditions: Sequence[Condition], seed: int, language: str | None,
    settings: Settings,
) -> Asked:  # fmt: skip
    """What is asked of the models: `settings` as options have them; `language` None: a reference's, or a clip's own."""
    from runtime_check.ggml.repack import may_repack  # ggml is slow to import

    # what repays for one set of clips, and would not for another, would give its answers other bits
    repacks = settings.repack == ON or (settings.repack == AUTO and may_repack(AUTO, settings.products))
    settings = replace(settings, repack=ON if repacks else OFF)
    names = Counter(clip.path.name for clip in material.clips)
    clips = []
    for clip in material.clips:
        found = material.references.get(clip.sha256)
        spoken = choose_language(language, found.reference if found else None, clip, material.system, settings.runtime)
        if found:
            check_task(found.origin, replace(settings, language=spoken).task(TRANSCRIBE))
        name = clip.path.name if names[clip.path.name] == 1 else str(clip.path)
        source = clip.speaker or clip.recording or clip.sha256
        clips.append(SpokenClip(name, clip.sha256, clip.seconds, clip.text, source, spoken))
    return Asked(
        models, clips, conditions, seed, settings, sorted(clip.sha256 for clip in material.noise),
        {clip: found.sha256 for clip, found in material.references.items()},
    )  # fmt: skip


def places_of(material: Material, files: OpenFiles) -> LocalPlaces:
    """Where the files are, by their hashes, whatever the current folder is."""
    of_models = {files.sha256(path): path for paths in material.models for path in paths.values()}
    states = {sha256: files.shards.states[path] for sha256, path in of_models.items()}
    of_clips = {clip.sha256: clip.path for clip in (*material.noise, *material.clips)}
    of_references = {found.sha256: found.path for found in material.references.values()}
    states |= {found.sha256: found.state for found in material.references.values()}
    found = of_models | of_clips | of_references
    return LocalPlaces({sha256: Path(os.path.abspath(path)) for sha256, path in found.items()}, states)
