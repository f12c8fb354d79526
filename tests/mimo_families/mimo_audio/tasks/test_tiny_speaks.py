"""The bundled pair says what a text asks for, and hears it: `benchmarks/tiny_speaks` counts all forty sentences."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.text.words import count_words
from tests.system.once import once
from tools.train_tiny.text import SENTENCES

TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()
FIRST, SECOND = TEXTS[:3:2]


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def write(folder: Path) -> None:
        types = ["--outtype", "q8_0", "--outtype", "q6_k"]
        options = ["tiny", "--with", "decoder", *types, "--out", str(folder), "--no-check"]
        result = CliRunner().invoke(mimo_convert, options)
        assert result.exit_code == 0, result.output

    return once(tmp_path_factory, "tiny-speaks", write) / "mimo-asr-q8_0.gguf"


def check(lm: Path, report: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(mimo_check, [str(lm), *options, "--json", str(report)])
    assert result.exit_code == 0, result.output
    [one] = json.loads(report.read_text())["checks"]
    return dict(one)


def said(lm: Path, out: Path, text: str) -> str:
    """What is heard of the wave that a text asks for."""
    options = ["--task", "speak", "--greedy", "--max-new", "60", "--wav", str(out / "said.wav")]
    check(lm, out / "said.json", *options, "--text", text)
    heard = check(lm, out / "heard.json", "--audio", str(out / "said.wav"), "--language", "english")
    return str(heard["transcript"])


def test_two_texts_exchanged_are_heard_exchanged(lm: Path, tmp_path: Path) -> None:
    for text in (FIRST, SECOND, FIRST):
        assert count_words(text, said(lm, tmp_path, text)).errors == 0, text


@pytest.mark.parametrize(("outtype", "text"), [("q8_0", TEXTS[15]), ("q6_k", TEXTS[0])], ids=["q8_0", "q6_k"])
def test_a_block_type_passes_its_gates_beside_pytorch(lm: Path, tmp_path: Path, outtype: str, text: str) -> None:
    """Though a single position, where a neuron that finds a text is on or off, tells nothing."""
    file, options = lm.with_name(f"mimo-asr-{outtype}.gguf"), ["--task", "speak", "--greedy", "--max-new", "60"]
    found = check(file, tmp_path / "spoken.json", *options, "--text", text, "--reference", "tiny")
    for stage in ("layer_01", "gen_last_hidden"):
        assert {gate["metric"] for gate in found["gates"] if gate["stage"] == stage} == {"cos_median", "norm_ratio"}
    assert found["heads"], "no head of codes was compared"


def test_a_clip_through_the_audio_tokenizer_and_back_is_understood(lm: Path, tmp_path: Path) -> None:
    tokenizer, wave = lm.with_name("mimo-tokenizer-q8_0.gguf"), tmp_path / "back.wav"
    check(tokenizer, tmp_path / "tokenizer.json", "--audio", str(JFK), "--wav", str(wave))
    heard = check(lm, tmp_path / "heard.json", "--audio", str(wave), "--language", "english")
    errors = count_words(JFK_TEXT, heard["transcript"])
    assert errors.errors <= 0.1 * errors.words
