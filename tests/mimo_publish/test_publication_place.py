"""What is in the place already, what is known before the upload, and publishing with the check."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from mimo_commands.publish import main as mimo_publish
from mimo_publish.card import BEGIN, END
from tests.hub_server import Hub, environment

from .publishing import BESIDE, GGUFS, LM, PLOTS, REPO, TOKEN, TOKENIZER, publish, there

OWN = "## My own words\r\n\r\n{{ not a template }} — and | a bar\n"


# ── what stands there already ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["beside the files", "on the Hub"])
def test_the_publishers_own_paragraphs_stay_as_they_are(hub: Hub, folder: Path, place: str) -> None:
    assert publish(folder)[0] == 0
    card = there(hub)["README.md"].decode()
    edited = card.replace(f"{BEGIN}\n\n{END}", f"{BEGIN}\n{OWN}\n{END}")
    assert edited != card
    (folder / "README.md").unlink()
    if place == "on the Hub":
        hub.put(REPO, {"README.md": edited.encode()})
    else:
        (folder / "README.md").write_bytes(edited.encode())
    assert publish(folder)[0] == 0
    assert there(hub)["README.md"] == (folder / "README.md").read_bytes() == edited.encode()


def test_paragraphs_that_were_written_on_the_hub_stay_though_a_card_without_them_lies_here(
    hub: Hub, folder: Path
) -> None:
    assert publish(folder, "--dry-run")[0] == 0
    assert publish(folder)[0] == 0
    edited = there(hub)["README.md"].decode().replace(f"{BEGIN}\n\n{END}", f"{BEGIN}\n{OWN}\n{END}")
    hub.put(REPO, {"README.md": edited.encode()})
    assert publish(folder)[0] == 0
    assert there(hub)["README.md"] == (folder / "README.md").read_bytes() == edited.encode()

    (folder / "README.md").write_text(edited.replace("My own", "My other"), newline="")
    status, said = publish(folder)
    assert status == 0
    assert "README.md: your own text differs from the one on the Hub, and replaces it" in said
    assert "My other words" in there(hub)["README.md"].decode()


@pytest.mark.parametrize("place", ["beside the files", "on the Hub"])
def test_a_card_that_somebody_wrote_by_hand_is_not_replaced(hub: Hub, folder: Path, place: str) -> None:
    by_hand = b"---\nlicense: mit\n---\nMy model.\n"
    if place == "on the Hub":
        hub.put(REPO, {"README.md": by_hand})
    else:
        (folder / "README.md").write_bytes(by_hand)
    status, said = publish(folder)
    assert status == 2
    assert "README.md: was not written by mimo-publish, and would be replaced; put the lines" in said
    assert set(there(hub)) <= {"README.md"}
    long = CliRunner().invoke(mimo_publish, [str(folder), "--to", REPO, "--yes"])
    assert long.output == said, "before anything is checked"


def test_a_card_that_nobody_can_read_is_not_replaced(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff")
    status, said = publish(folder)
    assert (status, len(said.splitlines())) == (2, 1)
    assert f"{folder}/README.md: is not UTF-8" in said


def test_a_card_of_metadata_alone_as_the_hub_writes_it_is_replaced(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"README.md": b"---\nlicense: mit\n---\n"})
    assert publish(folder)[0] == 0
    assert BEGIN in there(hub)["README.md"].decode()


def test_files_that_the_card_will_not_mention_are_told(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"mimo-asr-q2_k.gguf": b"GGUF"})
    status, said = publish(folder)
    assert status == 0
    assert f"{REPO} also holds mimo-asr-q2_k.gguf, which the card will not mention" in said
    assert there(hub)["mimo-asr-q2_k.gguf"] == b"GGUF"


# ── before the upload ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_shows_the_card_writes_nothing_and_asks_nobody(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, "--dry-run", yes=False)
    assert status == 0, said
    assert hub.asked == []
    assert sorted(path.name for path in folder.iterdir()) == GGUFS
    listed = [line.split() for line in said.splitlines() if line.startswith("  ")]
    assert [words[0] for words in listed] == [*GGUFS, *BESIDE, "mimo-publish"]
    assert {words[3] for words in listed[:-1]} == {"unknown"}
    assert "base_model:" in publish(folder, "--dry-run", "-v", yes=False)[1]


def test_without_a_report_a_dry_run_says_what_would_be_checked(hub: Hub, folder: Path) -> None:
    result = CliRunner().invoke(mimo_publish, [str(folder), "--to", REPO, "--dry-run", "--reference", "tiny"])
    assert result.exit_code == 0, result.output
    beside = f"with {GGUFS[2]}, against tiny, on jfk.wav"
    first, second, third = result.stdout.splitlines()
    assert [first, second] == [f"would check {name} {beside}" for name in GGUFS[:2]]
    assert third.startswith("would publish 3 GGUF files, ")
    assert sorted(path.name for path in folder.iterdir()) == GGUFS
    assert hub.asked == []


def test_without_a_terminal_nothing_is_uploaded_unasked(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, yes=False)
    assert status == 2
    assert "--yes: there is no terminal to ask at" in said
    assert there(hub) == {}


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 130), ("", 130), ("\4", 130)])
def test_at_a_terminal_the_publisher_is_asked(hub: Hub, folder: Path, tmp_path: Path, answer: str, status: int) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mimo_commands.publish", str(folder), "--to", REPO, "--private"]
    command += ["--report", str(tmp_path / "report.json")]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, stdin=theirs, env=environment(hub, tmp_path / "home", TOKEN), **both)  # type: ignore[call-overload]
    os.write(ours, f"{answer}\n".encode())
    out, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "in one commit? [y/N]" in out
    assert f"{REPO}  private, new" in out
    assert (sorted(there(hub)) == sorted(GGUFS + BESIDE)) == (status == 0)
    assert ("nothing was uploaded" in said) == (status == 130)
    if status == 0:
        assert hub.written[REPO].private


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--card-template", "no.md.j2"], "no.md.j2: no such file; expected a Jinja2 template"),
        (["--to", "alice"], "alice: is not a repository's name; expected OWNER/NAME"),
        (["--to", "alice", "--dry-run"], "alice: is not a repository's name; expected OWNER/NAME"),
        (["--base-model", "x", "--dry-run"], "--base-model: 'x'; expected OWNER/NAME"),
        (["--to", "bob/x"], "alice's token may not write under the name bob"),
        (["--report", "no.json"], "no.json: no such file; expected what --json wrote"),
    ],
)
def test_what_could_not_be_published_is_known_before_long_work(
    hub: Hub, folder: Path, options: list[str], says: str
) -> None:
    status, said = publish(folder, *options)
    assert status == 2
    assert says in said


@pytest.mark.parametrize(("missing", "says"), [(True, "is not a folder"), (False, "holds no GGUF files")])
def test_a_folder_without_files_is_refused(tmp_path: Path, missing: bool, says: str) -> None:
    result = CliRunner().invoke(mimo_publish, [str(tmp_path / "x" if missing else tmp_path), "--to", REPO, "--dry-run"])
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize("name", ["a\nb.gguf", "a\\b.gguf", os.fsdecode(b"\xff.gguf")])
def test_a_name_that_a_list_of_checksums_cannot_hold_is_refused(hub: Hub, folder: Path, name: str) -> None:
    (folder / GGUFS[0]).rename(folder / name)
    status, said = publish(folder)
    assert status == 2
    assert f"{folder}: the name {name!r} cannot stand in SHA256SUMS, or on the Hub; give it another" in said


def test_without_its_audio_tokenizer_a_file_cannot_be_checked_and_no_option_is_named_that_there_is_not(
    hub: Hub, folder: Path
) -> None:
    (folder / GGUFS[2]).unlink()
    result = CliRunner().invoke(mimo_publish, [str(folder), "--to", REPO, "--reference", "tiny", "--dry-run"])
    assert result.exit_code == 2
    assert "audio tokenizer files beside it: none; expected one; call the one that belongs to it" in result.output


def test_a_base_model_that_nobody_said_is_known_before_anything_is_run(hub: Hub, tmp_path: Path) -> None:
    made = CliRunner().invoke(mimo_convert, ["tiny", "--no-check", "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    arguments = [str(tmp_path / "out"), "--to", REPO, "--reference", "tiny", "--dry-run"]
    result = CliRunner().invoke(mimo_publish, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    what = "no file says which model on the Hub it was made from, and the card must name it"
    line = f"error: mimo-asr-f16.gguf and mimo-tokenizer-f16.gguf: {what}; say it: --base-model OWNER/NAME\n"
    assert result.stderr == line
    options = ["--publish", REPO, "--dry-run", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(mimo_convert, ["tiny", *options])
    assert "--publish: the card must name the base model, and tiny does not tell; say it: --base-mod" in result.stderr


# ── with the check ───────────────────────────────────────────────────────────────────────────────────────────────


def run(hub: Hub, home: Path, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=environment(hub, home, TOKEN), cwd=home, capture_output=True, text=True)


def test_one_command_goes_from_a_checkpoint_on_the_hub_to_published_files(hub: Hub, tmp_path: Path) -> None:
    """Converted, compared with PyTorch, published; and what a file says of itself is enough to check it again."""
    arguments = [LM, "--tokenizer", TOKENIZER, "--outtype", "q8_0", "--out", "out", "--publish", REPO, "--yes"]
    done = run(hub, tmp_path, "mimo_commands.convert", *arguments)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert sorted(there(hub)) == sorted([*GGUFS[1:2], "mimo-tokenizer-q8_0.gguf", PLOTS[1], *set(BESIDE) - set(PLOTS)])

    again = run(hub, tmp_path, "mimo_commands.publish", "out", "--to", REPO, "--yes")
    assert again.returncode == 0, again.stderr
    assert "pytorch" in again.stdout.lower() or "PASS" in again.stdout
    kinds = {line.split()[0]: line.split()[3] for line in again.stdout.splitlines() if line.startswith("  m")}
    assert kinds["mimo-asr-q8_0.gguf"] == "unchanged"


@pytest.mark.parametrize(
    "option",
    [
        ["--private"],
        ["--even-if-failed"],
        ["--card-template", "x.j2"],
        ["--revision", "main"],
        ["--create-pr"],
        ["--commit-message", ""],
        ["--tag", "v1"],
        ["--collection", "x"],
        ["--delete", "*.bin"],
        ["--delete-confirmed", "1"],
    ],
)
def test_how_to_publish_is_nothing_without_where(tmp_path: Path, option: list[str]) -> None:
    result = CliRunner().invoke(mimo_convert, ["tiny", "--out", str(tmp_path / "out"), *option])
    assert result.exit_code == 2
    assert f"{option[0]}: requires --publish, which was not given" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--no-check", "--base-model", LM], "--publish: is for files that were checked; leave out --no-check"),
        ([], "--publish: the card must name the base model, and tiny does not tell; say it: --base-model"),
    ],
)
def test_mimo_convert_says_early_what_could_not_be_published(
    hub: Hub, tmp_path: Path, options: list[str], says: str
) -> None:
    arguments = ["tiny", "--out", str(tmp_path / "out"), "--publish", REPO, "--yes", *options]
    result = CliRunner().invoke(mimo_convert, arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert not (tmp_path / "out").exists()
