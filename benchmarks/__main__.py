"""`make bench`: what every type costs, on the tiny checkpoint and on a random one → docs/gates.md's tables."""

import re
import tempfile
from pathlib import Path

from mimo_convert.console import default_threads
from mimo_convert.convert import convert, make_request
from quantize.types import TYPES
from runtime_check import bundled, reference
from runtime_check.activations import Activations
from runtime_check.check import Check, check
from runtime_check.transcribe import read_clip
from tests.synthetic import write_audio_tokenizer, write_speech_lm

DOCUMENT = Path(__file__).parent.parent / "docs" / "gates.md"
STAGES = ("tok_pool", "prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds", "layers",
          "prefill_last_hidden", "prefill_text_logits_step0")  # fmt: skip


def main() -> None:
    """Measure both checkpoints in every type and put the tables into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        random = [str(write_speech_lm(Path(folder) / "lm")), str(write_audio_tokenizer(Path(folder) / "tokenizer"))]
        for name, model, tokenizer in (("tiny", bundled.TINY, bundled.TINY), ("random", *random)):
            table = "\n".join(measure(model, tokenizer, Path(folder) / name))
            mark = f"<!-- {name} -->\n"
            text = re.sub(f"{mark}.*?{mark}", lambda _, m=mark, t=table: f"{m}{t}\n{m}", text, flags=re.DOTALL)
            print(table, end="\n\n")
    DOCUMENT.write_text(text, encoding="utf-8")


def measure(model: str, tokenizer: str, out: Path) -> list[str]:
    """A line of Markdown for each type: error of each stage, codes, first token, transcript."""
    clip = read_clip(bundled.JFK)
    lm, audio_tokenizer = bundled.open_model(model), bundled.open_tokenizer(tokenizer, model)
    expected = reference.run(lm, audio_tokenizer, clip, "english", max_new_tokens=64)
    heads = [stage.removeprefix("prefill_").removesuffix("_step0") for stage in STAGES]
    lines = [f"| type | {' | '.join(heads)} | codes | first token | transcript |", "|" + " --- |" * (len(heads) + 4)]
    for type in TYPES.values():
        requests = [make_request(checkpoint, [type], False) for checkpoint in (lm, audio_tokenizer)]
        paths = [out / plan.file_name for plan in convert(requests, out, threads=default_threads())]
        result = check(
            *paths, clip, expected, language="english", max_new_tokens=64, threads=default_threads(),
            expected_text=expected.transcript,
        )  # fmt: skip
        lines.append(row(type.name, result, expected))
    return lines


def row(name: str, result: Check, expected: Activations) -> str:
    comparison = result.comparison
    assert comparison is not None
    assert comparison.first_token is not None
    cells = [name]
    for stage in STAGES:
        pattern = r"layer_\d+" if stage == "layers" else stage
        found = [s for s in comparison.stages if re.fullmatch(pattern, s.name)]
        cells.append(f"{min(s.cos_mean for s in found):.4f} / {min(s.cos_min for s in found):.4f}")
    ours, theirs = comparison.first_token
    equal = result.run.transcript == expected.transcript
    cells += [
        f"{comparison.code_agreement:.1%}",
        "equal" if ours == theirs else "differs",
        "equal" if equal else "differs",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
