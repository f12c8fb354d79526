"""docs/options.md: every option of every command, as the commands have them."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mimo_commands import check, convert, publish, quantize
from mimo_convert.command import outcome
from tools.documents.options import DOCUMENT, STATUSES, commands, document, plain

DOCS = Path(DOCUMENT).parent


def test_the_document_is_what_the_commands_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m tools.documents"


@pytest.mark.parametrize("module", [convert, quantize, check, publish], ids=lambda module: module.__name__)
def test_every_option_that_help_shows_is_in_its_table(module: object) -> None:
    parts = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {part.split("\n", 1)[0]: part for part in parts}
    for name, command in commands():
        if name.split()[0] != f"mimo-{module.__name__.rpartition('.')[2]}":  # type: ignore[attr-defined]
            continue
        shown = CliRunner().invoke(command, ["--help"]).output
        options = re.findall(r"^ +(?:-\w, |/ )?(--[\w-]+)", shown, re.MULTILINE)
        assert len(options) > 3
        for option in options:
            assert f"`{option}`" in sections[name] + sections["Every command"], (name, option)


def test_defaults_choices_and_ranges_are_told() -> None:
    text = document()
    assert "| `--outtype` | `TYPE` | f16, or the named recipe's | Type of the matrices; may repeat." in text
    assert "| `--check`, `--no-check` |  | `--check` |" in text
    assert "| `--compare` | `rows`, `stages`, `both` | stages; with a GGUF file both |" in text
    assert "| `--threads` | 1 to 128 | all cores |" in text
    assert "| `--to` | `USER/REPO` | required |" in text
    assert "| `--tokenizer` | `TOK.gguf` | the one beside FILE.gguf, of its type down to q8_0 | The audio" in text


def test_what_markdown_would_take_for_something_else_is_escaped() -> None:
    assert plain("a <b>\n  of --json, or `--html | x`") == "a \\<b> of `--json`, or `--html \\| x`"


def test_every_exit_status_is_there() -> None:
    names = ("PASSED", "GATE_FAILED", "BAD_INPUT", "INTERNAL_ERROR", "INTERRUPTED", "BROKEN_PIPE")
    assert list(STATUSES) == [getattr(outcome, name) for name in names]


def test_metavars_of_models_are_explained() -> None:
    """Each word that stands for a model in a table is one of docs/sources.md."""
    sources = (DOCS / "sources.md").read_text(encoding="utf-8")
    for _, command in commands():
        for param in command.params:
            if isinstance(param, click.Option) and type(param.type).__name__ == "Source":
                assert f"`{param.metavar}`" in sources, param.name
