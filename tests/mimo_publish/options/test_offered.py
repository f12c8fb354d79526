"""A command that is offered works as it was printed, in a shell, without anything added."""

import json
from pathlib import Path

import pytest

from mimo_publish.card import TEMPLATE
from tests.hub_server import Collection, Hub

from ..publishing import BESIDE, GGUFS, LM, REPO, change_report, offered, publish, run_as_printed, there
from ..test_publication import fail

OLD = {"it's old.bin": b"?", "keep.bin": b"!"}


def test_after_an_error_with_every_option_there_is(hub: Hub, folder: Path, tmp_path: Path) -> None:
    """Also of a folder that a shell would take apart."""
    odd = folder.rename(tmp_path / "my $files; 'now'\té")
    template = tmp_path / "a card.j2"
    template.write_text(TEMPLATE.read_text())
    hub.put(REPO, OLD, private=True)
    hub.collections[f"alice/mine-{'0' * 24}"] = Collection("My models")
    options = [
        "--private",
        "--card-template",
        str(template),
        "--base-model",
        LM,
        "--revision",
        "next/one",
        "--tag",
        "v1",
    ]
    options += ["--commit-message", "It's $HOME\n\n`more` of it", "--collection", "My models", "--even-if-failed"]
    hub.before = lambda asked: 403 if asked.kind == "commit" else None
    status, said = publish(odd, *options, "--delete", "it's*", "--delete-confirmed", "1")
    assert status == 2, said
    hub.before = lambda asked: None
    done = run_as_printed(offered(said), hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    made = hub.written[REPO].branches["next/one"][-1]
    assert sorted(made.files) == sorted([*GGUFS, *BESIDE, "keep.bin"])
    assert made.message == "It's $HOME\n\n`more` of it"
    assert hub.written[REPO].tags == {"v1": made.commit}
    assert hub.collections[f"alice/mine-{'0' * 24}"].items == [REPO]


def test_after_a_dry_run_and_without_a_terminal(hub: Hub, folder: Path, tmp_path: Path) -> None:
    for options, report in ((["--dry-run"], folder.parent / "report.json"), ([], folder / "mimo-check.json")):
        status, said = publish(folder, *options, yes=False)
        assert status == (0 if options else 2)
        command = offered(said)
        assert command == f"  mimo-publish {folder} --to {REPO} --report {report} --yes"
    done = run_as_printed(command, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert sorted(there(hub)) == sorted(GGUFS + BESIDE)


@pytest.mark.parametrize("options", [[], ["--tag", "v1"]])
def test_after_a_check_that_failed(hub: Hub, folder: Path, tmp_path: Path, options: list[str]) -> None:
    change_report(folder, fail)
    status, said = publish(folder, *options)
    assert status == 1
    done = run_as_printed(offered(said), hub, tmp_path / "home")
    assert done.returncode == 1, "it did fail"
    assert json.loads(there(hub)["mimo-check.json"])["publication"]["even_if_failed"] is True
    assert list(hub.written[REPO].tags) == options[1:]
