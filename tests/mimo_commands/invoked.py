"""Commands run in this process, and what they said and left."""

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mimo_commands.convert import main


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--no-check"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def check_one_line(result: Result, where: Path | str, says: str) -> None:
    """Exit status 2, and nothing but one line that begins with the file and `says`, literally or as a pattern."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    rest = result.stderr.removeprefix(f"error: {where}: ")
    assert rest != result.stderr, result.stderr
    assert rest.startswith(says) or re.match(says, rest), result.stderr
