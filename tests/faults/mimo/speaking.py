"""Defects of the harness when it speaks, on a clean random file."""

from typing import Any

import numpy as np

from mimo_families.mimo_audio.speech import generation, patch_decoder, sampler
from mimo_families.mimo_audio.speech.delays import Place
from runtime_check.ggml.graph import Graph

from ..bases import SPEAKING
from ..defect import around, harness


def next_frame(places: Any, *args: Any) -> list[list[Place]]:
    """Each code a frame further on: the delays are one too small."""
    return [[place._replace(frame=(place.frame + 1) % 4) for place in step] for step in places(*args)]


def forbidding_first(choose: Any, scores: Any, settings: Any, forbidden: Any, noise: Any) -> Any:
    allowed = scores.copy()
    allowed[list(forbidden)] = -np.inf
    return choose(allowed, settings, (), noise)


def swapped_heads(linear: Any, g: Graph, x: Any, name: str) -> Any:
    """The heads of the third codebook and the fourth, which have one size."""
    stem, _, channel = name.rpartition(".")
    swapped = {"2": "3", "3": "2"}.get(channel, channel) if stem == "llm.codebook_head" else channel
    return linear(g, x, f"{stem}.{swapped}")


def without_last(history: Any, groups: Any, d: Any) -> Any:
    return history(groups, d)[:, : -d.group_size] if len(groups) > 1 else history(groups, d)


def tempered_late(filtered: Any, scores: Any, settings: Any) -> Any:
    """Filters before the temperature."""
    return filtered(scores * settings.temperature, settings) / settings.temperature


CHOICE = (generation, "choose")
SPEECH = [
    harness("delay pattern off by one", SPEAKING, around(patch_decoder, "places_by_step", next_frame),
        run="gen_blocks: id at"),
    harness("codes at zeroemb not forbidden", SPEAKING,
        around(*CHOICE, lambda choose, scores, settings, forbidden, noise: choose(scores, settings, (), noise)),
        run="gen_blocks: id at"),
    harness("ids forbidden before the filters", SPEAKING, around(*CHOICE, forbidding_first), run="gen_blocks: id at"),
    harness("filters before the temperature", SPEAKING, around(sampler, "filtered", tempered_late),
        run="gen_blocks: id at"),
    harness("heads of two codebooks swapped", SPEAKING, around(Graph, "linear", swapped_heads),
        run="gen_blocks: id at"),
    harness("history without its stop group", SPEAKING, around(generation, "group_ids", without_last),
        run="gen_history: shape"),
    harness("codes of a step embedded one step late", SPEAKING,
        around(patch_decoder.PatchDecoder, "_code_inputs", lambda inputs, p, codes: inputs(p, {})),
        run="gen_blocks: id at"),
]  # fmt: skip
