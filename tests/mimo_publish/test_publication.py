"""From a folder to a repository on a Hub of this machine, and what is not let through."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard

from mimo_commands.publish import main as mimo_publish
from mimo_publish.beside import without_folders
from mimo_publish.card import TEMPLATE
from mimo_publish.destination import Destination
from mimo_publish.publication import may_be_published
from runtime_check.report.records import Report
from runtime_check.report.safe_text import with_texts
from tests import reports
from tests.hub_server import Asked, Fault, Hub
from tests.opened import TINY_ASR

from .publishing import BESIDE, GGUFS, LM, REPO, TOKEN, TOKENIZER, change_report, offered, publish, there


def test_files_card_checksums_plot_and_report_are_published_in_one_commit(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    status, said = publish(folder)
    assert status == 0, said
    found = there(hub)
    assert sorted(found) == sorted(GGUFS + BESIDE)
    assert {name: found[name] for name in GGUFS} == {name: (folder / name).read_bytes() for name in GGUFS}
    assert len(hub.written[REPO].commits) == 2, "the Hub's own, and one"
    assert hub.written[REPO].commits[-1].message == f"Publish {', '.join(GGUFS)}"
    assert not hub.written[REPO].private
    assert said.splitlines()[-2:] == [
        "8 files verified on the Hub: size, hash, and headers byte for byte.",
        f"{hub.url}/{REPO}/tree/{hub.written[REPO].commits[-1].commit}",
    ]

    card = ModelCard(found["README.md"].decode())
    assert card.data.base_model == [LM, TOKENIZER]
    assert (card.data.license, card.data.base_model_relation) == ("mit", "quantized")  # type: ignore[attr-defined]
    assert json.loads(found["mimo-check.json"])["publication"]["repo"] == REPO

    download = tmp_path / "download"
    download.mkdir()
    for name, data in found.items():
        (download / name).write_bytes(data)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=download, check=True)


def test_how_the_publishers_disk_is_laid_out_is_nobodys_business(hub: Hub, folder: Path, checked: Path) -> None:
    assert publish(folder)[0] == 0
    for name in BESIDE:
        text = there(hub)[name].decode()
        assert str(checked.parent) not in text
        assert str(Path.home()) not in text
        assert str(TINY_ASR.parent) not in text
        assert TOKEN not in text


def test_of_paths_the_names_stay_and_nothing_else_is_cut() -> None:
    def report(models: str, clips: str) -> Report:
        def moved(text: str) -> str:
            return re.sub("^/models/", models, re.sub("^/clips/", clips, text))

        whole = reports.published_report()
        whole = replace(whole, versions={"note": "read /models/x; see https://x.org/models/x"})
        found: Report = with_texts(whole, moved)
        return found

    clean = report("", "")
    for models, clips in (("o/", "MiMo/"), ("someone/", "../"), ("./", "a/b/c/")):
        assert without_folders(report(models, clips)) == clean, "XiaomiMiMo/MiMo-V2.5-ASR ends so, too"
    note = "read x; see https://x.org/models/x"
    assert without_folders(report("/models/", "/clips/")) == replace(clean, versions={"note": note})


def test_the_same_again_changes_nothing_and_uploads_nothing(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    before, commits = there(hub), len(hub.written[REPO].commits)
    status, said = publish(folder)
    assert (status, len(hub.written[REPO].commits), there(hub)) == (0, commits, before)
    assert f"{REPO}: all files are up to date, nothing is uploaded" in said
    assert said.count("unchanged") == len(GGUFS + BESIDE)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fail(report: dict[str, Any]) -> None:
    """The report of a run in which a layer of the Q4_K file went wrong."""
    check = report["checks"][0]
    gate = next(gate for gate in check["gates"] if (gate["stage"], gate["metric"]) == ("layer_01", "cos_mean"))
    gate |= {"value": 0.5, "passed": False, "text": "cos_mean 0.500000, expected at least 0.929000"}
    check["passed"] = report["passed"] = False


def test_a_file_that_failed_is_not_published(hub: Hub, folder: Path) -> None:
    change_report(folder, fail)
    status, said = publish(folder)
    assert status == 1
    assert "nothing is published: mimo-asr-q4_k.gguf on jfk.wav failed; --even-if-failed" in said
    assert there(hub) == {}
    kept = folder / "mimo-check.json"
    assert f"the report is kept: {kept}" in said
    assert sorted(folder.iterdir()) == sorted([*(folder / name for name in GGUFS), kept]), "and no card says otherwise"
    assert json.loads(kept.read_text())["passed"] is False


def test_a_file_that_failed_before_it_was_run_failed() -> None:
    told: list[str] = []
    assert not may_be_published(replace(reports.failed_report(), checks=()), Destination(REPO), told.append)
    assert told == [
        "nothing is published: mimo-asr-q4_k.gguf failed; --even-if-failed publishes them, and the card says so"
    ]


def test_a_file_that_failed_is_published_if_the_publisher_insists_and_the_card_says_so(hub: Hub, folder: Path) -> None:
    change_report(folder, fail)
    assert publish(folder, "--even-if-failed")[0] == 1, "it did fail"
    assert "mimo-asr-q4_k.gguf" in there(hub)
    card = there(hub)["README.md"].decode()
    body = card.split("---", 2)[2].lstrip()
    assert body.startswith("> [!WARNING]")
    warning = body.partition("\n\n")[0]
    assert "mimo-asr-q4_k.gguf" in warning
    assert "layer\\_01" in warning or "layer_01" in warning
    assert json.loads(there(hub)["mimo-check.json"])["publication"]["even_if_failed"] is True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda report: report.update(checks=[]), "was not run for"),
        (
            lambda report: report.update(passed=None),
            "the files were run, but compared with nothing; give a --reference",
        ),
        (
            lambda report: report.update(schema="x"),
            "has the schema 'x'; expected 'mimo-check report 2' or 'mimo-check report 1'",
        ),
        (lambda report: report["checks"][0].pop("files"), "is not as a report should be"),
        (lambda report: report.pop("versions"), "is not as a report should be"),
        (lambda report: report["checks"][0]["timings"].update(load_s="long"), "is not as a report should be"),
        (lambda report: report["memory"].update(peak_rss=float("nan")), "is not as a report should be"),
        (lambda report: report["checks"][0]["files"][0].update(file="other.gguf"), "was not run for"),
        (
            lambda report: report["checks"][1]["files"][1].update(bytes=1),
            "is in the report with two different hashes",
        ),
    ],
    ids=[
        "nothing run",
        "not compared",
        "no report",
        "malformed",
        "incomplete",
        "no time",
        "no number",
        "other files",
        "contradiction",
    ],
)
def test_a_report_that_does_not_vouch_for_these_files_is_refused(
    hub: Hub, folder: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    change_report(folder, change)
    status, said = publish(folder, "--junit", str(folder / "report.xml"))
    assert status == 2
    assert says in said
    assert len(said.splitlines()) == 1
    assert there(hub) == {}


def test_a_report_may_be_about_files_that_stay_at_home(hub: Hub, folder: Path) -> None:
    """Their failures are nobody's business then, and the published report does not name them."""
    [failed, *others] = [name for name in GGUFS if "asr" in name]
    change_report(folder, fail)
    (folder / failed).unlink()
    status, said = publish(folder)
    assert status == 0, said
    assert [name for name in sorted(there(hub)) if name.endswith(".gguf")] == sorted({*GGUFS} - {failed})
    assert failed.encode() not in there(hub)["mimo-check.json"] + there(hub)["README.md"]
    assert others, "and of another the report speaks"


