"""Files of the Hub arrive as they are listed, and are asked for once."""

import os
from pathlib import Path

import pytest

from mimo_nightly.history import WHOLE, FileRow
from tests.hub_server import Fault, Hub, commit, git_blob

from .fetching import MIB, NAME, OTHER, REPO, THIRD, TOKENIZER, Client, once, random_bytes, sha256


def test_files_arrive_as_they_are_listed_and_are_asked_for_once(client: Client, hub: Hub) -> None:
    head = hub.written[REPO].commits[-1].commit
    found = client.fetch(REPO, NAME, TOKENIZER)
    assert (found.commit, found.scope, list(found.paths)) == (head, WHOLE, [NAME, TOKENIZER])
    for seed, size, name, row in ((1, 4 * MIB, NAME, found.rows[0]), (2, MIB, TOKENIZER, found.rows[1])):
        digest = sha256(random_bytes(seed, size))
        assert sha256(found.paths[name].read_bytes()) == digest
        assert row == FileRow(name, digest, size, head, digest)
        assert found.paths[name].name == name
    assert client.asked() == [(NAME, "0-"), (TOKENIZER, "0-")]
    again = client.fetch(REPO, NAME, TOKENIZER)
    assert (again.paths, again.rows) == (found.paths, found.rows)
    assert client.asked() == []
    assert f"{REPO}/{NAME}: downloading 4.19 MB" in found.said


def test_a_commit_that_leaves_a_file_alone_does_not_fetch_it(client: Client, hub: Hub) -> None:
    first = client.fetch(REPO, NAME, TOKENIZER)
    client.asked()
    hub.put(REPO, {TOKENIZER: random_bytes(3, MIB)})
    second = client.fetch(REPO, NAME, TOKENIZER)
    assert client.asked() == [(TOKENIZER, "0-")]
    assert second.commit != first.commit
    assert [row.revision for row in second.rows] == [second.commit] * 2
    assert second.rows[1].sha256 == sha256(second.paths[TOKENIZER].read_bytes()) == sha256(random_bytes(3, MIB))
    assert client.contents() == [NAME, TOKENIZER]


@pytest.mark.parametrize("change", ["bytes", "size", "note"])
def test_a_file_that_was_changed_on_the_disk_is_fetched_again(client: Client, change: str) -> None:
    path = client.fetch().paths[NAME]
    client.asked()
    if change == "note":
        path.with_name(f"{NAME}.verified").write_text("{}")
    else:
        with path.open("r+b" if change == "bytes" else "ab") as file:
            file.write(b"x")
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert client.asked() == [(NAME, "0-")]


def test_a_cache_that_was_packed_and_unpacked_is_still_one(client: Client) -> None:
    """As GitLab does, in an archive of whole seconds."""
    client.fetch()
    client.asked()
    for path in client.cache.rglob("*"):
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))
    client.fetch()
    assert client.asked() == []


def test_what_another_repository_or_revision_has_already_brought_is_not_fetched(client: Client, hub: Hub) -> None:
    first = client.fetch()
    hub.put(OTHER, {NAME: random_bytes(1), TOKENIZER: random_bytes(2, MIB)})
    client.asked()
    assert client.fetch(REPO, revision=first.commit).paths == first.paths
    found = client.fetch(OTHER, NAME, TOKENIZER)
    assert found.paths[NAME] == first.paths[NAME]
    assert client.asked() == [(TOKENIZER, "0-")]


def test_a_revision_is_what_it_was(tmp_path: Path, client: Client, hub: Hub) -> None:
    for name in ("main", "v1"):
        (tmp_path / name / "quantized").mkdir(parents=True)
        (tmp_path / name / "quantized" / NAME).write_bytes(name.encode())
    hub.repos = {THIRD: {name: tmp_path / name for name in ("main", "v1")}}
    name = f"quantized/{NAME}"
    for revision in ("main", "v1"):
        found = client.fetch(THIRD, name, revision=revision)
        assert (found.commit, found.paths[name].read_text()) == (commit(revision), revision)
    assert client.contents() == [NAME, NAME]


def test_a_file_that_git_stores_is_held_against_its_git_hash(client: Client, hub: Hub) -> None:
    found = client.fetch(REPO, "README.md")
    text = b"# A model\n"
    assert found.rows == [FileRow("README.md", sha256(text), 10, found.commit, git_blob(text))]
    hub.put(REPO, {"README.md": b"# A mobel\n"})
    hub.before = once(Fault(content=text))
    assert f"{REPO}/README.md: has git hash {git_blob(text)}, the listing says " in client.refused(REPO, "README.md")
    assert client.contents() == []
