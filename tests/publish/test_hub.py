"""Uploads to a Hub on this machine: what arrives, what is sent again, what goes wrong, and that it is one commit."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from publish import hub as module
from publish.hub import (
    NEW,
    REPLACES,
    UNCHANGED,
    Change,
    LocalFile,
    Remote,
    check_visibility,
    compare,
    look,
    read_small,
    upload,
    verify,
)
from quantize.errors import InputError

from ..hub_server import Asked, Fault, Hub, environment, read, serve, use

TOKEN, REPO = "hf_SecretSecretSecret", "alice/mimo-gguf"
CARD = b"---\nlicense: mit\n---\n# A model\n"
ASR, SPEECH = "asr-q8_0.gguf", "tokenizer-q8_0.gguf"


def local_file(path: Path) -> LocalFile:
    data = path.read_bytes()
    return LocalFile(path.name, path, len(data), hashlib.sha256(data).hexdigest())


def write_gguf(path: Path, seed: int, n: int) -> None:
    """A file of n kB and a little more, by the library of others."""
    writer = gguf.GGUFWriter(path, "test")
    writer.add_description(f"seed {seed}")
    writer.add_tensor("weights", np.random.default_rng(seed).normal(size=(n, 256)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is to be published."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_gguf(folder / ASR, 1, 300)
    write_gguf(folder / SPEECH, 2, 100)
    (folder / "README.md").write_bytes(CARD)
    (folder / "SHA256SUMS").write_text("sums\n")
    return folder


@pytest.fixture
def files(folder: Path) -> list[LocalFile]:
    return [local_file(folder / name) for name in (ASR, SPEECH, "README.md", "SHA256SUMS")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(tokens={TOKEN: ["alice", "alice-labs"], "hf_Other": ["bob"]}) as running:
        use(running, tmp_path / "home", monkeypatch, TOKEN)
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited, here or in the Hub's library."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def publish(files: list[LocalFile], repo: str = REPO, *, private: bool = False) -> tuple[str, list[str]]:
    """All steps; the commit, and what was told."""
    told: list[str] = []
    remote = look(repo)
    made = upload(remote, compare(remote, files), "Q8_0 files", private, told.append)
    assert verify(repo, made, files) == []
    return made, told


def failure(do: Callable[[], object]) -> str:
    """The one line of what goes wrong."""
    with pytest.raises(InputError) as caught:
        do()
    line = str(caught.value)
    assert "\n" not in line
    assert TOKEN not in line
    return line


def messages(hub: Hub, repo: str = REPO) -> list[str]:
    return [snapshot.message for snapshot in hub.written[repo].commits] if repo in hub.written else []


def contents(hub: Hub, repo: str = REPO) -> dict[str, bytes]:
    found = {name: read(file) for name, file in hub.written[repo].commits[-1].files.items()}
    del found[".gitattributes"]
    return found


def once(wrong: Fault, *kinds: str) -> Callable[[Asked], Fault | None]:
    """The first request of each kind goes wrong."""
    left = set(kinds)

    def before(asked: Asked) -> Fault | None:
        if asked.kind not in left:
            return None
        left.remove(asked.kind)
        return wrong

    return before


def always(wrong: Fault, kind: str) -> Callable[[Asked], Fault | None]:
    return lambda asked: wrong if asked.kind == kind else None


# What arrives.


@pytest.mark.parametrize("part_size", [1 << 30, 100_000])
@pytest.mark.parametrize("private", [False, True])
def test_a_new_repository_holds_the_files_after_one_commit(
    hub: Hub, files: list[LocalFile], part_size: int, private: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.part_size = part_size
    remote = look(REPO)
    assert (remote.exists, remote.private, remote.head, read_small(remote, "README.md")) == (False, False, "", None)
    assert [change.kind for change in compare(remote, files)] == [NEW] * 4
    made, told = publish(files, private=private)
    assert messages(hub) == ["initial commit", "Q8_0 files"]
    assert hub.written[REPO].commits[-1].commit == made
    assert contents(hub) == {file.name: file.path.read_bytes() for file in files}
    assert hub.written[REPO].private == private
    assert (len(hub.of_kind("put")), len(hub.of_kind("part"))) == ((2, 0) if part_size == 1 << 30 else (0, 4 + 2))
    assert told == [
        f"{REPO}: making the repository, {'private' if private else 'public'}",
        f"{REPO}: uploading {ASR}, 307.36 kB",
        f"{REPO}: uploading {SPEECH}, 102.56 kB",
        f"{REPO}: uploading README.md, 31 bytes",
        f"{REPO}: uploading SHA256SUMS, 5 bytes",
    ]
    assert capfd.readouterr() == ("", ""), "no bar where there is no terminal"


def test_what_is_there_already_is_not_sent(hub: Hub, files: list[LocalFile], folder: Path) -> None:
    first, _ = publish(files)
    hub.asked.clear()
    second, told = publish(files)
    assert second == first
    assert told == [f"{REPO}: all files are there already, nothing is uploaded"]
    assert not [asked for asked in hub.asked if asked.method != "GET"]

    (folder / "README.md").write_bytes(CARD + b"More.\n")
    write_gguf(folder / "new.gguf", 3, 10)
    files = [*files[:2], local_file(folder / "README.md"), files[3], local_file(folder / "new.gguf")]
    remote = look(REPO)
    assert [change.kind for change in compare(remote, files)] == [UNCHANGED, UNCHANGED, REPLACES, UNCHANGED, NEW]
    assert read_small(remote, "README.md") == CARD
    third, _ = publish(files)
    assert hub.written[REPO].commits[-1].parent == first
    assert [asked.file for asked in hub.of_kind("put")] == [files[-1].sha256]
    assert contents(hub) == {file.name: file.path.read_bytes() for file in files}
    assert third != first


def test_small_files_are_compared_by_what_git_calls_them(hub: Hub, tmp_path: Path) -> None:
    files = []
    for name, data in (("hello", b"hello\n"), ("empty", b""), ("same-size", b"HELLO\n")):
        (tmp_path / name).write_bytes(data)
        files.append(local_file(tmp_path / name))
    hub.put(REPO, {"hello": b"hello\n", "empty": b"", "same-size": b"hello\n"})
    remote = look(REPO)
    assert remote.files["hello"].etag == "ce013625030ba8dba906f756967f9e9ca394464a", "git hash-object says so"
    assert [change.kind for change in compare(remote, files)] == [UNCHANGED, UNCHANGED, REPLACES]


def test_an_organisations_repository_that_has_files_keeps_them(hub: Hub, files: list[LocalFile]) -> None:
    head = hub.put("alice-labs/x", {"config.json": b"{}"}, private=True)
    remote = look("alice-labs/x")
    assert (remote.exists, remote.private, remote.head) == (True, True, head)
    publish(files, "alice-labs/x")
    assert set(hub.written["alice-labs/x"].commits[-1].files) == {"config.json", *(file.name for file in files)}


# What the user can know beforehand.


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
    assert re.fullmatch(expected, failure(lambda: look(repo)))
    assert not hub.written


def test_a_token_that_only_reads_is_refused_at_once(hub: Hub) -> None:
    hub.role = "read"
    assert failure(lambda: look(REPO)).startswith(f"{REPO}: the token is for reading alone; make one")


def test_without_a_network_it_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.HfApi, "whoami", lambda api: {"name": "alice"})
    monkeypatch.setattr(hub, "before", lambda asked: Fault(lost=True))
    assert re.fullmatch(
        f"{REPO}: cannot be published to: the connection failed: .*; check the network, and run the command again",
        failure(lambda: look(REPO)),
    )


def test_what_is_to_be_private_does_not_go_to_a_public_repository(hub: Hub, files: list[LocalFile]) -> None:
    hub.put(REPO, {})
    remote = look(REPO)
    expected = f"{REPO}: --private was given, and the repository is public; make it private.*"
    assert re.fullmatch(expected, failure(lambda: check_visibility(remote, True)))
    assert re.fullmatch(expected, failure(lambda: upload(remote, compare(remote, files), "m", True, print)))
    assert not hub.of_kind("preupload")


# What goes wrong on the way.


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
    assert f"{REPO}: making the repository, public" in told
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
    remote = look(REPO)
    theirs = hub.put(REPO, {"README.md": b"theirs"})
    said = failure(lambda: upload(remote, compare(remote, files), "m", False, print))
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
    remote = look(REPO)
    hub.put(REPO, theirs)
    said = failure(lambda: upload(remote, compare(remote, files), "m", private, print))
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


# A file that is not what it was.


@pytest.mark.parametrize("small", [0, 10_000_000])
@pytest.mark.parametrize("change", ["same size", "longer", "gone"])
def test_a_file_that_changed_since_it_was_checked_is_not_published(
    hub: Hub, files: list[LocalFile], small: int, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", small)
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
    monkeypatch.setattr(module, "SMALL", 0)

    def before(asked: Asked) -> None:
        if asked.kind == "put" and asked.file == files[1].sha256:
            with files[1].path.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"?")

    hub.before = before
    assert failure(lambda: publish(files)) == (f"{files[1].path}: changed while it was uploaded; run the command again")
    assert messages(hub) == ["initial commit"]


# What arrived is what was sent.


def test_what_differs_in_the_listing_is_told(hub: Hub, files: list[LocalFile]) -> None:
    publish(files)
    asr, speech = (file.path.read_bytes() for file in files[:2])
    other = asr[:-1] + bytes([asr[-1] ^ 1])
    wrong = hub.put(REPO, {ASR: other, SPEECH: speech + b"?", "README.md": CARD.replace(b"A", b"B")})
    del hub.written[REPO].commits[-1].files["SHA256SUMS"]
    assert verify(REPO, wrong, files) == [
        f"{ASR}: has the SHA-256 {hashlib.sha256(other).hexdigest()} in {REPO}; expected {files[0].sha256}",
        f"{SPEECH}: has {files[1].size + 1} bytes in {REPO}; expected {files[1].size}",
        "README.md: byte 23 is 42 on the Hub; expected 41",
        f"SHA256SUMS: is not in {REPO} at {wrong[:7]}",
    ]


def test_what_differs_from_the_listing_is_told(hub: Hub, files: list[LocalFile]) -> None:
    made, _ = publish(files)
    header = next(int(a.range.partition("-")[2]) + 1 for a in hub.of_kind("resolve") if a.file == ASR)
    data = files[0].path.read_bytes()
    assert data.index(gguf_data(files[0].path)) == header < 1000, "all before the tensors' data, and none of that"

    hub.before = always(Fault(content=data[: header - 1] + b"?" + data[header:]), "resolve")
    assert verify(REPO, made, files[:1]) == [f"{ASR}: byte {header - 1} is 3f on the Hub; expected 00"]
    hub.before = always(Fault(content=data[: header - 1]), "resolve")
    assert verify(REPO, made, files[:1]) == [
        f"{REPO}/{ASR}: bytes 0 to {header} were asked for, {header - 1} came; expected {header}"
    ]
    hub.before = always(Fault(cut=100), "resolve")
    assert re.match(f"{REPO}/{ASR}: cannot be read: the connection failed: ", verify(REPO, made, files)[0])
    hub.before = once(Fault(cut=100), "resolve")
    assert verify(REPO, made, files) == []


def gguf_data(path: Path) -> bytes:
    """The data of the tensors, by the library of others."""
    [tensor] = gguf.GGUFReader(path).tensors
    return bytes(tensor.data.tobytes())


# An upload that was killed.

PUBLISH = """
import hashlib, sys
from pathlib import Path
import publish.hub as hub
hub.SMALL = 1000
files = [hub.LocalFile(p.name, p, p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest())
         for p in map(Path, sys.argv[2:])]
