"""From a folder, or a checkpoint, to a repository on a Hub of this machine, and what is not let through."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard

from mimo_convert.cli import main as mimo_convert
from publish.card import BEGIN, END, TEMPLATE
from publish.cli import main as mimo_publish
from publish.publish import Destination, may_be_published, without_folders
from runtime_check import bundled

from .. import reports
from ..hub_server import Asked, Fault, Hub, environment, read, serve, use

TOKEN, REPO = "hf_SecretSecretSecret", "alice/Tiny-GGUF"
LM, TOKENIZER = "Some/Tiny", "Some/Tiny-Tokenizer"
GGUFS = ["mimo-asr-q4_k.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-q4_k.gguf"]
PLOTS = ["layers-mimo-asr-q4_k.svg", "layers-mimo-asr-q8_0.svg"]
BESIDE = ["README.md", *PLOTS, "SHA256SUMS", "mimo-check.json"]
OWN = "## My own words\r\n\r\n{{ not a template }} — and | a bar\n"


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two types of tiny with their report, as a publisher has them. Shared: copy it before changing anything."""
    folder = tmp_path_factory.mktemp("checked") / "files"
    bases = ["--base-model", LM, "--tokenizer-base-model", TOKENIZER]
    arguments = ["tiny", "--fuse-qkv", "--outtype", "q4_k", "--outtype", "q8_0", "--out", str(folder), *bases]
    result = CliRunner().invoke(mimo_convert, [*arguments, "--json", str(folder.parent / "report.json")])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(checked: Path, tmp_path: Path) -> Path:
    shutil.copytree(checked, tmp_path / "files")
    shutil.copy(checked.parent / "report.json", tmp_path / "report.json")
    return tmp_path / "files"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    checkpoints = {LM: {"main": bundled.TINY_ASR}, TOKENIZER: {"main": bundled.TINY_TOKENIZER}}
    with serve(checkpoints, tokens={TOKEN: ["alice"]}) as running:
        use(running, tmp_path / "home", monkeypatch, TOKEN)
        yield running


def publish(folder: Path, *options: str, yes: bool = True) -> tuple[int, str]:
    """mimo-publish with the report beside the folder: exit status, and all that was said."""
    arguments = [str(folder), "--to", REPO, "--report", str(folder.parent / "report.json"), *options]
    result = CliRunner().invoke(mimo_publish, [*arguments, "--yes"] if yes else arguments)
    assert TOKEN not in result.output
    return result.exit_code, result.output


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.parent / "report.json").read_text())
    return found


