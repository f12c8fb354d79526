"""Listings and parts of files, from a Hub on this machine."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.sources.hub_listing import HubFile, entry_of, is_plain_path, list_repo, read_range
from quantize.errors import InputError
from tests.hub_server import Asked, Fault, Hub, commit, serve, use

REPO, TOKEN = "alice/mimo-gguf", "hf_SecretSecretSecret"
DATA = bytes(range(256)) * 10


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    folder = tmp_path / "theirs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.gguf").write_bytes(DATA)
    with serve({"bob/theirs": {"main": folder, "v1": folder}}, {TOKEN: ["alice"]}) as running:
        use(running, tmp_path / "home", monkeypatch, TOKEN)
        yield running


def failure(do: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        do()
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_a_listing_holds_every_file_of_every_page_and_folder(hub: Hub) -> None:
    hub.page_size = 2
    names = ["a.gguf", *(f"folder/{i}/config.json" for i in range(5)), "README.md"]
    head = hub.put(REPO, dict.fromkeys(names, b"hello\n"), private=True)
    listing = list_repo(REPO)
    assert (listing.repo, listing.commit, listing.private) == (REPO, head, True)
    assert list(listing.files) == names
    assert len(hub.of_kind("tree")) == 4
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # sha256sum
    assert listing.files["a.gguf"] == HubFile("a.gguf", 6, sha256, sha256)
    assert listing.files["README.md"] == HubFile("README.md", 6, "", "ce013625030ba8dba906f756967f9e9ca394464a")
    assert HfApi().file_exists(REPO, "folder/3/config.json"), "the library agrees"


def test_a_listing_is_that_of_one_commit(hub: Hub) -> None:
    first = hub.put(REPO, {"a": b"1"})
    second = hub.put(REPO, {"a": b"22"})
    assert [list_repo(REPO, one).files["a"].size for one in (first, second, "main")] == [1, 2, 2]
    assert (list_repo("bob/theirs", "v1").commit, list_repo("bob/theirs").commit) == (commit("v1"), commit("main"))
    later: list[str] = []

    def before(asked: Asked) -> None:
        if asked.kind == "tree" and not later:
            later.append(hub.put(REPO, {"a": b"333"}))

    hub.before = before
    listing = list_repo(REPO)
    assert (listing.commit, listing.files["a"].size) == (second, 2), "that was the head when it was asked for"


@pytest.mark.parametrize(
    ("repo", "revision", "expected"),
    [
        ("alice/none", "main", r"no such repository, or it is private and there is no token for it \(HTTP 40[14]\).*"),
        (REPO, "v7", r"there is no such revision \(HTTP 404\); check its name"),
        ("alice", "main", r".*\(HTTP 404\); check the name.*"),
        ("alice/a/b", "main", ".*; give OWNER/NAME"),
    ],
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_what_is_not_there_is_one_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, repo: str, revision: str, expected: str, token: str
) -> None:
    hub.put(REPO, {})
    monkeypatch.setenv("HF_TOKEN", token)
    assert re.fullmatch(f"{repo}@{revision}: cannot be listed: {expected}", failure(lambda: list_repo(repo, revision)))


def test_a_private_repository_is_only_its_owners(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(REPO, {}, private=True)
    assert list_repo(REPO).private
    monkeypatch.setenv("HF_TOKEN", "")
    assert "no such repository, or it is private and there is no token for it" in failure(lambda: list_repo(REPO))


def test_without_a_network_it_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert re.fullmatch(
        f"{REPO}@main: cannot be listed: the connection failed: .*refused.*; check the network, and run.*again",
        failure(lambda: list_repo(REPO)),
    )


def test_a_part_of_a_file_is_all_that_is_sent(hub: Hub) -> None:
    assert read_range("bob/theirs", commit("v1"), "sub/x.gguf", 100, 300) == DATA[100:300]
    assert [asked.range for asked in hub.of_kind("resolve")] == ["bytes=100-299"]
    assert read_range("bob/theirs", commit("v1"), "sub/x.gguf", 0, len(DATA)) == DATA
    assert read_range("bob/theirs", commit("v1"), "sub/x.gguf", 5, 5) == b""


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (Fault(status=200), "the Hub sends the whole file where a part was asked for; try again later"),
        (Fault(cut=100), "cannot be read: the connection failed: .*; check the network, and run the command again"),
        (Fault(lost=True), "cannot be read: the connection failed: .*; check the network, and run the command again"),
        (Fault(status=403), r"cannot be read: the token does not permit it \(HTTP 403\); .*"),
        (Fault(status=429), r"cannot be read: the Hub is asked too often \(HTTP 429\); .*"),
        (Fault(status=500), r"cannot be read: the Hub has trouble of its own \(HTTP 500\); .*"),
        (Fault(content=DATA[:150]), "bytes 100 to 300 were asked for, 50 came; expected 200"),
        (Fault(content=DATA[:50]), r"cannot be read: it is shorter than what was asked for \(HTTP 416\)"),
    ],
)
def test_anything_but_the_part_is_an_error(hub: Hub, wrong: Fault, expected: str) -> None:
    hub.before = lambda asked: wrong
    said = failure(lambda: read_range("bob/theirs", commit("v1"), "sub/x.gguf", 100, 300))
    assert re.fullmatch(f"bob/theirs/sub/x.gguf: {expected}", said)


def test_a_hiccup_is_no_error(hub: Hub) -> None:
    wrong = [Fault(cut=100), Fault(status=429, headers={"Retry-After": "1"}), Fault(lost=True)]
    hub.before = lambda asked: wrong.pop() if wrong else None
    assert read_range("bob/theirs", commit("v1"), "sub/x.gguf", 100, 300) == DATA[100:300]
    assert wrong == []


ENTRY = {"type": "file", "path": "a.gguf", "size": 6, "oid": "0" * 40, "lfs": {"oid": "0" * 64, "size": 6}}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)
    | st.dictionaries(st.sampled_from(["path", "oid", "size", "type", "lfs"]), x, max_size=3),
)  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [b"", b"<html>", b"null", b"7", b'{"error": "x"}', b"[" * 100_000, b"[1]", b"[null]", b"[[]]", b'"' + b"x" * 10**6],
    ids=["empty", "html", "null", "number", "object", "deep", "numbers", "nulls", "lists", "cut"],
)
@pytest.mark.parametrize("kind", ["info", "tree"])
def test_an_answer_that_makes_no_sense_is_one_line(hub: Hub, kind: str, page: bytes) -> None:
    hub.put(REPO, {"a.gguf": b"hello\n"})
    hub.before = lambda asked: Fault(json=page) if asked.kind == kind else None
    said = failure(lambda: list_repo(REPO))
    assert said.startswith(f"{REPO}@main")
    assert "the Hub's response" in said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", None), ("size", "6"), ("size", -1), ("size", True), ("size", 1 << 60), ("size", 1.5), ("oid", None),
     ("oid", "../../x"), ("oid", 7), ("lfs", 7), ("lfs", []), ("lfs", {}), ("lfs", {"oid": "../x"}), ("path", None),
     ("path", 7), ("path", "/etc/x.gguf"), ("path", "../x.gguf"), ("path", "a/../x.gguf"), ("path", "a//x.gguf"),
     ("path", "."), ("path", ""), ("path", "a\x1b[2J"), ("path", "a\0"), ("path", "a\ud800"), ("type", 7)],
)  # fmt: skip
def test_an_entry_of_the_wrong_type_is_one_line(hub: Hub, key: str, value: object) -> None:
    hub.put(REPO, {"a.gguf": b"hello\n"})
    page = json.dumps([{**ENTRY, key: value}]).encode()
    hub.before = lambda asked: Fault(json=page) if asked.kind == "tree" else None
    said = failure(lambda: list_repo(REPO))
    assert re.match(
        rf"{REPO}@main: the Hub's response( on a\.gguf)?: (lfs|oid|{key}) is .*; expected |.* has no oid", said
    )
    assert said.isprintable()


@given(st.sampled_from(sorted(ENTRY)), ANYTHING)
def test_an_entry_with_anything_in_it_is_a_file_or_one_line(key: str, value: object) -> None:
    try:
        entry = json.loads(json.dumps({**ENTRY, key: value}))
    except ValueError:
        return
    try:
        file = entry_of("x", entry)
    except InputError:
        pass
    else:
        assert file is None or (file.size >= 0 and is_plain_path(file.name))


def test_a_listing_goes_on_at_the_hub_alone(hub: Hub) -> None:
    """Another server would be sent the token."""
    hub.put(REPO, {"a": b"1", "b": b"2"})
    hub.page_size, there = 1, hub.url
    hub.before = lambda asked: setattr(hub, "url", "http://127.0.0.1:9" if asked.kind == "tree" else there)
    assert "the Hub's response continues at 'http://127.0.0.1:9" in failure(lambda: list_repo(REPO))


def test_a_file_that_is_not_there_is_one_line(hub: Hub) -> None:
    said = failure(lambda: read_range("bob/theirs", commit("v1"), "y.gguf", 0, 1))
    assert said == (
        "bob/theirs/y.gguf: cannot be read: there is no such file in the repository (HTTP 404); check its name"
    )
