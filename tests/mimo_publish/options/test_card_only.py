"""A card alone is made anew of files that are published, and of no others."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.publish import main as mimo_publish
from mimo_publish.card import BEGIN, END
from tests.hub_server import Hub

from ..publishing import BESIDE, GGUFS, REPO, change_report, publish, there


@pytest.fixture
def published(hub: Hub, folder: Path) -> dict[str, bytes]:
    """What is on the Hub; the files are not here any more."""
    assert publish(folder)[0] == 0
    found = there(hub)
    for path in folder.iterdir():
        path.unlink()
    hub.asked.clear()
    return found


def test_the_card_is_corrected_where_the_files_are_not(hub: Hub, folder: Path, published: dict[str, bytes]) -> None:
    own = published["README.md"].decode().replace(f"{BEGIN}\n\n{END}", f"{BEGIN}\nMine.\n{END}")
    hub.put(REPO, {"README.md": own.encode(), "layers-old.svg": b"<svg/>"})
    change_report(folder, lambda report: [one["clip"].update(text="my fellow Martians") for one in report["checks"]])
    status, said = publish(folder, "--card-only", "--delete", "layers-*", "--delete-confirmed", "1")
    assert status == 0, said
    found = there(hub)
    assert {name: found[name] for name in GGUFS} == {name: published[name] for name in GGUFS}
    assert sorted(found) == sorted(published)
    card = found["README.md"].decode()
    assert "Martians" in card
    assert f"{BEGIN}\nMine.\n{END}" in card
    assert "Martians" in json.loads(found["mimo-check.json"])["checks"][0]["clip"]["text"]
    assert hub.written[REPO].commits[-1].message == "Update the model card"
    assert not hub.of_kind("put"), "no large file is sent"
    assert sorted(path.name for path in folder.iterdir()) == sorted(BESIDE)
    assert not [line for line in said.splitlines() if line.startswith("  ") and ".gguf" in line]


def test_the_same_card_again_changes_nothing(hub: Hub, folder: Path, published: dict[str, bytes]) -> None:
    status, said = publish(folder, "--card-only")
    assert status == 0, said
    assert f"{REPO}: all files are up to date, nothing is uploaded" in said
    assert there(hub) == published


def test_a_published_file_that_is_not_the_one_of_the_report_is_named(
    hub: Hub, folder: Path, published: dict[str, bytes]
) -> None:
    checked, other = published[GGUFS[1]], published[GGUFS[1]][:-1] + b"?"
    head = hub.put(REPO, {GGUFS[1]: other})
    status, said = publish(folder, "--card-only")
    assert status == 2
    found, expected = (hashlib.sha256(data).hexdigest() for data in (other, checked))
    assert said == (
        f"error: {REPO}/{GGUFS[1]}: is not the file that was checked: it has the SHA-256 {found}; expected {expected}; "
        "give a report on the published file, or publish this one without --card-only\n"
    )
    assert hub.written[REPO].commits[-1].commit == head
    assert not list(folder.iterdir()), "and no card says otherwise"


def test_a_published_file_that_the_card_would_lose_is_named(
    hub: Hub, folder: Path, published: dict[str, bytes]
) -> None:
    change_report(folder, lambda report: report["checks"].pop(1))
    status, said = publish(folder, "--card-only")
    assert status == 2
    assert f"{REPO}/{GGUFS[1]}: is on the published card, and would not be on the new one; expected a" in said
    assert there(hub) == published

    status, said = publish(folder, "--card-only", "--delete", "*q8_0*", "--delete-confirmed", "2")
    assert status == 0, "unless it goes, too"
    assert GGUFS[1] not in there(hub)
    assert GGUFS[1].encode() not in there(hub)["README.md"]


def test_a_report_may_be_about_files_that_are_not_published_and_the_hub_may_hold_others(
    hub: Hub, folder: Path, published: dict[str, bytes]
) -> None:
    del hub.written[REPO].commits[-1].files[GGUFS[1]]
    hub.put(REPO, {"theirs.gguf": b"GGUF"})
    status, said = publish(folder, "--card-only")
    assert status == 0, said
    assert f"{GGUFS[1]} is not in {REPO}, and the card will not mention it" in said
    assert f"{REPO} also holds theirs.gguf, which the card will not mention" in said
    assert GGUFS[1].encode() not in there(hub)["README.md"] + there(hub)["SHA256SUMS"]


def test_what_was_never_published_gets_no_card(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, "--card-only")
    assert status == 2
    assert f"{REPO}: there is no such repository; check the name, or publish the files without --card-only" in said
    hub.put(REPO, {"theirs.gguf": b"GGUF"})
    status, said = publish(folder, "--card-only")
    assert status == 2
    assert f"--card-only: no file that was checked is in {REPO}; expected files that are published" in said


def test_without_a_report_files_are_compared_with_the_hub_before_they_are_checked(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    data = (folder / GGUFS[0]).read_bytes()
    (folder / GGUFS[0]).write_bytes(data + b"?")
    result = CliRunner().invoke(
        mimo_publish, [str(folder), "--to", REPO, "--yes", "--card-only", "--reference", "tiny"]
    )
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: {REPO}/{GGUFS[0]}: is not the file that was checked: it has {len(data)} bytes; expected "
    )
    assert result.stdout == ""


def test_a_dry_run_of_a_card_compares_it_with_the_hub(hub: Hub, folder: Path, published: dict[str, bytes]) -> None:
    status, said = publish(folder, "--card-only", "--dry-run", yes=False)
    assert status == 0, said
    assert said.count("unchanged") == len(BESIDE)
    assert there(hub) == published
    hub.put(REPO, {GGUFS[0]: b"GGUF"})
    assert publish(folder, "--card-only", "--dry-run", yes=False)[0] == 2
