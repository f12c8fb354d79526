"""A pair of files made of one checkpoint: its card, and the commands in it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from mimo_commands.publish import main as mimo_publish
from tests.hub_server import Hub

from .publishing import REPO, there

BASE = "Some/Tiny-Qwen3"
NAMES = {"Qwen3-ASR-Q4_K_M.gguf", "mmproj-Qwen3-ASR-Q8_0.gguf"}


@pytest.fixture
def published(hub: Hub, tmp_path: Path) -> Mapping[str, bytes]:
    """What is on the Hub after one command that converts, checks and publishes."""
    made = ["--runtime", "llama.cpp", "--recipe", "q4_k_m", "--base-model", BASE, "--out", str(tmp_path)]
    result = CliRunner().invoke(mimo_convert, ["tiny-qwen3", *made, "--publish", REPO, "--yes"])
    assert result.exit_code == 0, result.output
    return there(hub)


def test_the_card_names_both_files_and_every_command(published: Mapping[str, bytes], hub: Hub, tmp_path: Path) -> None:
    assert {name for name in published if name.endswith(".gguf")} == NAMES
    card = " ".join(published["README.md"].decode().replace("\\\n", " ").split())
    assert "**PASS**" in card
    for command in (
        "llama-mtmd-cli -m Qwen3-ASR-Q4_K_M.gguf --mmproj mmproj-Qwen3-ASR-Q8_0.gguf --audio clip.wav "
        "-p '<__media__>' --jinja --temp 0 -n 512 -c 4096",
        "mimo-check transcribe Qwen3-ASR-Q4_K_M.gguf --tokenizer mmproj-Qwen3-ASR-Q8_0.gguf --audio clip.wav",
        f"mimo-convert {BASE} --runtime llama.cpp --recipe q4_k_m --out . --no-check",
        f"mimo-check reference {BASE} -o jfk-reference.safetensors",
    ):
        assert command in card
    assert "crispasr" not in card
    assert "--runtime llama.cpp of mimo-check computes" in card
    again = CliRunner().invoke(
        mimo_publish, [str(tmp_path), "--to", REPO, "--reference", "tiny-qwen3", "--base-model", BASE, "--yes"]
    )
    assert again.exit_code == 0, again.output
