"""Agreement: run files of a model on clips in conditions, and say which of them is good enough."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from mimo_agreement.cluster.address import checked_address
from mimo_agreement.conditions.condition import CLEAN, Condition, parse_condition
from mimo_agreement.records import Agreement, ModelFiles, SpokenClip
from mimo_agreement.report.outputs import NO_OUTPUTS, Outputs
from mimo_agreement.report.table import agreement_as_text
from mimo_agreement.run.clips import Clips
from mimo_agreement.run.jobs import Asked, Failed, Job, Model, Outcome, Settings, jobs_of
from mimo_agreement.run.keeping import keep_clips, sounds_of
from mimo_agreement.run.places import LocalPlaces
from mimo_agreement.run.progress import answer_missing, missing, quarantined
from mimo_agreement.run.queue import Queue
from mimo_agreement.run.references import Found, references_of
from mimo_agreement.statistics.agreement import agreement_of
from mimo_agreement.store.store import Store
from mimo_convert.claims import Claims
from mimo_convert.installation import installation
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import show, tell
from mimo_convert.threads import default_threads
from mimo_families.registry import families
from mimo_families.same_model import check_same, models_of
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import STDIN, AudioFile, find_clips
from runtime_check.choices import AUTO, OFF, ON, TRANSCRIBE
from runtime_check.report.results import versions
from runtime_check.run.check import check_task
from runtime_check.run.facts import file_facts
from runtime_check.run.members import Paths
from runtime_check.run.system import SystemType
from runtime_check.run.validate import check_language, check_task_options, choose_language

from .checking import members
from .paths import with_paths

TOKENIZER = "--tokenizer"
T = TypeVar("T")


@dataclass(frozen=True)
class AgreementOptions:
    """Options of an agreement of `files` on `audio`: files, folders of them, or manifests.

    `conditions` are written as `clean` or `noise:babble:5dB`, with a `seed` of all that is drawn; `noise` is a folder
    of clips for babble (None: the set's own). `baseline` is the file that others are compared with (None: the one with
    the most bits per weight); `companions` are files of the other roles (None: those beside each file). `store` is a
    folder in which answers are kept (None: nowhere); `references` are files that `mimo-check reference` wrote, or
    folders of them. `workers` is the number of processes, which share the `threads` (None: this process); `cluster` the
    address of a Dask scheduler, whose workers run in their place, `insecure_cluster` whether it may be one elsewhere
    without TLS. `keep_clips` is a folder for degraded clips; with `include_audio` the page has players of the worst.
    """

    files: Sequence[Path]
    audio: Sequence[Path]
    conditions: Sequence[str] = (CLEAN,)
    baseline: Path | None = None
    outputs: Outputs = NO_OUTPUTS
    threads: int = field(default_factory=default_threads)
    companions: Mapping[str, Path | None] = field(default_factory=dict)
    noise: Path | None = None
    seed: int = 0
    store: Path | None = None
    references: Sequence[Path] = ()
    workers: int | None = None
    cluster: str = ""
    insecure_cluster: bool = False
    keep_clips: Path | None = None
    include_audio: bool = False
    language: str | None = None
    context: str = ""
    attention: str = AUTO
    runtime: str = ""
    max_new_tokens: int | None = None
    repack: str = AUTO
    products: str = AUTO

    def __post_init__(self) -> None:
        with_paths(self)


@dataclass(frozen=True)
class Material:
    """The files of an agreement, opened: of each model its `paths` by role, the baseline's among them; the clips, those
    for babble, and stored references by the SHA-256 of their clip."""

    system: SystemType
    models: Sequence[Paths]
    clips: Sequence[AudioFile]
    noise: Sequence[AudioFile]
    references: Mapping[str, Found]


def measure_agreement(
    options: AgreementOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> Agreement:  # fmt: skip
    """Run every file on every clip in every condition, but for what the store has answers to, and compare them.

    A pair on which processes end, or whose clip cannot be degraded, is `quarantined` in the result. Raises InputError,
    before anything is run, for files and clips that cannot be run, stand there twice, or are of different models;
    later, for a file that changes.
    """
    with heard_by(progress, message):
        return _measure(options, claims or Claims())


def _measure(o: AgreementOptions, claims: Claims) -> Agreement:
    o.outputs.check()
    check_cluster(o)
    conditions = once("--condition", [parse_condition(text) for text in o.conditions], str)
    files = OpenFiles(families())
    material = material_of(o, files, claims)
    with Store(o.store) as store:
        models = [model_of(material.system, paths, files) for paths in material.models]
        once("FILE.gguf", [model.facts for model in models], lambda facts: facts.sha256, lambda facts: facts.file)
        baseline = baseline_of(o, models, material)
        asked = asked_of(o, material, models, conditions)
        places = places_of(material, files)
        if o.keep_clips:
            keep_clips(o.keep_clips, asked, Clips(places), claims)
        jobs = jobs_of(asked)
        failed = answered(o, asked, jobs, store, places)
        wanted = {job.pair for job in jobs}
        agreement = agreement_of(
            [model.facts for model in models], asked.clips, [condition.name for condition in conditions],
            ((pair, answer) for pair, answer in store.answers() if pair in wanted), baseline=baseline, seed=o.seed,
            quarantined=quarantined(failed, {clip.sha256: clip.name for clip in asked.clips}), versions=versions(),
        )  # fmt: skip
    show(agreement_as_text(agreement), f"{len(failed)} pairs have no answer" if failed else "")
    o.outputs.write(agreement, sounds_of(agreement.worst, asked, Clips(places)) if o.include_audio else {})
    return agreement


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────


def material_of(o: AgreementOptions, files: OpenFiles, claims: Claims) -> Material:
    """Open what options name, and check that it fits together, before anything is hashed or run."""
    paths = list(dict.fromkeys([*o.files, *([o.baseline] if o.baseline else [])]))
    given = {role: path for role, path in o.companions.items() if path}
    found = [members(path, files, given) for path in paths]
    system, models = found[0][0], [of_model for _, of_model in found]
    check_systems(paths, [kind for kind, _ in found])
    check_language(o.language, system)
    check_task_options(system, o.language, context=o.context, attention=o.attention, runtime=o.runtime)
    check_models(o, models, files)
    for role in system.roles[1:]:
        for of_model in models:
            claims.reads(TOKENIZER, of_model[role])
    clips = once("--audio", find_clips(o.audio), lambda clip: clip.sha256, lambda clip: str(clip.path))
    noise = find_clips([o.noise]) if o.noise else []
    for clip in (*clips, *noise):
        if clip.path == STDIN:
            raise InputError("--audio -", "is standard input, and clips are read more than once", todo="save it first")
        claims.reads("--audio", clip.path)
    references = references_of(o.references, system, [models_of(one, files) for one in models], clips)
    return Material(system, models, clips, noise, references)


def check_systems(paths: Sequence[Path], kinds: Sequence[SystemType]) -> None:
    """Raise InputError for a file of another system than the first one's, and for files that write no words."""
    for path, kind in zip(paths, kinds, strict=True):
        if kind is not kinds[0]:
            raise InputError(path, f"is of {kind.family.architecture}", expected=kinds[0].family.architecture)
        if not kind.family.text:
            what = f"is an {kind.family.role.replace('_', ' ')}, which writes no words"
            raise InputError(path, what, todo="give the file that it belongs to")


