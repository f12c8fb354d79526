"""Processes that fetch files of a Hub into a cache, and what they found."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimo_nightly.history import FileRow
from tests.hub_server import Asked, Fault, Hub

REPO, OTHER, THIRD = "Some/Speech-LM", "Some/Other-LM", "Else/Third-LM"
NAME, TOKENIZER = "lm.gguf", "tokenizer.gguf"
MIB = 1 << 20
SERVER = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from mimo_convert.sources import hub_errors
from quantize.errors import InputError
from mimo_nightly.files.fetch import fetch
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

    def __init__(self, url: str, folder: Path, **variables: str) -> None:
        own = {"HF_ENDPOINT": url, "HF_HOME": str(folder), "HF_TOKEN": "hf_made_up", "OPENBLAS_NUM_THREADS": "1"}
        own |= variables
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
class Client:
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


def random_bytes(seed: int, n: int = 4 * MIB) -> bytes:
    return np.random.default_rng(seed).bytes(n)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def once(fault: Fault | int, kind: str = "resolve", times: int = 1) -> Callable[[Asked], Fault | int | None]:
    """The first requests of a kind go wrong."""
    left = [fault] * times
    return lambda asked: left.pop() if left and asked.kind == kind else None
