"""How a task generates: its own samplers, but for what was asked."""

from runtime_check.run.speech import Sampling
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
