"""Commands in the documents: those of the README that need no Hub are run as written; all of them are ones."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mimo_commands import calibrate, check, convert, publish, quantize
from runtime_check.audio.jfk import JFK

from .markdown import PAGES, README, ROOT, blocks

NEEDS = "# needs "  # how a block of the README begins that is not for every machine
MAKE = "make "  # how one begins that is for the checkout, and that .ci/run runs
MAINS = {"mimo-convert": convert.main, "mimo-quantize": quantize.main,
         "mimo-calibrate": calibrate.main, "mimo-check": check.main, "mimo-publish": publish.main}  # fmt: skip
COMMAND = re.compile(rf"(?:^|\| )({'|'.join(MAINS)}) (.*)")


def shell_blocks() -> list[str]:
    """The README's blocks for a shell, but for those that need what not every machine has."""
    return [block.text for block in blocks(README) if block.language == "sh" and not block.text.startswith(NEEDS)]


def test_the_first_minute(tmp_path: Path) -> None:
    """What the README tells a newcomer to type, in an empty folder that has of the checkout what they name."""
    clip = tmp_path / JFK.relative_to(ROOT)
    clip.parent.mkdir(parents=True)
    shutil.copy(JFK, clip)
    [block] = [text for text in shell_blocks() if not text.startswith(MAKE)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = ["bash", "-eu", "-o", "pipefail", "-c", block]
    ended = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines().count("PASS") == 4  # two types, a lint and a check
    [words] = [line for line in ended.stdout.splitlines() if line.startswith("And so, my fellow Americans")]
    assert words.endswith("what you can do for your country.")
    made = {path.name for path in (tmp_path / "tiny-gguf").iterdir()}
    assert made == {f"mimo-asr-{name}.gguf" for name in ("q8_0", "q5_k", "q4_k")} | {"mimo-tokenizer-q8_0.gguf"}
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-gguf", "runtime_check"}  # a dry run wrote nothing


def test_ci_runs_what_make_is_told() -> None:
    told = {
        line.partition("#")[0].strip() for text in shell_blocks() if text.startswith(MAKE) for line in text.splitlines()
    }
    assert told
    assert told <= set((ROOT / ".ci/run").read_text(encoding="utf-8").splitlines())


def documented() -> Iterator[tuple[str, str, str]]:
    """Every command in a block of code that is not what a command says: page, name, the rest of its line."""
    for page in PAGES:
        for block in (block for block in blocks(page) if block.language != "text"):
            for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                for name, rest in COMMAND.findall(line):
                    yield str(page.relative_to(ROOT)), name, rest


@pytest.mark.parametrize(("page", "name", "rest"), sorted(set(documented())))
def test_documented_commands_are_ones(page: str, name: str, rest: str) -> None:
    """Their options exist, and have values that could be."""
    words = shlex.split(re.split(r" (?:\|\|?|>) ", rest)[0], comments=True)
    main: click.Command = MAINS[name]
    if isinstance(main, click.Group):
        command = words.pop(0) if words[0] in main.commands else "file"
        main = main.commands[command]
    main.make_context(name, words, help_option_names=["-h", "--help"])  # which click keeps
