"""`make bench`, first part: what every type costs, on tiny and on a random checkpoint → docs/gates.md."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from mimo_convert.console import default_threads
from mimo_convert.convert import convert
from mimo_convert.request import make_request
from quantize.kernels import quantize_rows
from quantize.types import TYPES
from runtime_check import bundled, reference
from runtime_check.check import Check, check, open_pair
from runtime_check.gates import STAGES, Gate
from runtime_check.steps import Steps
from runtime_check.transcribe import Harness, read_clip
from tests.synthetic import write_audio_tokenizer, write_speech_lm

from .document import insert

DOCUMENT = Path(__file__).parent.parent / "docs" / "gates.md"
HEADS = ("encoder", "audio features", "text embeds", "inputs embeds", "layers", "last hidden", "logits")
EXACT = ("f32", "f16", "bf16")
HIGHEST = 0.998  # gate of a block type: with 36 layers, ggml's 8-bit rounding of activations alone is not nothing

# The published Q4_K file of the full model on JFK, against a bf16 reference; measured by others.
PUBLISHED_Q4_K = {
    "prefill_audio_features": Gate(0.998, 0.992),
    "prefill_text_embeds": Gate(0.996, 0.901),
    "prefill_inputs_embeds": Gate(0.998, 0.901),
    r"layer_\d+": Gate(0.963, 0.901),
    "prefill_last_hidden": Gate(0.963, 0.963),
    "prefill_text_logits_step0": Gate(0.981, 0.981),
}

Figures = dict[str, Gate]  # kind of stage → worst cos_mean and cos_min


def main() -> None:
    """Measure both checkpoints in every type, put the tables into the document, and print the gates they give."""
    text = DOCUMENT.read_text(encoding="utf-8")
    figures: dict[str, list[Figures]] = {name: [] for name in TYPES}
    codes: dict[str, list[float]] = {name: [] for name in TYPES}
    with tempfile.TemporaryDirectory() as folder:
        random = [str(write_speech_lm(Path(folder) / "lm")), str(write_audio_tokenizer(Path(folder) / "tokenizer"))]
        for name, model, tokenizer in (("tiny", bundled.TINY, bundled.TINY), ("random", *random)):
            checks = measure(model, tokenizer, Path(folder) / name)
            for type, result in checks.items():
                assert result.comparison is not None
                figures[type].append(worst(result))
                codes[type].append(result.comparison.code_agreement)
            text = insert(text, name, table(checks))
    errors = squared_errors()
    text = insert(text, "weights", [f"{type} {error:.3g}" for type, error in errors.items() if type not in EXACT])
    DOCUMENT.write_text(text, encoding="utf-8")
    for type in TYPES:
        if type not in EXACT:
            print(gates_row(type, figures[type], min(codes[type]), errors[type]))


def measure(model: str, tokenizer: str, out: Path) -> dict[str, Check]:
    """Each type converted, run on JFK, and compared with the fp32 reference."""
    clip, threads = replace(read_clip(bundled.JFK), text=None), default_threads()
    lm, audio_tokenizer = bundled.open_model(model), bundled.open_tokenizer(tokenizer, model)
    expected = reference.run(lm, audio_tokenizer, clip, "english", max_new_tokens=64)
    checks = {}
    for name, type in TYPES.items():
        requests = [make_request(checkpoint, [type]) for checkpoint in (lm, audio_tokenizer)]
        paths = [out / plan.file_name for plan in convert(requests, out, threads=threads)]
        pair = open_pair(Harness(paths[0], paths[1], threads))
        checks[name] = check(pair, clip, lambda answer: expected, language="english", max_new_tokens=64)
    return checks


def worst(result: Check) -> Figures:
    """The worst cos_mean and cos_min of each kind of stage."""
    assert result.comparison is not None
    found: Figures = {}
    for kind in STAGES:
        stages = [stage for stage in result.comparison.stages if re.fullmatch(kind, stage.name)]
        found[kind] = Gate(min(s.cos_mean for s in stages), min(s.cos_min for s in stages))
    return found


def steps_of(result: Check) -> Steps:
    assert result.comparison is not None
    assert result.comparison.steps is not None
    return result.comparison.steps


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
    """A row of `runtime_check.gates.TABLE`: twice the worst noise, and codes that differ twice as often, as odds."""
    pairs = []
    for kind in STAGES:
        cosines = []
        for part in (0, 1):
            found = [noise(figure[kind][part]) for figure in figures]
            if kind in PUBLISHED_Q4_K:
                found.append(noise(PUBLISHED_Q4_K[kind][part]) * error)
            cosines.append(down(min(HIGHEST, (1 + 2 * max(found)) ** -0.5)))
        pairs.append(f"{cosines[0]}, {cosines[1]},")
    name = f'"{type}":'
    return f"    {name:<9} ({'  '.join(pairs)}  {down(agreement**2)}),"


def down(x: float) -> str:
    """Three decimals, rounded down, without the zero."""
    return f"{int(x * 1000) / 1000:.3f}".removeprefix("0")


def table(checks: Mapping[str, Check]) -> list[str]:
    """A line of Markdown for each type."""
    more = ("codes", "first token", "transcript", "likeliest token", "KL mean / max", "cached RMSE")
    lines = [f"| type | {' | '.join((*HEADS, *more))} |", "|" + " --- |" * (len(HEADS) + len(more) + 1)]
    for name, result in checks.items():
        comparison, expected = result.comparison, result.reference
        assert comparison is not None
        assert expected is not None
        assert comparison.first_token is not None
        cells = [f"{gate.cos_mean:.4f} / {gate.cos_min:.4f}" for gate in worst(result).values()]
        equal = [len(set(comparison.first_token)) == 1, result.run.transcript == expected.transcript]
        cells += [f"{comparison.code_agreement:.1%}", *("equal" if same else "differs" for same in equal)]
        steps = steps_of(result)
        cells += [f"{steps.top1_agreement:.1%}", f"{steps.kl_mean:.2g} / {steps.kl_max:.2g}"]
        cells += [f"{steps.cached_rmse:.1g}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
