"""Files from the Hub, by a real server on this machine and processes that really die: what arrives, what is asked for
again, what is deleted, and what is said of what goes wrong."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFValueType

from mimo_convert.convert import convert
from mimo_convert.gguf_file import ARCHITECTURE, Entry, align, header_bytes, read_gguf
from mimo_convert.plan import Options
from mimo_convert.request import make_request
from quantize.types import TYPES
from runtime_check import bundled
from runtime_check.static_check import check_static
from watch.cache import MARGIN
from watch.history import HEADER, WHOLE, FileRow

from ..hub_server import Asked, Fault, Hub, commit, git_blob, serve

REPO, OTHER, THIRD = "Some/Speech-LM", "Some/Other-LM", "Else/Third-LM"
NAME, TOKENIZER = "lm.gguf", "tokenizer.gguf"
MIB = 1 << 20
SERVER = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from mimo_convert import hub_errors
from quantize.errors import InputError
from watch.fetch import fetch
hub_errors.FIRST_WAIT = 0.01

def run(repo, revision, names, cache, capacity, out):
    def free(folder):  # of a disk that has nothing else on it
        return capacity - sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))
    sys.stderr = open(out + ".said", "w", buffering=1)
    found = fetch(repo, revision, names, Path(cache), lambda line: print(line, file=sys.stderr), free)
    paths = {name: str(path) for name, path in found.paths.items()}
    Path(out).write_text(json.dumps([found.commit, found.scope, paths, [asdict(row) for row in found.rows]]))

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 3
        try:
            run(*json.loads(line))
            status = 0
        except InputError as error:
            print(error, file=sys.stderr)
            status = 2
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Processes:
    """Each fetch is a process of its own: a child of one that has imported everything, and knows the Hub's address."""

    def __init__(self, url: str, folder: Path) -> None:
        own = {"HF_ENDPOINT": url, "HF_HOME": str(folder), "HF_TOKEN": "hf_made_up", "OPENBLAS_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], env={**os.environ, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def start(self, *what: object) -> int:
        """The number of a process that fetches."""
        assert self.server.stdin
        print(json.dumps(what), file=self.server.stdin, flush=True)
        return self._number()

    def _number(self) -> int:
        assert self.server.stdout
        return int(self.server.stdout.readline())

    status = _number  # of the process that was started, when it ends

    def end(self) -> None:
        self.server.communicate()


@dataclass
class Night:
    """Somebody who fetches into one cache, on a disk of `capacity` bytes, from one Hub."""

    cache: Path
    hub: Hub
    processes: Processes
    capacity: int = 1 << 40

    @property
    def out(self) -> Path:
        return self.cache.with_name("found.json")

    def start(self, repo: str, *names: str, revision: str = "main") -> int:
        return self.processes.start(repo, revision, names or [NAME], str(self.cache), self.capacity, str(self.out))

    def said(self) -> str:
        return self.out.with_name("found.json.said").read_text()

    def fetch(self, repo: str = REPO, *names: str, revision: str = "main") -> "Found":
        self.start(repo, *names, revision=revision)
        assert self.processes.status() == 0, self.said()
        name, scope, paths, rows = json.loads(self.out.read_bytes())
        paths = {name: Path(path) for name, path in paths.items()}
        return Found(name, scope, paths, [FileRow(**row) for row in rows], self.said())

    def refused(self, repo: str = REPO, *names: str, revision: str = "main") -> str:
        """The one line that says why there is nothing."""
        self.start(repo, *names, revision=revision)
        assert self.processes.status() == 2, self.said()
        return self.said().splitlines()[-1]

    def contents(self) -> list[str]:
        """Names of the files with content in the cache."""
        return sorted(path.name for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".verified")

    def asked(self) -> list[tuple[str, str]]:
        """File and range of what was asked for since the last time."""
        asked = [(asked.file, asked.range.removeprefix("bytes=")) for asked in self.hub.of_kind("resolve")]
        self.hub.asked.clear()
        return asked


@dataclass
class Found:
    commit: str
    scope: str
    paths: Mapping[str, Path]
    rows: list[FileRow]
    said: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Processes]]:
    with serve() as hub:
        processes = Processes(hub.url, tmp_path_factory.mktemp("home"))
        yield hub, processes
        processes.end()


