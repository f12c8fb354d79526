"""What goes wrong before and during an upload is one line, and publishes nothing by halves."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from mimo_publish.destination import Destination
from mimo_publish.upload import commit
from mimo_publish.upload import remote as remote_module
from mimo_publish.upload.changes import LocalFile
from mimo_publish.upload.remote import check_visibility, look
from tests.hub_server import Asked, Fault, Hub

from .uploads import REPO, TOKEN, always, contents, failure, local_file, messages, once, publish, send

TO = Destination(REPO)


@pytest.mark.parametrize(
    ("repo", "token", "expected"),
    [
        (REPO, "", rf"{REPO}: cannot be published to: there is no token; log in with `hf auth login`, or set HF_TOKEN"),
        (REPO, "hf_Wrong", r".*: the Hub does not accept the token \(HTTP 401\); log in with `hf auth login`.*"),
        (REPO, "hf_Other", f"{REPO}: bob's token may not write under the name alice; expected bob"),
        ("bob/x", TOKEN, "bob/x: alice's token may not write under the name bob; expected alice or alice-labs"),
        ("mimo", TOKEN, "mimo: is not a repository's name; expected OWNER/NAME"),
        ("alice/a/b", TOKEN, "alice/a/b: is not a repository's name; expected OWNER/NAME"),
        ("alice/a b", TOKEN, "alice/a b: cannot be published to: .*; give OWNER/NAME"),
        ("alice/-x", TOKEN, "alice/-x: cannot be published to: .*; give OWNER/NAME"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, repo: str, token: str, expected: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert re.fullmatch(expected, failure(lambda: look(Destination(repo))))
    assert not hub.written


def test_a_token_that_only_reads_is_refused_at_once(hub: Hub) -> None:
    hub.role = "read"
    assert failure(lambda: look(TO)).startswith(f"{REPO}: the token is for reading alone; make one")


def test_without_a_network_it_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module.HfApi, "whoami", lambda api: {"name": "alice"})
    monkeypatch.setattr(hub, "before", lambda asked: Fault(lost=True))
    assert re.fullmatch(
        f"{REPO}: cannot be published to: the connection failed: .*; check the network, and run the command again",
        failure(lambda: look(TO)),
    )


def test_what_is_to_be_private_does_not_go_to_a_public_repository(hub: Hub, files: list[LocalFile]) -> None:
    hub.put(REPO, {})
    remote = look(TO)
    expected = f"{REPO}: --private was given, and the repository is public; make it private.*"
    assert re.fullmatch(expected, failure(lambda: check_visibility(remote, True)))
    assert re.fullmatch(expected, failure(lambda: send(remote, Destination(REPO, private=True), files)))
    assert not hub.of_kind("preupload")


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("create", 403, "the token does not permit it"),
        ("preupload", 401, "the Hub does not accept the token"),
        ("preupload", 404, "the Hub does not know it"),
        ("batch", 403, "the token does not permit it"),
        ("put", 413, "it is larger than the Hub accepts"),
        ("put", 422, "the Hub refuses"),
        ("put", 500, "the Hub has trouble of its own"),
        ("commit", 409, "the repository was changed meanwhile"),
        ("commit", 412, "the repository was changed meanwhile"),
        ("commit", 429, "the Hub is asked too often"),
        ("commit", 503, "the Hub has trouble of its own"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    hub: Hub, files: list[LocalFile], kind: str, status: int, expected: str
) -> None:
    hub.before = always(Fault(status=status), kind)
    said = failure(lambda: publish(files))
    assert said.startswith(f"{REPO}: cannot be published: {expected} (HTTP {status})")
    assert "/store/" not in said, "an address of the store gives access"
    assert messages(hub) == ([] if kind == "create" else ["initial commit"])
    assert len(hub.of_kind(kind)) == (4 if status in (429, 503) else 24 if status == 500 else 1)

    hub.before = lambda asked: None
    publish(files)
    assert messages(hub) == ["initial commit", "Q8_0 files"]


def test_a_busy_hub_is_waited_for_as_long_as_it_asks(hub: Hub, files: list[LocalFile], waits: list[float]) -> None:
    kinds = ["whoami", "create", "info", "tree", "preupload", "batch", "put", "commit", "resolve"]
    hub.before = once(Fault(status=429, headers={"Retry-After": "77"}), *kinds)
    _, told = publish(files)
    assert len(waits) == len(kinds)
    assert set(waits) <= {77, 78}, "the Hub's library adds a second"
    assert f"{REPO}: creating the repository, public" in told
    assert "the Hub is asked too often (HTTP 429); trying again in 77 s" in told
    assert messages(hub) == ["initial commit", "Q8_0 files"]


def test_nobody_waits_for_hours(hub: Hub, files: list[LocalFile], waits: list[float]) -> None:
    hub.before = always(Fault(status=429, headers={"Retry-After": "7200"}), "commit")
    assert "the Hub is asked too often" in failure(lambda: publish(files))
    assert waits == []


@pytest.mark.parametrize("kind", ["create", "preupload", "batch", "put", "part", "complete", "verify", "commit"])
@pytest.mark.parametrize("wrong", [Fault(cut=1), Fault(lost=True), Fault(status=502)], ids=["cut", "lost", "502"])
def test_after_a_hiccup_it_goes_on(hub: Hub, files: list[LocalFile], kind: str, wrong: Fault) -> None:
    hub.part_size = 200_000  # one file goes in parts
    hub.before = once(wrong, kind)
    publish(files)
    assert messages(hub) == ["initial commit", "Q8_0 files"], "one commit, also if its answer was lost"
    assert contents(hub) == {file.name: file.path.read_bytes() for file in files}


def test_a_connection_cut_in_mid_file_sends_that_part_again(hub: Hub, files: list[LocalFile]) -> None:
    hub.part_size = 100_000
    hub.before = lambda asked: Fault(cut=50_000) if len(hub.of_kind("part")) == 2 and asked.kind == "part" else None
    publish(files)
    sent = [asked.got for asked in hub.of_kind("part") if asked.file == files[0].sha256]
    assert sent[0] == sent[2] == sent[3] == 100_000
    assert 50_000 <= sent[1] < 100_000
    assert sent[4] == files[0].size - 300_000


def test_a_head_that_moved_is_not_written_over(hub: Hub, files: list[LocalFile]) -> None:
    hub.put(REPO, {"README.md": b"mine"})
    remote = look(TO)
    theirs = hub.put(REPO, {"README.md": b"theirs"})
    said = failure(lambda: send(remote, TO, files))
    assert said == (
        f"{REPO}: somebody else has committed to it ({theirs[:7]}), and nothing was published; run the command again, "
        "and it shows what would change now"
    )
    assert hub.written[REPO].commits[-1].files == {"README.md": b"theirs"}
    publish(files)
    assert len(hub.of_kind("put")) == 2, "what was uploaded is there"


@pytest.mark.parametrize(("theirs", "private"), [({"model.gguf": b"theirs"}, False), ({}, True)])
def test_a_repository_that_somebody_else_made_meanwhile_is_left_alone(
    hub: Hub, files: list[LocalFile], theirs: dict[str, bytes], private: bool
) -> None:
    remote = look(TO)
    hub.put(REPO, theirs)
    said = failure(lambda: send(remote, Destination(REPO, private=private), files))
    assert said.startswith(f"{REPO}: somebody else has made it meanwhile; run the command again")
    assert messages(hub) == ["by hand"]


def test_a_commit_in_the_moment_of_ours_is_not_taken_for_it(hub: Hub, files: list[LocalFile]) -> None:
    def before(asked: Asked) -> Fault | None:
        if asked.kind != "commit" or len(hub.of_kind("commit")) > 1:
            return None
        hub.put(REPO, {file.name: file.path.read_bytes() for file in files[1:]})
        return Fault(cut=1)

    hub.before = before
    assert "somebody else has committed" in failure(lambda: publish(files))
    assert messages(hub) == ["initial commit", "by hand"]


def test_metadata_that_the_hub_refuses_is_told(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    said = failure(lambda: publish([local_file(folder / "README.md")]))
    assert said.startswith(f"{REPO}: cannot be published: Invalid metadata in README.md. - YAML: ")
    assert messages(hub) == ["initial commit"]


@pytest.mark.parametrize("response", [b"[]", b'{"objects": []}', b'{"objects": {}}', b"{"])
def test_a_response_that_makes_no_sense_is_one_line(hub: Hub, files: list[LocalFile], response: bytes) -> None:
    hub.before = always(Fault(json=response), "batch")
    said = failure(lambda: publish(files))
    assert said.startswith(f"{REPO}: ")
    assert messages(hub) == ["initial commit"]


@pytest.mark.parametrize("small", [0, 10_000_000])
@pytest.mark.parametrize("change", ["same size", "longer", "gone"])
def test_a_file_that_changed_since_it_was_checked_is_not_published(
    hub: Hub, files: list[LocalFile], small: int, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "SMALL", small)
    path, size = files[1].path, files[1].size
    data = path.read_bytes()
    path.unlink() if change == "gone" else path.write_bytes(b"X" + data[change == "same size" :])
    said = failure(lambda: publish(files))
    if change == "gone":
        assert said == f"{path}: cannot be read: No such file or directory"
    else:
        found = f"{len(path.read_bytes())} bytes with SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        expected = f"{size} bytes with SHA-256 {files[1].sha256}"
        assert said == (
            f"{path}: has changed since it was checked: {found}; expected {expected}; run the command again"
        )
    assert messages(hub) == ["initial commit"]
    assert list(hub.store) == [files[0].sha256], "none of its bytes was sent"


def test_a_file_that_changes_while_it_is_uploaded_is_not_published(
    hub: Hub, files: list[LocalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "SMALL", 0)

    def before(asked: Asked) -> None:
        if asked.kind == "put" and asked.file == files[1].sha256:
            with files[1].path.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"?")

    hub.before = before
    assert failure(lambda: publish(files)) == (f"{files[1].path}: changed while it was uploaded; run the command again")
    assert messages(hub) == ["initial commit"]
