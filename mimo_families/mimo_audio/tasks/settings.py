"""How a task generates: its own samplers, but for what was asked."""

from runtime_check.run.speech.tasks import Sampling
from runtime_check.text.tokenizer import TextTokenizer

from ..speech.generation import MOST_GROUPS, Settings
from ..speech.sampler import GREEDY, LOCAL, Sampler
from .table import MimoAudioTask


def settings_of(task: MimoAudioTask, sampling: Sampling, text: TextTokenizer) -> Settings:
    """How a task generates: by its own samplers, but for what was asked."""
    texts, codes = GREEDY, GREEDY
    if not sampling.greedy:
        texts = changed(task.sampler, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
        codes = changed(LOCAL, temperature=sampling.local_temperature, top_p=sampling.local_top_p)
    stops = frozenset(map(text.id_of, task.stops))
    return Settings(texts, codes, stops, sampling.max_new or MOST_GROUPS, sampling.min_new, sampling.seed)


def changed(sampler: Sampler, **asked: float | None) -> Sampler:
    """A sampler with what was asked, which draws if anything was."""
    found = {name: value for name, value in asked.items() if value is not None}
    return sampler._replace(**found, draws=sampler.draws or bool(found))  # type: ignore[arg-type]


def told(settings: Settings, speaks: bool) -> dict[str, float]:
    """The settings of the samplers that have an effect, by option; a temperature of 0 is argmax."""
    local = told_of(settings.codes, "local_") if speaks else {}
    return told_of(settings.text, "") | local


def told_of(sampler: Sampler, prefix: str) -> dict[str, float]:
    """The settings of a sampler that have an effect."""
    if not sampler.draws:
        return {f"{prefix}temperature": 0.0}
    found = {f"{prefix}temperature": sampler.temperature}
    if sampler.top_k:
        found[f"{prefix}top_k"] = sampler.top_k
    if sampler.top_p < 1:
        found[f"{prefix}top_p"] = sampler.top_p
    return found