@pytest.fixture
def hub(running: tuple[Hub, Processes]) -> Hub:
    """With one repository, and nothing wrong with it."""
    hub = running[0]
    hub.before = lambda asked: None
    hub.written.clear()
    hub.put(REPO, {NAME: random_bytes(1), TOKENIZER: random_bytes(2, MIB), "README.md": b"# A model\n"})
    hub.asked.clear()
    return hub


@pytest.fixture
def night(tmp_path: Path, hub: Hub, running: tuple[Hub, Processes]) -> Night:
    return Night(tmp_path / "cache", hub, running[1])


def random_bytes(seed: int, n: int = 4 * MIB) -> bytes:
    return np.random.default_rng(seed).bytes(n)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def once(fault: Fault | int, kind: str = "resolve", times: int = 1) -> Callable[[Asked], Fault | int | None]:
    """The first requests of a kind go wrong."""
    left = [fault] * times
    return lambda asked: left.pop() if left and asked.kind == kind else None


# What arrives, and what is not asked for again.


def test_files_arrive_as_they_are_listed_and_are_asked_for_once(night: Night, hub: Hub) -> None:
    head = hub.written[REPO].commits[-1].commit
    found = night.fetch(REPO, NAME, TOKENIZER)
    assert (found.commit, found.scope, list(found.paths)) == (head, WHOLE, [NAME, TOKENIZER])
    for seed, size, name, row in ((1, 4 * MIB, NAME, found.rows[0]), (2, MIB, TOKENIZER, found.rows[1])):
        digest = sha256(random_bytes(seed, size))
        assert sha256(found.paths[name].read_bytes()) == digest
        assert row == FileRow(name, digest, size, head, digest)
        assert found.paths[name].name == name
    assert night.asked() == [(NAME, "0-"), (TOKENIZER, "0-")]
    again = night.fetch(REPO, NAME, TOKENIZER)
    assert (again.paths, again.rows) == (found.paths, found.rows)
    assert night.asked() == []
    assert f"{REPO}/{NAME}: fetching 4.19 MB" in found.said


def test_a_commit_that_leaves_a_file_alone_does_not_fetch_it(night: Night, hub: Hub) -> None:
    first = night.fetch(REPO, NAME, TOKENIZER)
    night.asked()
    hub.put(REPO, {TOKENIZER: random_bytes(3, MIB)})
    second = night.fetch(REPO, NAME, TOKENIZER)
    assert night.asked() == [(TOKENIZER, "0-")]
    assert second.commit != first.commit
    assert [row.revision for row in second.rows] == [second.commit] * 2
    assert second.rows[1].sha256 == sha256(second.paths[TOKENIZER].read_bytes()) == sha256(random_bytes(3, MIB))
    assert night.contents() == [NAME, TOKENIZER]


@pytest.mark.parametrize("change", ["bytes", "size", "note"])
def test_a_file_that_was_changed_on_the_disk_is_fetched_again(night: Night, change: str) -> None:
    path = night.fetch().paths[NAME]
    night.asked()
    if change == "note":
        path.with_name(f"{NAME}.verified").write_text("{}")
    else:
        with path.open("r+b" if change == "bytes" else "ab") as file:
            file.write(b"x")
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert night.asked() == [(NAME, "0-")]


def test_a_cache_that_was_packed_and_unpacked_is_still_one(night: Night) -> None:
    """As GitLab does, in an archive of whole seconds."""
    night.fetch()
    night.asked()
    for path in night.cache.rglob("*"):
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))
    night.fetch()
    assert night.asked() == []


def test_what_another_repository_or_revision_has_already_brought_is_not_fetched(night: Night, hub: Hub) -> None:
    first = night.fetch()
    hub.put(OTHER, {NAME: random_bytes(1), TOKENIZER: random_bytes(2, MIB)})
    night.asked()
    assert night.fetch(REPO, revision=first.commit).paths == first.paths
    found = night.fetch(OTHER, NAME, TOKENIZER)
    assert found.paths[NAME] == first.paths[NAME]
    assert night.asked() == [(TOKENIZER, "0-")]


def test_a_revision_is_what_it_was(tmp_path: Path, night: Night, hub: Hub) -> None:
    for name in ("main", "v1"):
        (tmp_path / name / "quantized").mkdir(parents=True)
        (tmp_path / name / "quantized" / NAME).write_bytes(name.encode())
    hub.repos = {THIRD: {name: tmp_path / name for name in ("main", "v1")}}
    name = f"quantized/{NAME}"
    for revision in ("main", "v1"):
        found = night.fetch(THIRD, name, revision=revision)
        assert (found.commit, found.paths[name].read_text()) == (commit(revision), revision)
    assert night.contents() == [NAME, NAME]


