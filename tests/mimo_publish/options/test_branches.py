"""Where a commit goes: a branch, a pull request, with a message, a tag, and into a collection."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from mimo_commands.publish import main as mimo_publish
from tests.hub_server import Collection, Fault, Hub, read

from ..publishing import BESIDE, GGUFS, LM, REPO, TOKENIZER, offered, publish, there

ALL = sorted([".gitattributes", *GGUFS, *BESIDE])
OWN, OTHER = f"alice/tiny-{'0' * 23}1", f"bob/tiny-{'0' * 23}2"


def files_at(hub: Hub, revision: str, repo: str = REPO) -> list[str]:
    snapshot = hub.snapshot(repo, revision)
    assert snapshot
    return sorted(snapshot.files)


def is_sent(hub: Hub) -> bool:
    return bool({"preupload", "put", "commit", "create", "branch", "tag", "item"} & {asked.kind for asked in hub.asked})


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_new", [True, False], ids=["new repository", "old repository"])
def test_a_branch_that_is_missing_is_made_from_main_and_main_stays(hub: Hub, folder: Path, is_new: bool) -> None:
    if not is_new:
        hub.put(REPO, {"config.json": b"{}", ".gitattributes": b""})
    status, said = publish(folder, "--revision", "next/q4")
    assert status == 0, said
    others = [] if is_new else ["config.json"]
    assert files_at(hub, "main") == sorted([".gitattributes", *others])
    assert files_at(hub, "next/q4") == sorted([*ALL, *others])
    assert f"{REPO}@next/q4  public, new{'' if is_new else ' branch'}" in said
    [first, made] = hub.written[REPO].branches["next/q4"]
    assert made.parent == first.commit == hub.written[REPO].commits[-1].commit
    assert said.splitlines()[-1] == f"{hub.url}/{REPO}/tree/{made.commit}"

    before = len(hub.asked)
    assert publish(folder, "--revision", "next/q4")[0] == 0
    assert not [asked for asked in hub.asked[before:] if asked.method != "GET"], "it is there now"


def test_a_branch_is_made_also_of_files_that_main_has(hub: Hub, folder: Path) -> None:
    assert publish(folder)[0] == 0
    status, said = publish(folder, "--revision", "v1-files", "--tag", "v1", yes=False)
    assert status == 2
    assert "--yes: there is no terminal to ask at" in said
    assert publish(folder, "--revision", "v1-files", "--tag", "v1")[0] == 0
    written = hub.written[REPO]
    assert written.branches["v1-files"] == written.branches["main"][-1:]
    assert written.tags == {"v1": written.commits[-1].commit}


def test_no_branch_is_left_where_nothing_was_published(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"config.json": b"{}"})
    hub.before = lambda asked: 403 if asked.kind == "put" else None
    assert publish(folder, "--revision", "next")[0] == 2
    assert list(hub.written[REPO].branches) == ["main"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--revision", "v1"], f"{REPO}@v1: is a tag, which takes no further commits; expected the name of a branch"),
        (["--revision", "0" * 40], "is a commit, which takes no further commits"),
        (
            ["--revision", "refs/pr/7"],
            "there is no such pull request; expected the name of a branch, or refs/pr/",
        ),
        (["--revision", "a..b"], "--revision: 'a..b'; expected a name that git takes, such as v1.0"),
        (["--revision", ""], "--revision: ''; expected"),
        (["--tag", "a b"], "--tag: 'a b'; expected"),
        (["--tag", "v1"], f"{REPO}@v1: there is such a tag, of "),
        (["--tag", "main"], f"{REPO}@main: is a branch; give another --tag"),
        (["--tag", "v2", "--create-pr"], "--tag: the commit of a pull request is in no branch yet; make the tag once"),
        (
            ["--create-pr", "--revision", "next"],
            "there is no such branch to open a pull request against; expected one",
        ),
        (["--create-pr", "--to", "alice/new"], "alice/new: there is no such repository; check the name, or publish"),
        (["--commit-message", " "], "--commit-message: is empty"),
        (["--collection", "Tinny"], "--collection: there is no collection 'Tinny' of alice; did you mean 'Tiny'?"),
        (["--collection", "Two"], "--collection: 'Two' is the title of several; expected a slug: alice/two-"),
        (["--collection", f"bob/x-{'0' * 24}"], "cannot be found: the Hub does not know it (HTTP 404); check the name"),
        (["--delete-confirmed", "1"], "--delete-confirmed: requires --delete, which was not given"),
        (["--delete", ""], "--delete: is empty"),
    ],
)
def test_what_cannot_be_done_is_known_before_anything_is_sent(
    hub: Hub, folder: Path, options: list[str], says: str
) -> None:
    hub.written[REPO].tags["v1"] = "1" * 40 if hub.put(REPO, {"config.json": b"{}"}) else ""
    hub.collections[OWN] = Collection("Tiny")
    hub.collections |= {f"alice/two-{n:024x}": Collection("Two") for n in range(2)}
    hub.page_size = 1
    status, said = publish(folder, *options)
    assert status == 2
    assert says in said
    assert not is_sent(hub)
    assert not (folder / "README.md").exists()


# ── pull requests ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_a_pull_request_gets_the_commit_also_in_a_repository_of_others(hub: Hub, folder: Path, owner: str) -> None:
    repo = f"{owner}/Tiny-GGUF"
    hub.put(repo, {"config.json": b"{}", ".gitattributes": b""})
    status, said = publish(folder, "--to", repo, "--create-pr", "--commit-message", "Q4_K and Q8_0\n\nOf tiny.")
    assert status == 0, said
    assert files_at(hub, "main", repo) == [".gitattributes", "config.json"]
    assert files_at(hub, "refs/pr/1", repo) == sorted([*ALL, "config.json"])
    assert hub.written[repo].branches["refs/pr/1"][-1].message == "Q4_K and Q8_0\n\nOf tiny."
    assert f"{repo}  public, as a pull request" in said
    assert said.splitlines()[-1] == f"{hub.url}/{repo}/discussions/1"


def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"config.json": b"{}"})
    lost = iter([Fault(lost=True)])
    hub.before = lambda asked: next(lost, None) if asked.kind == "commit" else None
    status, said = publish(folder, "--create-pr")
    assert status == 0, said
    assert hub.written[REPO].pull_requests == ["refs/pr/1"]
    assert said.splitlines()[-1] == f"{hub.url}/{REPO}/discussions/1"


def test_what_is_left_to_do_of_a_pull_request_is_done_in_the_same(hub: Hub, folder: Path) -> None:
    hub.put(REPO, {"config.json": b"{}"})
    hub.before = lambda asked: 403 if asked.kind == "tree" and hub.of_kind("commit") else None
    status, said = publish(folder, "--create-pr")
    assert status == 2
    assert "the files are published, but could not be verified" in said
    hub.before = lambda asked: None
    command = offered(said)
    assert command.endswith("--yes --revision refs/pr/1")
    result = CliRunner().invoke(mimo_publish, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert "all files are up to date" in result.output
    assert hub.written[REPO].pull_requests == ["refs/pr/1"]


# ── tags and collections ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_tag_names_the_new_commit_and_the_same_command_again_is_content(hub: Hub, folder: Path) -> None:
    status, said = publish(folder, "--tag", "v1.0")
    assert status == 0, said
    head = hub.written[REPO].commits[-1].commit
    assert hub.written[REPO].tags == {"v1.0": head}
    assert said.splitlines()[-1] == f"tagged v1.0: {hub.url}/{REPO}/tree/v1.0"
    assert publish(folder, "--tag", "v1.0")[0] == 0

    (folder / "mimo-asr-q8_0.gguf").unlink()
    status, said = publish(folder, "--tag", "v1.0")
    assert status == 2
    assert f"{REPO}@v1.0: there is such a tag, of {head[:7]}; give another --tag, or delete that one" in said
    assert hub.written[REPO].commits[-1].commit == head, "also if it names the head, and the head would change"


def test_a_tag_whose_answer_is_lost_is_there(hub: Hub, folder: Path) -> None:
    lost = iter([Fault(lost=True)])
    hub.before = lambda asked: next(lost, None) if asked.kind == "tag" else None
    assert publish(folder, "--tag", "v1")[0] == 0
    assert hub.written[REPO].tags == {"v1": hub.written[REPO].commits[-1].commit}


def test_what_arrived_otherwise_gets_no_tag(hub: Hub, folder: Path) -> None:
    hub.before = lambda asked: (
        Fault(content=b"GGUF" * 9999) if asked.file == GGUFS[0] and asked.method == "GET" else None
    )
    assert publish(folder, "--tag", "v1")[0] == 1
    assert hub.written[REPO].tags == {}


@pytest.mark.parametrize("name", [OWN, "tiny", "https"])
def test_the_repository_is_added_to_a_collection(hub: Hub, folder: Path, name: str) -> None:
    hub.collections = {OWN: Collection("Tiny", ["someone/else"]), OTHER: Collection("Tiny")}
    status, said = publish(folder, "--collection", f"{hub.url}/collections/{OWN}" if name == "https" else name)
    assert status == 0, said
    assert hub.collections[OWN].items == ["someone/else", REPO]
    assert said.splitlines()[-1] == f"in the collection: {hub.url}/collections/{OWN}"
    assert publish(folder, "--collection", OWN)[0] == 0, "it is there already"
    assert len(hub.collections[OWN].items) == 2


@pytest.mark.parametrize(("kind", "what"), [("tag", "not tagged"), ("item", "not in the collection")])
def test_what_fails_after_the_commit_is_told_and_done_by_the_offered_command(
    hub: Hub, folder: Path, kind: str, what: str
) -> None:
    hub.collections[OWN] = Collection("Tiny")
    hub.before = lambda asked: 403 if asked.kind == kind else None
    status, said = publish(folder, "--tag", "v1", "--collection", "Tiny")
    commit = hub.written[REPO].commits[-1].commit
    assert status == 2
    assert sorted(there(hub)) == sorted(GGUFS + BESIDE)
    assert f"{hub.url}/{REPO}/tree/{commit}" in said, "what is published is said first"
    assert f"error: {REPO}@{commit[:7]}: the files are published, but {what}: " in said
    assert "; run the command again, and it " in said

    hub.before = lambda asked: None
    result = CliRunner().invoke(mimo_publish, offered(said).split()[1:])
    assert result.exit_code == 0, result.output
    assert hub.written[REPO].tags == {"v1": commit}
    assert hub.collections[OWN].items == [REPO]
    assert len(hub.written[REPO].commits) == 2


def test_mimo_convert_takes_them_too(hub: Hub, tmp_path: Path) -> None:
    hub.collections[OWN] = Collection("Tiny")
    bases = ["--base-model", LM, "--tokenizer-base-model", TOKENIZER]
    where = ["--publish", REPO, "--yes", "--revision", "next", "--tag", "v1", "--collection", "Tiny"]
    arguments = ["tiny", "--outtype", "q4_k", "--out", str(tmp_path / "out"), *bases, *where]
    result = CliRunner().invoke(mimo_convert, [*arguments, "--commit-message", "Tiny"])
    assert result.exit_code == 0, result.output
    made = hub.written[REPO].branches["next"][-1]
    assert (made.message, hub.written[REPO].tags, hub.collections[OWN].items) == ("Tiny", {"v1": made.commit}, [REPO])
    assert read(made.files[GGUFS[0]]) == (tmp_path / "out" / GGUFS[0]).read_bytes()
