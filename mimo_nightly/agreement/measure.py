"""Run a target's file and its baseline over the agreement set, but for what the store has answers to."""

from collections.abc import Iterator
from pathlib import Path

from mimo_agreement.cluster.address import ClusterAddress
from mimo_agreement.conditions.condition import parse_condition
from mimo_agreement.measure import (
    Material,
    asked_of,
    check_models,
    check_systems,
    measure,
    model_of,
    once,
    places_of,
)
from mimo_agreement.records import Agreement
from mimo_agreement.report.table import agreement_as_text
from mimo_agreement.run.answering import Answerer
from mimo_agreement.run.here import answer_here
from mimo_agreement.run.jobs import Outcome, Settings
from mimo_agreement.run.queue import Queue
from mimo_agreement.store.store import Store
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import show
from mimo_families.registry import system_of
from mimo_nightly.config import Target
from runtime_check.audio.manifests import find_clips
from runtime_check.run.members import Paths
from runtime_check.run.system import SystemType
from runtime_check.run.validate import check_language, check_task_options

from .records import AgreementSet

AUDIO = "audio ="  # as the config has it
KEYS = ("cluster", "insecure_cluster")  # likewise
RESUME = "the next run resumes"


def measure_target(
    target: Target, wanted: AgreementSet, system: SystemType, members: Paths, baseline: Path, files: OpenFiles,
    store: Path | None,
) -> Agreement:  # fmt: skip
    """The agreement of the target's file, whose files are `members` by role, with the file `baseline`, which is run
    with the same companions. The table goes to the log.

    Raises InputError for files and clips that cannot be run, stand there twice, or are of different models.
    """
    address = ClusterAddress(wanted.cluster, wanted.insecure_cluster, *KEYS, resume=RESUME)
    address.check()
    material = material_of(target, wanted, system, members, baseline, files)
    models = [model_of(material.system, paths, files) for paths in material.models]
    of_baseline = models[-1].facts.sha256
    models = list({model.facts.sha256: model for model in models}.values())  # one, if that is the file itself
    conditions = [parse_condition(text) for text in wanted.conditions]
    settings = Settings(
        context=target.context, attention=target.attention, repack=target.repack, products=target.products
    )
    language = wanted.language or target.language or None
    asked = asked_of(material, models, conditions, wanted.seed, language, settings)
    places = places_of(material, files)

    def answers(queue: Queue) -> Iterator[Outcome]:
        if address.text:
            from mimo_agreement.cluster.client import answer_on_cluster  # late: it imports Dask

            return answer_on_cluster(queue, asked.models, places, address)
        return answer_here(queue, Answerer(asked.models, places, target.threads, files))

    with Store(store) as opened:
        agreement = measure(asked, of_baseline, opened, answers)
    show(agreement_as_text(agreement))
    return agreement


def material_of(
    target: Target, wanted: AgreementSet, system: SystemType, members: Paths, baseline: Path, files: OpenFiles
) -> Material:
    """Open what the config names, and check that it fits together, before anything is run."""
    of_baseline = {**members, system.family.role: baseline}
    check_systems([members[system.family.role], baseline], [system, system_of(files.family(baseline))])
    check_language(wanted.language or target.language or None, system)
    check_task_options(system, context=target.context, attention=target.attention)
    check_models(of_baseline, [members], files)
    found = find_clips([Path(clip) for clip in wanted.audio])
    clips = once(AUDIO, found, lambda clip: clip.sha256, lambda clip: str(clip.path))
    noise = find_clips([Path(wanted.noise)]) if wanted.noise else []
    return Material(system, [members, of_baseline], clips, noise, {})