def test_a_file_that_git_stores_is_held_against_its_git_hash(night: Night, hub: Hub) -> None:
    found = night.fetch(REPO, "README.md")
    text = b"# A model\n"
    assert found.rows == [FileRow("README.md", sha256(text), 10, found.commit, git_blob(text))]
    hub.put(REPO, {"README.md": b"# A mobel\n"})
    hub.before = once(Fault(content=text))
    assert f"{REPO}/README.md: has git hash {git_blob(text)}, the listing says " in night.refused(REPO, "README.md")
    assert night.contents() == []


# Lines that are cut, and processes that are killed.


def test_a_connection_that_is_cut_in_mid_file_is_gone_on_with(night: Night, hub: Hub) -> None:
    cuts = [MIB + 5, 2 * MIB + 5]
    hub.before = lambda asked: Fault(cut=cuts.pop()) if cuts and asked.kind == "resolve" else None
    found = night.fetch()
    assert found.paths[NAME].read_bytes() == random_bytes(1)
    assert night.asked() == [(NAME, "0-"), (NAME, f"{2 * MIB}-"), (NAME, f"{3 * MIB}-")]
    assert "the connection was cut; going on at 2.10 MB" in found.said


def test_a_line_that_is_cut_again_and_again_is_gone_on_with_the_next_night(night: Night, hub: Hub) -> None:
    faults = [Fault(cut=100)] * 10 + [Fault(cut=MIB)]
    hub.before = lambda asked: faults.pop() if asked.kind == "resolve" else None
    line = night.refused()
    assert line.startswith(f"{REPO}/{NAME}: cannot be downloaded: the connection failed")
    assert len(night.asked()) == 5  # what came of the first was worth going on
    assert [name.rpartition(".")[2] for name in night.contents()] == ["part"]
    hub.before = lambda asked: None
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert night.asked() == [(NAME, f"{MIB}-")]


def killed_in_mid_file(night: Night, hub: Hub, repo: str = REPO) -> None:
    """A process that is killed when it has 2 MiB of a file, while it waits for the rest."""
    killed, waits = threading.Event(), threading.Event()

    def before(asked: Asked) -> Fault | None:
        if asked.kind != "resolve":
            return None
        if asked.range == "bytes=0-":
            return Fault(cut=2 * MIB)
        waits.set()
        killed.wait(20)
        return None

    hub.before = before
    process = night.start(repo)
    assert waits.wait(20)
    os.kill(process, signal.SIGKILL)
    assert night.processes.status() == -signal.SIGKILL
    killed.set()
    hub.before = lambda asked: None
    night.asked()


def test_a_process_that_was_killed_is_gone_on_with(night: Night, hub: Hub) -> None:
    killed_in_mid_file(night, hub)
    assert [name.rpartition(".")[2] for name in night.contents()] == ["part"]
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert night.asked() == [(NAME, f"{2 * MIB}-")]
    assert night.contents() == [NAME]


def test_a_process_that_was_killed_between_the_last_byte_and_the_name_asks_for_nothing(night: Night) -> None:
    path = night.fetch().paths[NAME]
    night.asked()
    path.rename(path.with_name(f"{NAME}.{sha256(random_bytes(1))}.part"))
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert night.asked() == []


def test_the_part_of_one_version_is_never_gone_on_with_as_another(night: Night, hub: Hub) -> None:
    killed_in_mid_file(night, hub)
    hub.put(REPO, {NAME: random_bytes(5)})
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(5)
    assert night.asked() == [(NAME, "0-")]
    assert night.contents() == [NAME]


def test_the_part_of_another_target_stays_for_its_own_night(night: Night, hub: Hub) -> None:
    killed_in_mid_file(night, hub)
    hub.put(OTHER, {NAME: random_bytes(5)})
    night.fetch(OTHER)
    night.asked()
    night.fetch()
    assert night.asked() == [(NAME, f"{2 * MIB}-")]


def test_a_part_that_was_damaged_on_the_disk_does_not_become_a_file(night: Night, hub: Hub) -> None:
    killed_in_mid_file(night, hub)
    [part] = night.cache.rglob("*.part")
    part.write_bytes(bytes(2 * MIB))
    assert "it changed while it was fetched, or was damaged on the way" in night.refused()
    assert night.contents() == []
    part.write_bytes(bytes(9 * MIB))
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)


