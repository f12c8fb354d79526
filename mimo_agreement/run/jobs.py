"""What is asked of files, and the jobs that follow from it: a pair each, with all that a process needs to answer it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

from mimo_agreement.conditions.condition import CLEAN, Condition
from mimo_agreement.conditions.voices import VOICES, voices_of
from mimo_agreement.records import Answer, ModelFiles, Pair, SpokenClip
from mimo_agreement.store.store import Heard, Hearing
from mimo_convert import __version__
from runtime_check.choices import AUTO, OFF
from runtime_check.run.system import AUTO_LANGUAGE, Task

TRIES = 3  # of a pair on which a process ended
AT_ONCE = 4  # jobs of one model that a process is given: their clips are decoded together


@dataclass(frozen=True)
class Settings:
    """What an answer depends on beside files, clip and condition: the fields of the task, how products are computed,
    `voices`, the hash of those of babble, `reference`, the SHA-256 of a stored reference (empty: none), and `hearing`,
    how the companion hears (`SystemType.hearing`)."""

    language: str = AUTO_LANGUAGE
    context: str = ""
    attention: str = AUTO
    runtime: str = ""
    max_new_tokens: int | None = None
    repack: str = OFF
    products: str = AUTO
    voices: str = ""
    reference: str = ""
    hearing: str = ""

    @property
    def text(self) -> str:
        """The settings that differ from the defaults, as JSON in the order of their names."""
        changed = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}
        return json.dumps(changed, sort_keys=True)

    def of_hearing(self) -> "Settings":
        """Those that concern the companion alone."""
        return Settings(
            attention=self.attention, runtime=self.runtime, repack=self.repack, products=self.products,
            voices=self.voices, hearing=self.hearing,
        )  # fmt: skip

    def task(self, name: str) -> Task:
        """The task `name` with these settings."""
        return Task(name, self.language, self.max_new_tokens, self.context, self.attention, self.runtime)


@dataclass(frozen=True)
class Model:
    """The files of a system: their facts, the name of its type, the SHA-256 of each by role, and how the companion
    hears; empty: nothing of it can be shared."""

    facts: ModelFiles
    system: str
    members: Mapping[str, str]
    hearing: str = ""


@dataclass(frozen=True)
class Asked:
    """Every model is asked for every clip in every condition. `settings` are those of all pairs, but for a clip's
    language; `noise` the SHA-256 of clips for babble (empty: the set's own); `references` the SHA-256 of a clip → that
    of its stored reference."""

    models: Sequence[Model]
    clips: Sequence[SpokenClip]
    conditions: Sequence[Condition]
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    noise: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A pair that is to be answered, with the text and seconds of its clip, the SHA-256 of the `voices` of its babble,
    and, if its companion's stages can be shared, what these depend on (`hearing`) and, if they are known, they."""

    pair: Pair
    settings: Settings
    condition: Condition
    text: str | None
    seconds: float
    voices: tuple[str, ...] = ()
    hearing: Hearing | None = None
    heard: Heard | None = None


@dataclass(frozen=True)
class Done:
    """The answer to a job, and the stages that its companion computed, if they can be shared and were not known."""

    job: Job
    answer: Answer
    heard: Heard | None = None


@dataclass(frozen=True)
class Failed:
    """A job that has no answer, after so many tries, for this reason."""

    job: Job
    tries: int
    reason: str


Outcome = Done | Failed


def jobs_of(asked: Asked) -> list[Job]:
    """The jobs: model by model, so that few weights are in use at a time; of each, longer clips first.

    Raises InputError for babble that lacks voices.
    """
    clips = sorted(asked.clips, key=lambda clip: (-clip.seconds, clip.sha256))
    voices = voices_by_clip(asked)
    return [
        _job(asked, model, clip, condition, voices.get(clip.sha256, ()) if condition.needs_voices else ())
        for model in asked.models
        for clip in clips
        for condition in asked.conditions
    ]


def voices_by_clip(asked: Asked) -> dict[str, tuple[str, ...]]:
    """The clips that are heard in the babble of each clip; empty if no condition has any."""
    if not any(condition.needs_voices for condition in asked.conditions):
        return {}
    others = asked.noise or [clip.sha256 for clip in asked.clips]
    fewest = 1 if asked.noise else VOICES
    return {clip.sha256: voices_of(clip.sha256, others, asked.seed, fewest) for clip in asked.clips}


def _job(asked: Asked, model: Model, clip: SpokenClip, condition: Condition, voices: tuple[str, ...]) -> Job:
    of_all = asdict(asked.settings)
    settings = Settings(**of_all | {
        "language": clip.language,
        "voices": hashlib.sha256("\n".join(voices).encode()).hexdigest() if voices else "",
        "reference": asked.references.get(clip.sha256, "") if condition.kind == CLEAN else "",
        "hearing": model.hearing,
    })  # fmt: skip
    facts = model.facts
    place = clip.sha256, condition.name, asked.seed
    pair = Pair(facts.sha256, facts.companion_sha256, *place, settings.text, __version__)
    hearing = Hearing(facts.companion_sha256, *place, settings.of_hearing().text, __version__)
    return Job(pair, settings, condition, clip.text, clip.seconds, voices, hearing if model.hearing else None)
