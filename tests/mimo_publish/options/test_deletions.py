"""What is deleted from the repository in the same commit: never unasked, never too much."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.publish import main as mimo_publish
from tests.hub_server import Asked, Fault, Hub, environment

from ..publishing import BESIDE, GGUFS, REPO, TOKEN, offered, publish, there

OLD = {"mimo-asr-q2_k.gguf": b"GGUF" * 300, "old/mimo-asr-q3_k.gguf": b"GGUF" * 2000, "old/notes.txt": b"?"}


@pytest.fixture
def old(hub: Hub) -> str:
    """A commit with older files; the first of them stays."""
    return hub.put(REPO, {"keep.gguf": b"GGUF", ".gitattributes": b"*.gguf filter=lfs\n", **OLD})


def test_files_are_deleted_in_the_same_commit_and_the_way_back_is_told(hub: Hub, folder: Path, old: str) -> None:
    patterns = ["--delete", "old/", "--delete", "*q2_k*"]
    status, said = publish(folder, *patterns, "--delete-confirmed", "3")
    assert status == 0, said
    assert sorted(there(hub)) == sorted(["keep.gguf", *GGUFS, *BESIDE])
    assert hub.written[REPO].commits[-1].parent == old
    rows = [line.split() for line in said.splitlines() if line.startswith("  ")]
    assert [row for row in rows if row[-1] == "deletes"] == [
        ["mimo-asr-q2_k.gguf", "1.20", "kB", "deletes"],
        ["old/mimo-asr-q3_k.gguf", "8.00", "kB", "deletes"],
        ["old/notes.txt", "1", "bytes", "deletes"],
    ]
    assert f"deleted 3 files, 9.20 kB; still in the revision before, {old}: {hub.url}/{REPO}/tree/{old}\n" in said
    snapshot = hub.snapshot(REPO, old)
    assert snapshot
    assert set(OLD) < set(snapshot.files)
    assert f"{REPO} also holds keep.gguf, which the card will not mention" in said

    status, said = publish(folder, *patterns, "--delete-confirmed", "3")
    assert status == 0, "the same again finds nothing to delete"
    assert f"--delete 'old/': no file of {REPO} matches it" in said
    assert f"{REPO}: all files are up to date" in said


def test_what_the_hub_reads_and_what_is_published_now_stay(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    hub.put(REPO, OLD)
    (folder / GGUFS[1]).unlink()
    status, said = publish(folder, "--delete", "*", "--delete-confirmed", "5")
    assert status == 0, said
    kept = {*GGUFS, *BESIDE} - {GGUFS[1], "layers-mimo-asr-q8_0.svg"}
    assert there(hub).keys() == kept
    assert ".gitattributes" in hub.written[REPO].commits[-1].files
    assert f"--delete: {', '.join(sorted(kept | {'.gitattributes'}))} stay" in said


def test_without_the_files_of_a_repository_it_is_another_repository(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"theirs.gguf": b"GGUF", "more/theirs.gguf": b"GGUF"})
    status, said = publish(folder, "--delete", "*.gguf", "--delete-confirmed", "2")
    assert status == 2
    assert f"--delete: would delete every GGUF file that is in {REPO}: more/theirs.gguf, theirs.gguf; expected" in said
    assert len(hub.written[REPO].commits) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            [],
            "--delete: 2 files, 8.00 kB would be deleted, and there is no terminal to ask at; look at the list, and",
        ),
        (["--delete-confirmed", "1"], "--delete-confirmed: 1; expected 2, the number of files that would be deleted"),
        (["--delete-confirmed", "3"], "--delete-confirmed: 3; expected 2, the number of files that would be deleted"),
    ],
)
def test_without_a_terminal_the_number_must_be_right_before_anything_is_checked(
    hub: Hub, folder: Path, old: str, options: list[str], says: str
) -> None:
    arguments = [str(folder), "--to", REPO, "--yes", "--delete", "old/*", *options]
    result = CliRunner().invoke(mimo_publish, arguments)
    assert result.exit_code == 2
    assert f"{REPO}  to be deleted: 2 files, 8.00 kB\n" in result.stdout
    listed = [line.split() for line in result.stdout.splitlines() if line.startswith("  ")]
    assert listed == [["old/mimo-asr-q3_k.gguf", "8.00", "kB"], ["old/notes.txt", "1", "bytes"]]
    assert says in result.stderr
    assert hub.written[REPO].commits[-1].commit == old


def test_a_number_without_yes_agrees_to_nothing(hub: Hub, folder: Path, old: str) -> None:
    status, said = publish(folder, "--delete", "old/*", "--delete-confirmed", "2", yes=False)
    assert status == 2
    assert "give --yes --delete-confirmed 2 to agree" in said
    assert hub.written[REPO].commits[-1].commit == old


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 130)])
def test_at_a_terminal_it_is_asked_anew_though_yes_was_given(
    hub: Hub, folder: Path, tmp_path: Path, old: str, answer: str, status: int
) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mimo_commands.publish", str(folder), "--to", REPO, "--yes", "--delete", "old/"]
    command += ["--report", str(tmp_path / "report.json")]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, stdin=theirs, env=environment(hub, tmp_path / "home", TOKEN), **both)  # type: ignore[call-overload]
    os.write(ours, f"{answer}\n".encode())
    out, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert f"Delete 2 files, 8.00 kB, in the same commit? Revision {old} will still have them. [y/N]" in out
    assert ("old/notes.txt" in there(hub)) == (answer == "n")
    assert (hub.written[REPO].commits[-1].commit == old) == (answer == "n")


def test_a_dry_run_lists_what_would_be_deleted_and_offers_the_command_that_does_it(
    hub: Hub, folder: Path, old: str
) -> None:
    status, said = publish(folder, "--delete", "old/*", "--dry-run", yes=False)
    assert status == 0, said
    assert "old/notes.txt" in said
    assert hub.written[REPO].commits[-1].commit == old
    command = offered(said)
    assert command.endswith("--yes --delete 'old/*' --delete-confirmed 2")
    result = CliRunner().invoke(mimo_publish, command.replace("'", "").split()[1:])
    assert result.exit_code == 0, result.output
    assert "old/notes.txt" not in there(hub)


def test_what_is_still_there_is_told(hub: Hub, folder: Path, old: str) -> None:
    def rename(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return headers, body.replace(b"README.md", b"old/notes.txt")

    def before(asked: Asked) -> Fault | None:
        return Fault(rewrite=rename) if hub.of_kind("commit") and asked.kind == "tree" else None

    hub.before = before
    status, said = publish(folder, "--delete", "old/*", "--delete-confirmed", "2")
    assert status == 1
    assert f"✗ old/notes.txt: is still in {REPO} at " in said


def test_if_the_answer_is_lost_the_commit_is_found_by_what_it_deleted(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    hub.put(REPO, OLD)
    lost = iter([Fault(lost=True)])
    hub.before = lambda asked: next(lost, None) if asked.kind == "commit" else None
    status, said = publish(folder, "--delete", "old/*", "--delete-confirmed", "2")
    assert status == 0, said
    assert len(hub.of_kind("commit")) == 2
    assert "old/notes.txt" not in there(hub)
