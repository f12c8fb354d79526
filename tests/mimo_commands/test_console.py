"""What both command lines share."""

import subprocess
import sys
from pathlib import Path

import pytest

from mimo_commands.console import read_rules
from mimo_convert.threads import default_threads


def test_the_default_is_every_core_there_is() -> None:
    assert default_threads() >= 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rules_of_the_command_line_come_before_those_of_a_recipe(tmp_path: Path, encoding: str, newline: str) -> None:
    """Of a recipe as any editor saves it."""
    recipe = tmp_path / "r.txt"
    recipe.write_bytes(newline.join(["a=q8_0", "# größer", "b=f16", ""]).encode(encoding))
    rules = read_rules(["b=q4_k", "c=bf16"], recipe)
    assert [(str(rule), rule.where) for rule in rules.rules] == [
        ("b=q4_k", "--tensor-type"), ("c=bf16", "--tensor-type"), ("a=q8_0", f"{recipe}:1"), ("b=f16", f"{recipe}:3"),
    ]  # fmt: skip


def test_without_rules_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "r.txt").touch()
    assert read_rules([], None) == ((), None, None)
    assert read_rules([], tmp_path / "r.txt") == ((), None, tmp_path / "r.txt")


@pytest.mark.parametrize("name", ["mimo-convert", "mimo-quantize", "mimo-check", "mimo-publish"])
def test_a_bare_command_prints_its_help(name: str) -> None:
    found = subprocess.run([Path(sys.executable).with_name(name)], capture_output=True, text=True)
    assert found.returncode == 2
    assert "Usage:" in found.stdout + found.stderr
    assert "--help" in found.stdout + found.stderr
    assert "error:" not in found.stderr
