"""What both command lines share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mimo_convert.console import default_threads, exit_status, one_line_errors, read_rules
from quantize.errors import InputError


@pytest.mark.parametrize(
    ("passed", "status"),
    [([], 0), ([True], 0), ([None], 0), ([True, None], 0), ([False], 1), ([True, False, None], 1)],
)
def test_the_exit_status_is_1_only_for_a_check_that_failed(passed: list[bool | None], status: int) -> None:
    assert exit_status(iter(passed)) == status


@pytest.mark.parametrize(
    ("error", "status", "stderr"),
    [
        (InputError("x.gguf", "is odd", expected="even", todo="ask"), 2, "error: x.gguf: is odd; expected even; ask\n"),
        (OSError(36, "File name too long", "xxx"), 2, "error: xxx: File name too long\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line(error: BaseException, status: int, stderr: str) -> None:
    @click.command()
    @one_line_errors
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", stderr)


def test_a_mistake_of_ours_is_no_bad_input() -> None:
    @click.command()
    @one_line_errors
    def command() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(command).exception, ZeroDivisionError)


def test_the_default_is_every_core_there_is() -> None:
    assert default_threads() >= 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rules_of_the_command_line_come_before_those_of_a_recipe(tmp_path: Path, encoding: str, newline: str) -> None:
    """Of a recipe as any editor saves it."""
    recipe = tmp_path / "r.txt"
    recipe.write_bytes(newline.join(["a=q8_0", "# größer", "b=f16", ""]).encode(encoding))
    rules = read_rules(["b=q4_k", "c=bf16"], recipe)
    assert [(str(rule), rule.where) for rule in rules] == [
        ("b=q4_k", "--tensor-type"), ("c=bf16", "--tensor-type"), ("a=q8_0", f"{recipe}:1"), ("b=f16", f"{recipe}:3"),
    ]  # fmt: skip


def test_without_rules_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "r.txt").touch()
    assert read_rules([], None) == read_rules([], tmp_path / "r.txt") == ()