def test_a_server_that_sends_all_of_a_file_instead_of_the_rest_is_understood(night: Night, hub: Hub) -> None:
    """As some that stand between the Hub and a user do."""
    killed_in_mid_file(night, hub)
    with serve_whole(random_bytes(1)) as (url, tokens):
        hub.before = once(Fault(status=302, headers={"Location": url}))
        assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert tokens == [None], "it is for the Hub alone"


@contextmanager
def serve_whole(data: bytes) -> Iterator[tuple[str, list[str | None]]]:
    """The address of a server that knows nothing of ranges, and what it is told of who asks."""
    tokens = list[str | None]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://localhost:{server.server_port}/", tokens
        server.shutdown()


# What is not what was listed.


@pytest.mark.parametrize("n", [0, 4 * MIB, 4 * MIB - 3, 4 * MIB + 3])
def test_a_file_that_changes_between_the_listing_and_the_download_is_refused(night: Night, hub: Hub, n: int) -> None:
    other = random_bytes(6, n)
    hub.before = lambda asked: Fault(content=other) if asked.kind == "resolve" else None
    line = night.refused()
    if n:
        assert f"{REPO}/{NAME}: has sha256 {sha256(other)}, the listing says {sha256(random_bytes(1))}: it cha" in line
    assert night.contents() == []
    hub.before = lambda asked: None
    assert night.fetch().paths[NAME].read_bytes() == random_bytes(1)


# What the Hub and the network refuse.


def test_a_busy_hub_is_asked_again(night: Night, hub: Hub) -> None:
    faults = [Fault(status=429, headers={"Retry-After": "0"}), Fault(status=503), Fault(cut=0)]
    hub.before = lambda asked: faults.pop() if faults and asked.kind == "resolve" else None
    found = night.fetch()
    assert found.paths[NAME].read_bytes() == random_bytes(1)
    assert len(night.asked()) == 4
    assert "the Hub is asked too often (HTTP 429); trying again in 0 s" in found.said


@pytest.mark.parametrize("kind", ["info", "resolve"])
@pytest.mark.parametrize(
    ("status", "says"), [(401, "token"), (404, ""), (429, "asked too often"), (500, "trouble of its own")]
)
def test_what_the_hub_refuses_is_one_line(night: Night, hub: Hub, kind: str, status: int, says: str) -> None:
    hub.before = lambda asked: Fault(status, {"Retry-After": "0"}) if asked.kind == kind else None
    line = night.refused()
    where, what = {"info": (f"{REPO}@main", "cannot be listed"), "resolve": (f"{REPO}/{NAME}", "cannot be downloaded")}[
        kind
    ]
    assert line.startswith(f"{where}: {what}: ")
    assert f"(HTTP {status})" in line
    assert says in line


def test_what_is_not_there_is_one_line(night: Night, hub: Hub) -> None:
    assert night.refused("Nobody/Nothing").startswith("Nobody/Nothing@main: cannot be listed: no such repository")
    assert f"{REPO}@v9: cannot be listed: there is no such revision" in night.refused(revision="v9")
    line = night.refused(REPO, TOKENIZER, "lm-q4_k.gguf")
    assert line == f"{REPO}@main: has no file lm-q4_k.gguf; expected {NAME}, {TOKENIZER}"
    hub.put(OTHER, {"README.md": b""})
    assert night.refused(OTHER).endswith(f"has no file {NAME}; expected a GGUF file, and it has none")
    assert night.refused("no name").startswith("no name@main: cannot be listed: ")


def test_no_network_is_one_line(night: Night, tmp_path: Path) -> None:
    night.processes = Processes("http://127.0.0.1:9", tmp_path)
    assert night.refused().startswith(f"{REPO}@main: cannot be listed: the connection failed: ")
    night.processes.end()


def test_a_cache_that_cannot_be_one_is_one_line(night: Night) -> None:
    night.cache.write_text("not a folder")
    assert night.refused().startswith(f"{night.cache}: cannot be used as a cache: ")


# Room.


