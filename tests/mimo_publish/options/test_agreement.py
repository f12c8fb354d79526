"""`mimo-publish --agreement`: the section of the card, and what is published beside it."""

import hashlib
import json
from pathlib import Path

import pytest

from mimo_agreement.report.json_report import json_text, read_agreement
from tests.hub_server import Hub
from tests.mimo_agreement import made_up

from ..publishing import BESIDE, GGUFS, REPO, offered, publish, there

PLOTS = ["agreement-kl.svg", "agreement-rate.svg"]
MORE = ["mimo-agreement.json", *PLOTS]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def agreement(folder: Path) -> Path:
    """An agreement on the files of the folder, with others."""
    files = {label: (name, sha256_of(folder / name)) for label, name in (("q4_k", GGUFS[0]), ("q8_0", GGUFS[1]))}
    path = folder.parent / "agreement.json"
    path.write_text(json_text(made_up.of_files(files, sha256_of(folder / GGUFS[2]))), encoding="utf-8")
    return path


def test_the_card_has_it_and_the_json_is_published(hub: Hub, folder: Path, agreement: Path) -> None:
    status, said = publish(folder, "--agreement", str(agreement))
    assert status == 0, said
    found = there(hub)
    assert sorted(found) == sorted([*GGUFS, *BESIDE, *MORE])
    card = found["README.md"].decode()
    assert "## Agreement" in card
    for plot in PLOTS:
        assert f"({plot})" in card
    published = json.loads(found["mimo-agreement.json"])
    assert [file["file"] for file in published["files"]] == [*GGUFS[:2], "mimo-asr-f16.gguf"], "and no folders"
    assert b"/models" not in found["mimo-agreement.json"]
    assert b"q3_k" not in found["mimo-agreement.json"]
    assert read_agreement(folder / "mimo-agreement.json").baseline == made_up.BASELINE


def test_what_was_published_is_enough_to_make_the_card_again(hub: Hub, folder: Path, agreement: Path) -> None:
    assert publish(folder, "--agreement", str(agreement))[0] == 0
    before = there(hub)
    status, said = publish(folder, "--agreement", str(folder / "mimo-agreement.json"), "--card-only")
    assert status == 0, said
    assert "all files are up to date" in said
    assert there(hub) == before


def test_other_bytes_are_refused_before_anything_is_sent(hub: Hub, folder: Path, agreement: Path) -> None:
    text = agreement.read_text(encoding="utf-8")
    agreement.write_text(text.replace(sha256_of(folder / GGUFS[1]), "0" * 64), encoding="utf-8")
    status, said = publish(folder, "--agreement", str(agreement))
    assert status == 2
    assert said == (
        f"error: {folder / GGUFS[1]}: is not the file that {agreement} is about; leave out --agreement, or make it "
        "again with mimo-check agreement\n"
    )
    assert REPO not in hub.written
    assert not (folder / "README.md").exists()


def test_a_file_that_is_no_agreement_is_refused(hub: Hub, folder: Path, agreement: Path) -> None:
    status, said = publish(folder, "--agreement", str(folder.parent / "report.json"))
    assert status == 2
    assert "has the schema 'mimo-check report 2'; expected 'mimo-check agreement 1'" in said


def test_an_offered_command_has_it(hub: Hub, folder: Path, agreement: Path) -> None:
    status, said = publish(folder, "--agreement", str(agreement), "--dry-run", yes=False)
    assert status == 0, said
    assert f"--agreement {agreement}" in offered(said)
    assert all(name in said for name in MORE)
    assert not hub.written


def test_deleting_old_plots_leaves_those_of_the_agreement(hub: Hub, folder: Path, agreement: Path) -> None:
    hub.put(REPO, {"old-plot.svg": b"<svg/>"})
    options = ["--agreement", str(agreement), "--delete", "*.svg", "--delete-confirmed", "1"]
    assert publish(folder, "--agreement", str(agreement))[0] == 0
    status, said = publish(folder, *options)
    assert status == 0, said
    assert {"old-plot.svg", *PLOTS} & set(there(hub)) == set(PLOTS)
