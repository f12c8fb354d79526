"""What both command lines share."""

import click
import pytest
from click.testing import CliRunner

from mimo_convert.console import default_threads, exit_status, one_line_errors
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
