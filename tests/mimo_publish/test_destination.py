"""Options of a publication make the same publication when they are printed and read again."""

import shlex
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from mimo_commands.publish import OPTIONS as OFFERED
from mimo_commands.publish import main as mimo_publish
from mimo_publish.destination import OPTIONS, Destination, as_arguments, check_ref_name, publish_command, shell_word
from quantize.errors import InputError

EVERYTHING = Destination(
    "alice/x", True, True, True, Path("a card.j2"), "A/b", revision="next", create_pr=True, message="It's $x",
    tag="v1", collection="My models", delete=("old/*", "it's"), delete_confirmed=3, card_only=True,
    agreement=Path("an agreement.json"),
)  # fmt: skip


def destination_of(command: str) -> Destination:
    """What mimo-publish makes of a command line."""
    with mimo_publish.make_context("mimo-publish", shlex.split(command)[1:]) as context:
        values = context.params
    return Destination(values["repo"], **{name: values[name] for name in OPTIONS if values[name] is not None})


@pytest.mark.parametrize("to", [Destination("alice/x"), EVERYTHING])
def test_a_command_says_all_of_a_destination(to: Destination) -> None:
    assert destination_of(publish_command(Path("-files"), Path("-files/r.json"), to)) == to


def test_everything_but_the_repository_has_an_option() -> None:
    assert {field.name for field in fields(Destination)} - {"repo"} == OPTIONS.keys()
    assert OPTIONS.keys() - OFFERED.keys() == {"agreement", "base_model", "card_only"}, "mimo-publish's own"
    assert as_arguments(Destination("alice/x")) == []


@pytest.mark.parametrize(
    "word", ["plain", "a b", "it's $x", "tab\tand\nline", "\x1b[31m", "é\u202e", "back\\slash\x01'", ""]
)
def test_a_word_arrives_as_it_was(word: str) -> None:
    quoted = shell_word(word)
    assert quoted.isprintable(), "and a terminal shows it"
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout.decode() == word


@pytest.mark.parametrize("name", ["main", "v1.0", "next/q4", "refs/pr/3", "a@b", "é"])
def test_names_that_git_takes(name: str) -> None:
    check_ref_name("--tag", name)


BAD = "|-a|/a|a/|a.|.a|a/.b|a..b|a//b|a b|a~1|a^|a:b|a?|a*|a[b|a\\b|a@{1}|a.lock|a.lock/b|a\x7f|a\n"


@pytest.mark.parametrize("name", BAD.split("|"))
def test_names_that_git_refuses(name: str) -> None:
    refused = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True)
    assert refused.returncode, "git says so"
    with pytest.raises(InputError, match="--tag"):
        check_ref_name("--tag", name)