def test_what_was_not_needed_for_longest_makes_room(night: Night, hub: Hub) -> None:
    for i, repo in enumerate((OTHER, THIRD)):
        hub.put(repo, {NAME: random_bytes(10 + i)})
    first, second = night.fetch().paths[NAME], night.fetch(OTHER).paths[NAME]
    night.fetch()  # needed again
    night.capacity = MARGIN + 8 * MIB + 100_000
    (night.cache / "mine.txt").write_text("not a file of the nightly job's")
    third = night.fetch(THIRD)
    assert third.scope == WHOLE
    assert f"{second}: deleted, to make room" in third.said
    assert [path.exists() for path in (first, second, third.paths[NAME])] == [True, False, True]
    night.capacity = MARGIN + 4 * MIB + 100_000
    night.fetch(OTHER)
    assert [path.exists() for path in (first, second, third.paths[NAME])] == [False, True, False]
    assert night.contents() == [NAME, "mine.txt"]


def test_what_is_needed_now_is_not_deleted_for_the_rest(night: Night, hub: Hub) -> None:
    night.fetch(REPO, NAME)
    hub.put(OTHER, {NAME: random_bytes(10)})
    night.fetch(OTHER)
    night.asked()
    night.capacity = MARGIN + 5 * MIB + 100_000
    assert night.fetch(REPO, NAME, TOKENIZER).scope == WHOLE
    assert night.asked() == [(TOKENIZER, "0-")]


def test_a_part_counts_for_what_is_still_to_come(night: Night, hub: Hub) -> None:
    killed_in_mid_file(night, hub)
    night.capacity = MARGIN + 4 * MIB + 100_000
    assert night.fetch().scope == WHOLE


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A speech LM's file that is as it should be."""
    out = tmp_path_factory.mktemp("lm")
    [plan] = convert([make_request(bundled.open_model("tiny"), [TYPES["f16"]], Options())], out, threads=2)
    return (out / plan.file_name).read_bytes()


def test_of_what_no_disk_can_hold_the_header_is_examined(night: Night, hub: Hub, lm: bytes) -> None:
    hub.put(OTHER, {NAME: lm, TOKENIZER: random_bytes(2, MIB)})
    night.fetch()
    night.asked()
    night.capacity = MARGIN + len(lm)
    found = night.fetch(OTHER, NAME, TOKENIZER)
    assert found.scope == HEADER
    assert night.contents() == [NAME, f"{NAME}.header", f"{TOKENIZER}.header"], "nothing is deleted in vain"
    path = found.paths[NAME]
    assert (path.stat().st_size, path.name) == (len(lm), f"{NAME}.header")
    assert path.stat().st_blocks * 512 < len(lm) / 2
    assert found.rows[0] == FileRow(NAME, sha256(lm), len(lm), found.commit, sha256(lm))
    checked = check_static(path, 2, weights=False)
    assert checked.passed
    assert {"vocabulary", "types", "shapes"} <= {rule.name for rule in checked.rules}
    [problem] = check_static(found.paths[TOKENIZER], 2, weights=False).reasons
    assert problem == "structure: not a GGUF file; expected a file that begins with the bytes GGUF"
    assert [(file, limits) for file, limits in night.asked() if file == NAME] == [(NAME, f"0-{MIB - 1}")]
    night.capacity = 1 << 40
    assert night.fetch(OTHER, NAME, TOKENIZER).scope == WHOLE
    assert night.contents() == [NAME, NAME, TOKENIZER]


def test_a_header_is_asked_for_until_it_is_complete(night: Night, hub: Hub) -> None:
    words = [f"word {i:032}" for i in range(60_000)]
    tensors = [("a", (1024, 1024), TYPES["f32"]), ("b", (1024, 1024), TYPES["f32"])]
    entries = [Entry("tokenizer.ggml.tokens", words, GGUFValueType.STRING)]
    header = header_bytes("mimo_asr", entries, tensors)
    assert 2 * MIB < len(header) < 4 * MIB
    data = header + bytes(8 * MIB)
    hub.put(OTHER, {NAME: data})
    night.capacity = MARGIN
    path = night.fetch(OTHER).paths[NAME]
    assert night.asked() == [(NAME, f"{begin * MIB}-{end * MIB - 1}") for begin, end in ((0, 1), (1, 2), (2, 4))]
    file = read_gguf(path)
    assert (file.metadata["tokenizer.ggml.tokens"], file.size) == (words, len(data))
    assert path.read_bytes()[: len(header)] == header
    assert file.tensors["a"].begin == align(len(header))
    assert file.metadata[ARCHITECTURE] == "mimo_asr"
