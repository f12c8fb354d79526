"""`make bench`, first part: what every type costs, on tiny and on a random checkpoint → docs/gates.md."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from benchmarks.document import insert
from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.threads import default_threads
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.stages import ROLE, STAGES
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.kernels import quantize_rows
from quantize.types import TYPES
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.run.compare.thresholds import COLUMNS, CosineThreshold
from runtime_check.run.records import Check, Steps
from runtime_check.run.stages import stage_named
from runtime_check.run.system import Task
from tests.opened import check_pair, make_request, open_tiny, open_tiny_tokenizer
from tests.synthetic import write_audio_tokenizer, write_speech_lm

DOCUMENT = Path(__file__).parents[2] / "docs" / "gates.md"
EXACT = ("f32", "f16", "bf16")
HIGHEST = 0.998  # gate of a block type: with 36 layers, ggml's 8-bit rounding of activations alone is not nothing

# The published Q4_K file of the full model on JFK, against a bf16 reference; measured by others.
PUBLISHED_Q4_K = {
    "audio features": CosineThreshold(0.998, 0.992),
    "text embeds": CosineThreshold(0.996, 0.901),
    "inputs embeds": CosineThreshold(0.998, 0.901),
    "layers": CosineThreshold(0.963, 0.901),
    "last hidden": CosineThreshold(0.963, 0.963),
    "logits": CosineThreshold(0.981, 0.981),
}

NEW_TOKENS = 64
Figures = dict[str, CosineThreshold]  # column of the thresholds → worst cos_mean and cos_min


def main() -> None:
    """Measure both checkpoints in every type, put the tables into the document, and print the gates they give."""
    text = DOCUMENT.read_text(encoding="utf-8")
    figures: dict[str, list[Figures]] = {name: [] for name in TYPES}
    codes: dict[str, list[float]] = {name: [] for name in TYPES}
    with tempfile.TemporaryDirectory() as folder:
        random = write_speech_lm(Path(folder) / "lm"), write_audio_tokenizer(Path(folder) / "tokenizer")
        pairs = {
            "tiny": (open_tiny(), open_tiny_tokenizer()),
            "random": (open_checkpoint(str(random[0])), open_checkpoint(str(random[1]))),
        }
        for name, (lm, tokenizer) in pairs.items():
            checks = measure(lm, tokenizer, Path(folder) / name)
            for type, result in checks.items():
                figures[type].append(worst(result))
                codes[type].append(code_agreement(result))
            text = insert(text, name, table(checks))
    errors = squared_errors()
    lines = [f"{type:<6} {error:.3g}" for type, error in errors.items() if type not in EXACT]
    text = insert(text, "weights", ["```", *lines, "```"])
    DOCUMENT.write_text(text, encoding="utf-8")
    for type in TYPES:
        if type not in EXACT:
            print(gates_row(type, figures[type], min(codes[type]), errors[type]))


def measure(lm: Checkpoint, tokenizer: Checkpoint, out: Path) -> dict[str, Check]:
    """Each type converted, run on JFK, and compared with the fp32 reference."""
    clip, threads = replace(read_clip(JFK), text=None), default_threads()
    task = Task(language="english", max_new_tokens=NEW_TOKENS)
    expected = reference.run({ROLE: lm, TOKENIZER: tokenizer}, clip, task, None, "f32")
    checks = {}
    for name, type in TYPES.items():
        requests = [make_request(checkpoint, [type]) for checkpoint in (lm, tokenizer)]
        paths = [out / plan.file_name for plan in convert(requests, out, threads=threads)]
        checks[name] = check_pair(paths[0], paths[1], clip, expected, NEW_TOKENS, threads).check
    return checks


def worst(result: Check) -> Figures:
    """The worst cos_mean and cos_min of the stages of each column."""
    cosines: dict[str, list[CosineThreshold]] = {column: [] for column in COLUMNS}
    for found in result.stages:
        stage = stage_named(STAGES, found.name)
        if stage and stage.threshold in cosines and found.cos_mean is not None and found.cos_min is not None:
            cosines[stage.threshold].append(CosineThreshold(found.cos_mean, found.cos_min))
    return {
        column: CosineThreshold(min(pair.cos_mean for pair in pairs), min(pair.cos_min for pair in pairs))
        for column, pairs in cosines.items()
    }


def code_agreement(result: Check) -> float:
    """The share of equal codes."""
    [agreement] = [stage.agreement for stage in result.stages if stage.name == CODES]
    assert agreement is not None
    return agreement


def steps_of(result: Check) -> Steps:
    assert result.steps is not None
    return result.steps


def squared_errors() -> dict[str, float]:
    """Mean squared error of Gaussian weights in each type, by Q4_K's."""
    rows = np.random.default_rng(0).standard_normal((256, 4096), np.float32)
    errors = {}
    for name, type in TYPES.items():
        back = gguf.quants.dequantize(quantize_rows(rows, type), gguf.GGMLQuantizationType(type.ggml))
        errors[name] = float(np.square(back - rows).mean())
    return {name: error / errors["q4_k"] for name, error in errors.items()}


def noise(cosine: float) -> float:
    """Power of the noise by the signal's that gives this cosine."""
    return 1 / cosine**2 - 1


def gates_row(type: str, figures: list[Figures], agreement: float, error: float) -> str:
    """A row of `thresholds.TABLE`: twice the worst noise, and codes that differ twice as often, as odds."""
    pairs = []
    for column in COLUMNS:
        cosines = []
        for part in (0, 1):
            found = [noise(figure[column][part]) for figure in figures]
            if column in PUBLISHED_Q4_K:
                found.append(noise(PUBLISHED_Q4_K[column][part]) * error)
            cosines.append(down(min(HIGHEST, (1 + 2 * max(found)) ** -0.5)))
        pairs.append(f"{cosines[0]}, {cosines[1]},")
    name = f'"{type}":'
    return f"    {name:<9} ({'  '.join(pairs)}  {down(agreement**2)}),"


def down(x: float) -> str:
    """Three decimals, rounded down, without the zero."""
    return f"{int(x * 1000) / 1000:.3f}".removeprefix("0")


def table(checks: Mapping[str, Check]) -> list[str]:
    """A line of Markdown for each type."""
    more = ("codes", "first token", "transcript", "top-1 token", "KL mean / max", "incremental RMSE")
    lines = [f"| type | {' | '.join((*COLUMNS, *more))} |", "|" + " --- |" * (len(COLUMNS) + len(more) + 1)]
    for name, result in checks.items():
        assert result.reference is not None
        cells = [f"{cosines.cos_mean:.4f} / {cosines.cos_min:.4f}" for cosines in worst(result).values()]
        [first_token] = [gate.value == 1 for gate in result.gates if gate.metric == "top1"]
        equal = [first_token, result.transcript == result.reference.transcript]
        cells += [f"{code_agreement(result):.1%}", *("equal" if same else "differs" for same in equal)]
        steps = steps_of(result)
        cells += [f"{steps.top1_agreement:.1%}", f"{steps.kl_mean:.2g} / {steps.kl_max:.2g}"]
        cells += [f"{steps.cached_rel_rmse:.1g}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