remote = hub.look(sys.argv[1])
made = hub.upload(remote, hub.compare(remote, files), "Q8_0 files", False, print)
print(hub.verify(sys.argv[1], made, files))
"""


@pytest.mark.parametrize("part_size", [1 << 30, 20_000_000])
def test_a_killed_upload_goes_on_with_the_files_that_were_not_complete(
    hub: Hub, files: list[LocalFile], tmp_path: Path, part_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # of the waits; this process asks for nothing
    hub.part_size = part_size
    big = tmp_path / "files" / "big.gguf"
    write_gguf(big, 4, 30_000)
    paths = [files[0].path, big, *(file.path for file in files[2:])]
    command = [sys.executable, "-c", PUBLISH, REPO, *map(str, paths)]
    env = environment(hub, tmp_path / "home", TOKEN)
    coming, go_on = threading.Event(), threading.Event()

    def before(asked: Asked) -> None:
        if asked.kind in ("put", "part") and asked.file == local_file(big).sha256 and not go_on.is_set():
            if asked.kind == "part" and len([a for a in hub.of_kind("part") if a.file == asked.file]) < 2:
                return
            coming.set()
            go_on.wait(20)

    hub.before = before
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert coming.wait(20)
    process.send_signal(signal.SIGKILL)
    said = "".join(process.communicate(timeout=20))
    go_on.set()
    assert messages(hub) == ["initial commit"]
    assert list(hub.store) == [files[0].sha256]

    hub.before = lambda asked: None
    hub.asked.clear()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[]\n")
    assert messages(hub) == ["initial commit", "Q8_0 files"]
    sent = [asked for asked in hub.asked if asked.kind in ("put", "part")]
    assert {asked.file for asked in sent} == {local_file(big).sha256}, "the first was complete"
    assert sum(asked.got for asked in sent) == big.stat().st_size
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in text for text in [*kept, (said + done.stdout).encode()])


def test_changes_without_a_repository_are_all_new(tmp_path: Path) -> None:
    file = LocalFile("a", tmp_path / "a", 3, "00")
    assert compare(Remote(REPO, None), [file]) == [Change(file, NEW)]