def check_models(o: AgreementOptions, models: Sequence[Paths], files: OpenFiles) -> None:
    """Raise InputError for a file of another model than the baseline, or than the first file if none is given."""
    [first, *_] = [of_model for of_model in models if o.baseline in (None, *of_model.values())]
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
    opened = {role: files.model(paths[role]).check() for role in system.roles}
    main, *others = (file_facts(role, model, files) for role, model in opened.items())
    companion = (others[0].file, others[0].sha256, others[0].bytes) if others else ()
    facts = ModelFiles(main.file, main.sha256, main.bytes, main.label, main.bits_per_weight, *companion)
    hearing = system.hearing(opened) if system.heard else ""
    return Model(facts, system.name, {one.role: one.sha256 for one in (main, *others)}, hearing)


def baseline_of(o: AgreementOptions, models: Sequence[Model], material: Material) -> str:
    """The SHA-256 of the baseline: as given, else the first file with the most bits per weight."""
    role = material.system.family.role
    for model, paths in zip(models, material.models, strict=True):
        if paths[role] == o.baseline:
            return model.facts.sha256
    best = max(models, key=lambda model: model.facts.bits_per_weight or 0)
    if len(models) > 1:
        tell(f"the baseline is {quoted(best.facts.file)}; --baseline names another")
    return best.facts.sha256


