"""Repositories of a small Hugging Face Hub, and what goes wrong with a request."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LARGE = (".safetensors", ".gguf", ".flac")  # what is stored as large files are; all else is in git


@dataclass
class Asked:
    """One request, in the order in which they came.

    `kind` is a name in ROUTES; `file` is the file's name, or the SHA-256 of what is sent; `got` counts the bytes of
    the request's body that arrived so far.
    """

    method: str
    file: str
    range: str
    kind: str
    repo: str
    got: int = 0

    @property
    def is_download(self) -> bool:
        """Whether all of a file, or all that is missing of it, is asked for: a header has an end."""
        return self.kind == "resolve" and self.method == "GET" and (not self.range or self.range.endswith("-"))


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    With a status, it is refused. With `cut`, the connection ends after so many bytes of the body: of the request's if
    it has one, otherwise of the answer's. With `lost`, everything is done, and the connection ends before the answer.
    `content` is served in place of the file's; `json`, whatever it holds, in place of a JSON answer. `rewrite` makes
    other headers and another body of the answer's.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    lost: bool = False
    content: bytes | None = None
    json: bytes | None = None
    rewrite: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]] | None = None


Content = bytes | Path
Files = dict[str, Content]


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at a commit."""

    commit: str
    files: Files
    message: str = ""
    parent: str = ""


@dataclass
class Written:
    """A repository that was made by requests: the commits of each branch, and of each pull request by its `refs/pr/N`;
    the last is the head. `tags` name commits."""

    private: bool
    branches: dict[str, list[Snapshot]] = field(default_factory=lambda: {"main": []})
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def commits(self) -> list[Snapshot]:
        """Those of main."""
        return self.branches["main"]

    @property
    def pull_requests(self) -> list[str]:
        return [name for name in self.branches if name.startswith("refs/pr/")]

    def find(self, revision: str) -> Snapshot | None:
        """By branch, tag, pull request or commit."""
        if revision in self.branches:
            return self.branches[revision][-1]
        sha = self.tags.get(revision, revision)
        every = (snapshot for commits in self.branches.values() for snapshot in commits)
        return next((snapshot for snapshot in every if snapshot.commit == sha), None)


@dataclass
class Collection:
    """A collection of repositories."""

    title: str
    items: list[str] = field(default_factory=list)


class Hub:
    """Serves `repos`: name → revision → folder; a revision is known by its name and by `commit(revision)`.

    Whoever has one of `tokens` (token → the names under which its user may write) may also make repositories, and
    commit to them; these are in `written`. `before` is called with each request before it is answered; it returns what
    goes wrong with it: a Fault, an HTTP status, or None or 0 for nothing. `asked` lists the requests.
    """

    def __init__(self, repos: Mapping[str, Mapping[str, Path]], tokens: Mapping[str, list[str]]) -> None:
        self.repos, self.tokens = repos, tokens
        self.written = dict[str, Written]()
        self.collections = dict[str, Collection]()  # by slug, OWNER/TITLE-ID
        self.store = dict[str, bytes]()  # large files' contents that were uploaded whole, by SHA-256
        self.parts = dict[str, dict[int, bytes]]()  # of those that are uploaded in parts
        self.asked = list[Asked]()
        self.before: Callable[[Asked], Fault | int | None] = lambda asked: None
        self.part_size = 1 << 30  # bytes; larger files are uploaded in parts
        self.page_size = 1000  # files on a page of a listing
        self.role = "write"  # of every token
        self.lock = threading.Lock()
        self.url = ""

    def whole(self) -> list[str]:
        """The shards that were downloaded, in order."""
        return [asked.file for asked in self.asked if asked.is_download and asked.file.endswith(".safetensors")]

    def of_kind(self, kind: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.kind == kind]

    def put(self, repo: str, files: Mapping[str, bytes], *, private: bool = False, message: str = "by hand") -> str:
        """Commit `files` to main, beside those that are there, as somebody else would. Returns the commit."""
        commits = self.written.setdefault(repo, Written(private)).commits
        return self.commit(repo, commits, commits[-1] if commits else None, files, message=message)

    def commit(
        self, repo: str, commits: list[Snapshot], parent: Snapshot | None, files: Mapping[str, bytes],
        deleted: Iterable[str] = (), *, message: str,
    ) -> str:  # fmt: skip
        """Append a commit on top of `parent` to those of a branch. Returns the commit."""
        kept = {name: file for name, file in parent.files.items() if name not in deleted} if parent else {}
        before = parent.commit if parent else ""
        name = hashlib.sha1(f"{repo} {sum(map(len, self.written[repo].branches.values()))} {before} {message}".encode())
        commits.append(Snapshot(name.hexdigest(), {**kept, **files}, message, before))
        return name.hexdigest()

    def snapshot(self, repo: str, revision: str) -> Snapshot | None:
        """None if there is no such revision of the repository."""
        if repo in self.written:
            return self.written[repo].find(revision)
        for name, folder in self.repos[repo].items():
            if revision in (name, commit(name)):
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                return Snapshot(commit(name), {path.relative_to(folder).as_posix(): path for path in paths})
        return None


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def read(file: Content) -> bytes:
    return file.read_bytes() if isinstance(file, Path) else file


def etag(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else git_blob(data)


def git_blob(data: bytes) -> str:
    """What git calls this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
