"""Agreement: run files of a model on clips in conditions, and say which of them is good enough."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mimo_agreement.cluster.address import ClusterAddress
from mimo_agreement.conditions.condition import CLEAN, parse_condition
from mimo_agreement.measure import Material, asked_of, check_models, check_systems, measure, model_of, once, places_of
from mimo_agreement.records import Agreement
from mimo_agreement.report.outputs import NO_OUTPUTS, Outputs
from mimo_agreement.report.table import agreement_as_text
from mimo_agreement.run.clips import Clips
from mimo_agreement.run.jobs import Asked, Model, Outcome, Settings
from mimo_agreement.run.keeping import keep_clips, sounds_of
from mimo_agreement.run.places import LocalPlaces
from mimo_agreement.run.queue import Queue
from mimo_agreement.run.references import references_of
from mimo_agreement.store.store import Store
from mimo_convert.claims import Claims
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import show, tell
from mimo_convert.threads import default_threads
from mimo_families.registry import families
from mimo_families.same_model import models_of
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import STDIN, find_clips
from runtime_check.choices import AUTO
from runtime_check.run.validate import check_language, check_task_options

from .checking import members
from .paths import with_paths

TOKENIZER = "--tokenizer"


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
    if o.cluster and o.workers is not None:
        raise InputError("--cluster", "and --workers both say where to run", todo="give one of them")
    ClusterAddress(o.cluster, o.insecure_cluster).check()
    conditions = once("--condition", [parse_condition(text) for text in o.conditions], str)
    files = OpenFiles(families())
    material = material_of(o, files, claims)
    with Store(o.store) as store:
        models = [model_of(material.system, paths, files) for paths in material.models]
        once("FILE.gguf", [model.facts for model in models], lambda facts: facts.sha256, lambda facts: facts.file)
        baseline = baseline_of(o, models, material)
        asked = asked_of(material, models, conditions, o.seed, o.language, settings_of(o))
        places = places_of(material, files)
        if o.keep_clips:
            keep_clips(o.keep_clips, asked, Clips(places), claims)
        agreement = measure(asked, baseline, store, lambda queue: answers(o, asked, places, files, queue))
    n = len(agreement.quarantined)
    show(agreement_as_text(agreement), f"{n} pairs have no answer" if n else "")
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
    [first, *_] = [of_model for of_model in models if o.baseline in (None, *of_model.values())]
    check_models(first, models, files)
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


def settings_of(o: AgreementOptions) -> Settings:
    """What answers depend on, as options have it."""
    return Settings(
        context=o.context, attention=o.attention, runtime=o.runtime, max_new_tokens=o.max_new_tokens, repack=o.repack,
        products=o.products,
    )  # fmt: skip


# ── what is answered ─────────────────────────────────────────────────────────────────────────────────────────────


def answers(
    o: AgreementOptions, asked: Asked, places: LocalPlaces, files: OpenFiles, queue: Queue
) -> Iterator[Outcome]:
    """Answer the jobs of a queue, in this process, where `files` are open, or in others."""
    if o.cluster:
        from mimo_agreement.cluster.client import answer_on_cluster

        return answer_on_cluster(queue, asked.models, places, ClusterAddress(o.cluster, o.insecure_cluster))
    if o.workers is None:
        from mimo_agreement.run.answering import Answerer  # late, as below: they import ggml
        from mimo_agreement.run.here import answer_here

        return answer_here(queue, Answerer(asked.models, places, o.threads, files))
    from mimo_agreement.run.processes.messages import Setup
    from mimo_agreement.run.processes.workers import answer_in_processes

    setup = Setup(asked.models, places, max(1, o.threads // o.workers))
    mapped = max(model.facts.all_bytes for model in asked.models)
    return answer_in_processes(queue, setup, o.workers, mapped)