def asked_of(
    o: AgreementOptions, material: Material, models: Sequence[Model], conditions: Sequence[Condition]
) -> Asked:
    """What is asked of the models."""
    from runtime_check.ggml.repack import may_repack  # ggml is slow to import

    # what repays for one set of clips, and would not for another, would give its answers other bits
    repacks = o.repack == ON or (o.repack == AUTO and may_repack(AUTO, o.products))
    settings = Settings(
        context=o.context, attention=o.attention, runtime=o.runtime, max_new_tokens=o.max_new_tokens,
        repack=ON if repacks else OFF, products=o.products,
    )  # fmt: skip
    names = Counter(clip.path.name for clip in material.clips)
    clips = []
    for clip in material.clips:
        found = material.references.get(clip.sha256)
        language = choose_language(o.language, found.reference if found else None, clip, material.system, o.runtime)
        if found:
            check_task(found.origin, replace(settings, language=language).task(TRANSCRIBE))
        name = clip.path.name if names[clip.path.name] == 1 else str(clip.path)
        source = clip.speaker or clip.recording or clip.sha256
        clips.append(SpokenClip(name, clip.sha256, clip.seconds, clip.text, source, language))
    return Asked(
        models, clips, conditions, o.seed, settings, sorted(clip.sha256 for clip in material.noise),
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


# ── what is answered ─────────────────────────────────────────────────────────────────────────────────────────────


def answered(
    o: AgreementOptions, asked: Asked, jobs: Sequence[Job], store: Store, places: LocalPlaces
) -> Sequence[Failed]:
    """Answer what the store has no answer to. Raises KeyboardInterrupt that says what is kept."""

    def known() -> int:
        return len(jobs) - len(missing(jobs, {pair for pair, _ in store.answers()}))

    where = quoted(o.store or "")
    if n := known():
        tell(f"{where}: {n:,} of {len(jobs):,} answers are there")
    try:
        return answer_missing(jobs, store, lambda queue: answers(o, asked, places, queue))
    except KeyboardInterrupt:
        kept = f"{known():,} of {len(jobs):,} answers are in {where}: the same command resumes"
        lost = "nothing is kept: --store DIR keeps answers"
        raise KeyboardInterrupt(f"interrupted; {kept if o.store else lost}") from None


def check_cluster(o: AgreementOptions) -> None:
    """Raise InputError, before anything is opened, for a cluster that cannot be used as options say."""
    if o.insecure_cluster and not o.cluster:
        raise InputError("--insecure-cluster", "there is no --cluster", todo="leave it out")
    if o.cluster and o.workers is not None:
        raise InputError("--cluster", "and --workers both say where to run", todo="give one of them")
    if o.cluster:
        checked_address(o.cluster, insecure=o.insecure_cluster)
        if find_spec("distributed") is None:
            raise InputError("--cluster", "takes Dask, which is not installed", todo=installation("cluster").phrase)


def answers(o: AgreementOptions, asked: Asked, places: LocalPlaces, queue: Queue) -> Iterator[Outcome]:
    """Answer the jobs of a queue, in this process or in others."""
    if o.cluster:
        from mimo_agreement.cluster.client import answer_on_cluster

        return answer_on_cluster(queue, asked.models, places, o.cluster, insecure=o.insecure_cluster)
    if o.workers is None:
        from mimo_agreement.run.answering import Answerer  # late, as below: they import ggml
        from mimo_agreement.run.here import answer_here

        return answer_here(queue, Answerer(asked.models, places, o.threads))
    from mimo_agreement.run.processes.messages import Setup
    from mimo_agreement.run.processes.workers import answer_in_processes

    setup = Setup(asked.models, places, max(1, o.threads // o.workers))
    mapped = max(model.facts.all_bytes for model in asked.models)
    return answer_in_processes(queue, setup, o.workers, mapped)
