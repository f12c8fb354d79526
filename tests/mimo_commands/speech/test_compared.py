"""mimo-check --task … --reference: what a small random pair generates, compared with its checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mimo_commands.check import main
from mimo_commands.quantize import main as quantize
from tests.speaking_pair import TOKENIZER, write_speaking_pair
from tests.system.once import once

SPEAK = ["--task", "speak", "--text", "so it is", "--max-new", "16", "--seed", "3"]


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "speaking-pair", write_speaking_pair) / "mimo-asr-f32.gguf"


def check(file: Path, *options: object, reference: object = None) -> Result:
    arguments = [file, *options, "--reference", reference or file.with_name("lm")]
    return CliRunner().invoke(main, list(map(str, arguments)))


def compared(out: Path, *arguments: Any) -> dict[str, Any]:
    """The check in the report."""
    found = check(*arguments, "--json", out / "a.json")
    assert found.stdout.rstrip().endswith("PASS"), found.output
    assert found.exit_code == 0
    [one] = json.loads((out / "a.json").read_text())["checks"]
    return dict(one)


def test_what_an_f32_file_draws_is_what_pytorch_draws(lm: Path, tmp_path: Path) -> None:
    one = compared(tmp_path, lm, *SPEAK, "--dump", tmp_path, "--html", tmp_path / "a.html")
    n_speech = len(np.load(tmp_path / "gen_code_logits.0.npy"))
    assert n_speech > 1
    assert [(head["name"], head["choices"]) for head in one["heads"]] == [
        (f"gen_code_logits.{c}", 4 * n_speech) for c in range(8)
    ]
    equal = {gate["stage"] for gate in one["gates"] if gate["metric"] == "equal" and gate["value"] == 1}
    assert equal >= {"prompt_ids", "gen_text_ids", "gen_blocks", "gen_dropped", "gen_history", "vocabulary"}
    assert one["steps"]["tokens"] == one["speech"]["groups"]
    assert (one["reference"]["checkpoints"], one["reference"]["dtype"]) == (["lm"], "f32")
    assert "gen_code_logits.7, KL" in (tmp_path / "a.html").read_text()


def test_of_a_quantized_file_heads_are_judged_and_choices_reported(lm: Path, tmp_path: Path) -> None:
    file = tmp_path / "mimo-asr-q8_0.gguf"
    made = CliRunner().invoke(quantize, [str(lm), str(file), "--outtype", "q8_0", "--quiet"])
    assert made.exit_code == 0, made.output
    options = [*SPEAK, "--tokenizer", lm.with_name(TOKENIZER), "--json", tmp_path / "a.json"]
    found = check(file, *options, reference=lm.with_name("lm"))
    assert found.exit_code == 0, found.output
    [one] = json.loads((tmp_path / "a.json").read_text())["checks"]
    assert len(one["heads"]) == 8
    assert all(0 < head["kl_mean"] < 0.01 for head in one["heads"])
    chosen = [gate for gate in one["gates"] if gate["kind"] == "chosen"]
    assert len(chosen) == 3
    assert all(gate["passed"] for gate in chosen)


def test_a_reply_in_text_has_no_heads_of_codes(lm: Path, tmp_path: Path) -> None:
    one = compared(tmp_path, lm, "--task", "chat", "--text", "so", "--max-new", "4", "--temperature", "50")
    assert one["heads"] == []
    assert one["steps"]["tokens"] == 4


def test_speech_without_a_group_of_codes_fails(lm: Path, tmp_path: Path) -> None:
    found = check(lm, *SPEAK[:4], "--max-new", "1", "--seed", "3")
    assert found.exit_code == 1
    assert "speech: no group is speech, expected one to be compared" in found.stdout


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("tokenizer", "is of mimo_tokenizer; expected mimo_asr"),
        ("mimo-asr-f32.gguf", "is a GGUF file; expected a checkpoint folder"),
        ("nowhere/at/all", "was taken for a path"),
    ],
)
def test_another_reference_is_refused_before_anything_is_said(lm: Path, reference: str, says: str) -> None:
    found = check(lm, *SPEAK, reference=lm.with_name("lm").parent / reference)
    assert found.exit_code == 2
    assert says in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not found.stdout
