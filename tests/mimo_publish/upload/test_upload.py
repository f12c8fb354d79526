"""An upload arrives after one commit, is compared with what was sent, and resumes when it was killed."""

import hashlib
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import pytest

from mimo_publish.destination import Destination
from mimo_publish.upload.changes import NEW, REPLACES, UNCHANGED, Change, LocalFile, compare
from mimo_publish.upload.remote import Remote, look, read_small
from mimo_publish.upload.verify import verify
from tests.hub_server import Asked, Fault, Hub, environment

from .uploads import (
    ASR,
    CARD,
    REPO,
    SPEECH,
    TOKEN,
    always,
    contents,
    failure,
    local_file,
    messages,
    once,
    publish,
    write_gguf,
)


@pytest.mark.parametrize("part_size", [1 << 30, 100_000])
@pytest.mark.parametrize("private", [False, True])
def test_a_new_repository_holds_the_files_after_one_commit(
    hub: Hub, files: list[LocalFile], part_size: int, private: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.part_size = part_size
    remote = look(Destination(REPO))
    assert (remote.exists, remote.private, remote.head, read_small(remote, "README.md")) == (False, False, "", None)
    assert [change.kind for change in compare(remote, files)] == [NEW] * 4
    made, told = publish(files, private=private)
    assert messages(hub) == ["initial commit", "Q8_0 files"]
    assert hub.written[REPO].commits[-1].commit == made
    assert contents(hub) == {file.name: file.path.read_bytes() for file in files}
    assert hub.written[REPO].private == private
    assert (len(hub.of_kind("put")), len(hub.of_kind("part"))) == ((2, 0) if part_size == 1 << 30 else (0, 4 + 2))
    assert told == [
        f"{REPO}: creating the repository, {'private' if private else 'public'}",
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
    assert told == [f"{REPO}: all files are up to date, nothing is uploaded"]
    assert not [asked for asked in hub.asked if asked.method != "GET"]

    (folder / "README.md").write_bytes(CARD + b"More.\n")
    write_gguf(folder / "new.gguf", 3, 10)
    files = [*files[:2], local_file(folder / "README.md"), files[3], local_file(folder / "new.gguf")]
    remote = look(Destination(REPO))
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
    remote = look(Destination(REPO))
    assert remote.files["hello"].etag == "ce013625030ba8dba906f756967f9e9ca394464a", "git hash-object says so"
    assert [change.kind for change in compare(remote, files)] == [UNCHANGED, UNCHANGED, REPLACES]


def test_an_organisations_repository_that_has_files_keeps_them(hub: Hub, files: list[LocalFile]) -> None:
    head = hub.put("alice-labs/x", {"config.json": b"{}"}, private=True)
    remote = look(Destination("alice-labs/x"))
    assert (remote.exists, remote.private, remote.head) == (True, True, head)
    publish(files, "alice-labs/x")
    assert set(hub.written["alice-labs/x"].commits[-1].files) == {"config.json", *(file.name for file in files)}


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
    hub.before = once(Fault(cut=100), "resolve")
    assert verify(REPO, made, files) == []


@pytest.mark.parametrize("kind", ["tree", "resolve"])
@pytest.mark.parametrize("fault", [Fault(cut=100), Fault(status=500)], ids=["cut", "500"])
def test_what_cannot_be_read_back_is_bad_input_and_not_a_failed_gate(
    hub: Hub, files: list[LocalFile], kind: str, fault: Fault
) -> None:
    made, _ = publish(files)
    hub.before = always(fault, kind)
    line = failure(lambda: verify(REPO, made, files))
    assert re.fullmatch(
        rf"{REPO}@{made[:7]}: the files are published, but could not be verified: {REPO}\S*: cannot be (listed|read): "
        r"(the connection failed: |the Hub has trouble of its own).*; run the command again, and it verifies them",
        line,
    )


def gguf_data(path: Path) -> bytes:
    """The data of the tensors, by the library of others."""
    [tensor] = gguf.GGUFReader(path).tensors
    return bytes(tensor.data.tobytes())


PUBLISH = """
import hashlib, sys
from pathlib import Path
from mimo_publish.destination import Destination
from mimo_publish.upload import changes, commit, remote, verify
commit.SMALL = 1000
files = [changes.LocalFile(p.name, p, p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest())
         for p in map(Path, sys.argv[2:])]
to = Destination(sys.argv[1])
there = remote.look(to)
made = commit.upload(there, to, changes.compare(there, files), [], "Q8_0 files", print)
print(verify.verify(sys.argv[1], made.commit, files))
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