def test_a_file_that_is_not_the_one_that_was_checked_is_refused(hub: Hub, folder: Path) -> None:
    with (folder / GGUFS[0]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    status, said = publish(folder)
    assert status == 2
    assert f"{folder / GGUFS[0]}: is not the file that" in said
    assert there(hub) == {}


def test_what_arrived_otherwise_than_it_was_sent_is_told(hub: Hub, folder: Path) -> None:
    damaged = bytearray((folder / GGUFS[1]).read_bytes())
    damaged[100] ^= 1

    def damage(asked: Asked) -> Fault | None:
        return Fault(content=bytes(damaged)) if asked.file == GGUFS[1] and asked.method == "GET" else None

    hub.before = damage
    status, said = publish(folder)
    assert status == 1
    found, sent = damaged[100:101].hex(), (folder / GGUFS[1]).read_bytes()[100:101].hex()
    assert f"✗ {GGUFS[1]}: byte 100 is {found} on the Hub; expected {sent}" in said
    assert "FAIL: files on the Hub differ from those that were checked" in said


def test_a_publication_that_was_cut_off_goes_on_by_the_command_that_it_says(hub: Hub, folder: Path) -> None:
    hub.before = lambda asked: Fault(403) if asked.kind == "commit" else None
    status, said = publish(folder)
    assert status == 2
    told, command, error = said.splitlines()[-3:]
    assert told == "the files were checked; to resume:"
    assert command == f"  mimo-publish {folder} --to {REPO} --report {folder}/mimo-check.json --yes"
    assert error.startswith(f"error: {REPO}: cannot be published: the token does not permit it (HTTP 403)")
    assert set(there(hub)) == set(), "nobody sees half of it"

    hub.before, sent = lambda asked: None, [asked.file for asked in hub.of_kind("put")]
    assert len(sent) == len(GGUFS)
    result = CliRunner().invoke(mimo_publish, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert sorted(there(hub)) == sorted(GGUFS + BESIDE)
    assert [asked.file for asked in hub.of_kind("put")] == sent, "what had arrived is not sent again"


@pytest.mark.parametrize(("kind", "status"), [("create", 403), ("whoami", 401)])
def test_whatever_goes_wrong_nothing_is_checked_again_and_what_was_asked_for_still_is(
    hub: Hub, folder: Path, kind: str, status: int
) -> None:
    """Also where the Hub was there before the check, and is not any more; above all, what was to be private is."""
    calls = {"create": 1, "whoami": 2}[kind]
    hub.before = lambda asked: Fault(status) if asked.kind == kind and len(hub.of_kind(kind)) >= calls else None
    options = ["--private", "--card-template", str(TEMPLATE), "--base-model", LM]
    code, said = publish(folder, *options)
    assert code == 2
    line = offered(said)
    assert line.split()[-len(options) - 1 :] == ["--private", "--yes", *options[1:]]
    hub.before = lambda asked: None
    result = CliRunner().invoke(mimo_publish, line.split()[1:])
    assert result.exit_code == 0, result.output
    assert hub.written[REPO].private
