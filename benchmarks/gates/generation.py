"""What every type costs speech generation: `python -m benchmarks.gates.generation` → docs/gates.md, and the rows of
`thresholds.GENERATION`.

Random speech LMs that speak are given the groups that their F32 file generates greedily: one with a patch decoder of as
many layers as the real one, but narrow, and one with few.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.document import insert
from benchmarks.gates.__main__ import DOCUMENT, EXACT, HIGHEST, down, noise
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.threads import default_threads
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.layout import FAMILY
from mimo_families.mimo_audio.speech import reference
from mimo_families.mimo_audio.speech.forcing import chosen, force
from mimo_families.mimo_audio.speech.generation import Group, Settings, generate, group_ids, zero_block
from mimo_families.mimo_audio.speech.sampler import GREEDY
from mimo_families.mimo_audio.speech.stages import ROLE, SPEECH_STAGES
from quantize.types import TYPES
from runtime_check.ggml.graph import Backend
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.compare.stages import Comparison, compare
from runtime_check.run.compare.thresholds import PATCH, CosineThreshold
from runtime_check.run.stages import stage_named
from runtime_check.text.tokenizer import TextTokenizer
from tests.mimo_families.mimo_audio.speech.speaking import write_speaking_lm
from tests.opened import make_request, model_file
from tests.synthetic import ASR_CONFIG

SIZES = {  # the real codebooks; rows that take every type
    "deep": ASR_CONFIG | {"local_dim": 256, "local_layers": 16, "local_ffn_dim": 1024},
    "shallow": ASR_CONFIG | {"local_dim": 256, "local_layers": 2, "local_ffn_dim": 512},
}
SETTINGS = Settings(GREEDY, GREEDY, max_new=32)


class Costs(NamedTuple):
    """The worst cosines of the patch decoder's stages, and of its heads the least share of equal top-1 ids and the
    largest mean KL divergence in nats."""

    cosines: CosineThreshold
    top1: float
    kl: float


def main() -> None:
    """Measure every type, put the tables into the document, and print the rows."""
    text, found = DOCUMENT.read_text(encoding="utf-8"), dict[str, list[Costs]]()
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            costs = dict(measure(name, Path(folder) / name))
            for outtype, cost in costs.items():
                found.setdefault(outtype, []).append(cost)
            text = insert(text, f"generation {name}", table(costs))
    DOCUMENT.write_text(text, encoding="utf-8")
    for outtype, costs_of_type in found.items():
        if outtype not in EXACT:
            print(row(outtype, costs_of_type))


def measure(name: str, folder: Path) -> Iterator[tuple[str, Costs]]:
    """What each type costs a random speech LM."""
    checkpoint = open_checkpoint(str(write_speaking_lm(folder / "lm", dtype="BF16", **SIZES[name])))
    convert([make_request(checkpoint, list(TYPES.values()))], folder / "gguf", threads=default_threads())
    assert FAMILY.text is not None
    exact = opened(folder, "f32")
    prompt = group_ids([Group(i, zero_block(exact.d)) for i in exact.text.encode("hello you")], exact.d)
    groups = list(generate(exact, prompt, SETTINGS))
    ids, blocks = (torch.from_numpy(x).long() for x in list(chosen(groups).values())[1:3])
    text = TextTokenizer.from_checkpoint(checkpoint, exact.d.vocab_size, FAMILY.text)
    with torch.no_grad():
        weights = CheckpointWeights(checkpoint, torch.float32)
        theirs = {
            stage: x.numpy()
            for stage, x in reference.force(weights, prompt, ids, blocks, exact.d, text, SETTINGS).items()
        }
    for outtype in TYPES:
        ours = force(opened(folder, outtype), prompt, groups)
        yield outtype, costs_of(compare(SPEECH_STAGES, ours, theirs, {ROLE: outtype}))


def opened(folder: Path, outtype: str) -> SpeechLM:
    return SpeechLM(model_file(folder / "gguf" / f"mimo-asr-{outtype}.gguf"), Backend(default_threads()))


def costs_of(result: Comparison) -> Costs:
    stages = [
        one for one in result.stages
        if (stage := stage_named(SPEECH_STAGES, one.name)) and stage.threshold == PATCH
    ]  # fmt: skip
    means, least = [one.cos_mean or 0.0 for one in stages], [one.cos_min or 0.0 for one in stages]
    top1 = min(head.top1_agreement or 0.0 for head in result.heads)
    return Costs(CosineThreshold(min(means), min(least)), top1, max(head.kl_mean or 0.0 for head in result.heads))


def table(costs: dict[str, Costs]) -> list[str]:
    """A line of Markdown for each type."""
    lines = ["| type | patch decoder | top-1 of the worst head | KL of the worst head |", "| --- | --- | --- | --- |"]
    for outtype, cost in costs.items():
        cosines = f"{cost.cosines.cos_mean:.4f} / {cost.cosines.cos_min:.4f}"
        lines.append(f"| {outtype} | {cosines} | {cost.top1:.1%} | {cost.kl:.2g} |")
    return lines


def row(outtype: str, costs: list[Costs]) -> str:
    """A row of `thresholds.GENERATION`: twice the worst noise, twice the share of other top-1 ids, four times the KL
    divergence."""
    cosines = [
        down(min(HIGHEST, (1 + 2 * max(noise(cost.cosines[part]) for cost in costs)) ** -0.5)) for part in (0, 1)
    ]
    top1 = max(0.1, 1 - 2 * (1 - min(cost.top1 for cost in costs)))
    name = f'"{outtype}":'
    return f"    {name:<9} ({', '.join(cosines)},  {top1:.2f}, {4 * max(cost.kl for cost in costs):.2g}),"


if __name__ == "__main__":
    main()