def change_report(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    report = report_of(folder)
    change(report)
    (folder.parent / "report.json").write_text(json.dumps(report))


def there(hub: Hub) -> dict[str, bytes]:
    """What the repository holds now; empty if there is none."""
    if REPO not in hub.written:
        return {}
    files = {name: read(file) for name, file in hub.written[REPO].commits[-1].files.items()}
    files.pop(".gitattributes", None)
    return files


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
        "8 files are there, size and hash, and their headers byte for byte.",
        f"https://huggingface.co/{REPO}/tree/{hub.written[REPO].commits[-1].commit}",
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
        assert str(bundled.DATA) not in text
        assert TOKEN not in text


def test_of_paths_the_names_stay_and_nothing_else_is_cut() -> None:
    def report(models: str, sounds: str) -> Any:
        text = json.dumps(reports.published_report() | {"note": "read /models/x; see https://x.org/models/x"})
        return json.loads(text.replace('"/models/', f'"{models}').replace('"/sounds/', f'"{sounds}'))

    clean = report("", "")
    for models, sounds in (("o/", "MiMo/"), ("someone/", "../"), ("./", "a/b/c/")):
        assert without_folders(report(models, sounds)) == clean, "XiaomiMiMo/MiMo-V2.5-ASR ends so, too"
    note = "read x; see https://x.org/models/x"
    assert without_folders(report("/models/", "/sounds/")) == clean | {"note": note}


def test_the_same_again_changes_nothing_and_uploads_nothing(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    before, commits = there(hub), len(hub.written[REPO].commits)
    status, said = publish(folder)
    assert (status, len(hub.written[REPO].commits), there(hub)) == (0, commits, before)
    assert f"{REPO}: all files are there already, nothing is uploaded" in said
    assert said.count("unchanged") == len(GGUFS + BESIDE)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fail(report: dict[str, Any]) -> None:
    """The report of a run in which a layer of the Q4_K file went wrong."""
    check = report["checks"][0]
    stage = next(stage for stage in check["stages"] if stage["name"] == "layer_01")
    stage |= {"cos_mean": 0.5, "passed": False}
    check |= {"passed": False, "reasons": ["layer_01: cos_mean 0.500000 is below 0.929000 by 0.429000"]}
    report["passed"] = False


def test_a_file_that_failed_is_not_published(hub: Hub, folder: Path) -> None:
    change_report(folder, fail)
    status, said = publish(folder)
    assert status == 1
    assert "nothing is published: mimo-asr-q4_k.gguf on jfk.wav failed; --even-if-failed" in said
    assert there(hub) == {}
    assert sorted(path.name for path in folder.iterdir()) == GGUFS, "and no card says otherwise"


def test_a_file_that_failed_before_it_was_run_failed() -> None:
    told: list[str] = []
    assert not may_be_published(reports.failed_report() | {"checks": []}, Destination(REPO), told.append)
    assert told == ["nothing is published: mimo-asr-q4_k.gguf failed; --even-if-failed would, and say so"]


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
        (lambda report: report.update(schema="x"), "has the schema 'x'; expected 'mimo-check report 1'"),
        (lambda report: report["checks"][0].pop("audio_tokenizer"), "is not as a report should be"),
        (lambda report: report.pop("versions"), "is not as a report should be"),
        (lambda report: report["checks"][0]["timings"].update(load_s="long"), "is not as a report should be"),
        (lambda report: report["memory"].update(peak_rss=float("nan")), "is not as a report should be"),
        (lambda report: report["checks"][0]["speech_lm"].update(file="other.gguf"), "is about other.gguf, too"),
        (
            lambda report: report["checks"][1]["audio_tokenizer"].update(bytes=1),
            "stands in the report with two contents",
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
    assert "FAIL: not all that is on the Hub was found to be what was checked" in said


def test_a_publication_that_was_cut_off_goes_on_by_the_command_that_it_says(hub: Hub, folder: Path) -> None:
    hub.before = lambda asked: Fault(403) if asked.kind == "commit" else None
    status, said = publish(folder)
    assert status == 2
    command = f"mimo-publish {folder} --to {REPO} --report {folder}/mimo-check.json"
    told, error = said.splitlines()[-2:]
    assert told == f"the files were checked; this goes on from here: {command}"
    assert error.startswith(f"error: {REPO}: cannot be published: the token does not permit it (HTTP 403)")
    assert set(there(hub)) == set(), "nobody sees half of it"

    hub.before, sent = lambda asked: None, [asked.file for asked in hub.of_kind("put")]
    assert len(sent) == len(GGUFS)
    result = CliRunner().invoke(mimo_publish, [*command.split()[1:], "--yes"])
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
    told = "the files were checked; this goes on from here: "
    [line] = [line.removeprefix(told) for line in said.splitlines() if line.startswith(told)]
    assert line.split()[-len(options) :] == options
    hub.before = lambda asked: None
    result = CliRunner().invoke(mimo_publish, [*line.split()[1:], "--yes"])
    assert result.exit_code == 0, result.output
    assert hub.written[REPO].private


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
    assert "README.md: your own text is another one than on the Hub, and replaces it" in said
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


def test_a_dry_run_writes_the_card_and_asks_nobody(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, "--dry-run", yes=False)
    assert status == 0, said
    assert hub.asked == []
    assert sorted(path.name for path in folder.iterdir()) == sorted(GGUFS + BESIDE)
    assert [line.split()[0] for line in said.splitlines() if line.startswith("  ")] == GGUFS + BESIDE


def test_without_a_terminal_nothing_is_uploaded_unasked(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, yes=False)
    assert status == 2
    assert "--yes: there is no terminal to ask at" in said
    assert there(hub) == {}


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 130), ("", 130), ("\4", 130)])
def test_at_a_terminal_the_publisher_is_asked(hub: Hub, folder: Path, tmp_path: Path, answer: str, status: int) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "publish.cli", str(folder), "--to", REPO, "--private"]
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


@pytest.mark.parametrize(("missing", "says"), [(True, "is no folder"), (False, "holds no GGUF files")])
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


# ── with the check ───────────────────────────────────────────────────────────────────────────────────────────────


def run(hub: Hub, home: Path, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=environment(hub, home, TOKEN), cwd=home, capture_output=True, text=True)


def test_one_command_goes_from_a_checkpoint_on_the_hub_to_published_files(hub: Hub, tmp_path: Path) -> None:
    """Converted, compared with PyTorch, published; and what a file says of itself is enough to check it again."""
    arguments = [LM, "--tokenizer", TOKENIZER, "--outtype", "q8_0", "--out", "out", "--publish", REPO, "--yes"]
    done = run(hub, tmp_path, "mimo_convert.cli", *arguments)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert sorted(there(hub)) == sorted([*GGUFS[1:2], "mimo-tokenizer-q8_0.gguf", PLOTS[1], *set(BESIDE) - set(PLOTS)])

    again = run(hub, tmp_path, "publish.cli", "out", "--to", REPO, "--yes")
    assert again.returncode == 0, again.stderr
    assert "pytorch" in again.stdout.lower() or "PASS" in again.stdout
    kinds = {line.split()[0]: line.split()[3] for line in again.stdout.splitlines() if line.startswith("  m")}
    assert kinds["mimo-asr-q8_0.gguf"] == "unchanged"


@pytest.mark.parametrize("option", [["--private"], ["--yes"], ["--even-if-failed"], ["--card-template", "x.j2"]])
def test_how_to_publish_is_nothing_without_where(tmp_path: Path, option: list[str]) -> None:
    result = CliRunner().invoke(mimo_convert, ["tiny", "--out", str(tmp_path / "out"), *option])
    assert result.exit_code == 2
    assert f"{option[0]}: is about --publish, which was not given" in result.output
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
