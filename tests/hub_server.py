"""A small Hugging Face Hub on this machine: what huggingface_hub asks of one to list, download and upload a repository.

It behaves as the real one does without Xet (HF_HUB_DISABLE_XET=1), and goes wrong in every way that a test asks for.
"""

import base64
import hashlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

LARGE = (".safetensors", ".gguf")  # what is stored as large files are; all else is in git
CHUNK = 1 << 16  # bytes of a request's body read at once


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
    """A repository that was made by requests; the last commit is the head of main."""

    private: bool
    commits: list[Snapshot]


class Hub:
    """Serves `repos`: name → revision → folder; a revision is known by its name and by `commit(revision)`.

    Whoever has one of `tokens` (token → the names under which its user may write) may also make repositories, and
    commit to them; these are in `written`. `before` is called with each request before it is answered; it returns what
    goes wrong with it: a Fault, an HTTP status, or None or 0 for nothing. `asked` lists the requests.
    """

    def __init__(self, repos: Mapping[str, Mapping[str, Path]], tokens: Mapping[str, list[str]]) -> None:
        self.repos, self.tokens = repos, tokens
        self.written = dict[str, Written]()
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
        """The shards that were asked for whole, in order."""
        return [a.file for a in self.asked if (a.method, a.range) == ("GET", "") and a.file.endswith(".safetensors")]

    def of_kind(self, kind: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.kind == kind]

    def put(self, repo: str, files: Mapping[str, bytes], *, private: bool = False, message: str = "by hand") -> str:
        """Commit `files` beside those that are there, as somebody else would. Returns the commit."""
        before = self.written.setdefault(repo, Written(private, [])).commits
        kept, parent = (before[-1].files, before[-1].commit) if before else ({}, "")
        name = hashlib.sha1(f"{repo} {len(before)} {parent} {message}".encode()).hexdigest()
        before.append(Snapshot(name, {**kept, **files}, message, parent))
        return name

    def snapshot(self, repo: str, revision: str) -> Snapshot | None:
        """None if there is no such revision of the repository."""
        if repo in self.written:
            commits = self.written[repo].commits
            if revision == "main":
                return commits[-1]
            return next((snapshot for snapshot in commits if snapshot.commit == revision), None)
        for name, folder in self.repos[repo].items():
            if revision in (name, commit(name)):
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                return Snapshot(commit(name), {path.relative_to(folder).as_posix(): path for path in paths})
        return None


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def serve(
    repos: Mapping[str, Mapping[str, Path]] | None = None,
    tokens: Mapping[str, list[str]] | None = None,
    *,
    quiet: bool = False,
) -> Iterator[Hub]:
    """The Hub, running in threads of this process until the end of the block; `quiet` also about its own mistakes."""
    hub = Hub(repos or {}, tokens or {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer's head and body need not wait for each other

        def do_GET(self) -> None:
            answer(Request(self, hub))

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            if not quiet and not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was interrupted
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def environment(hub: Hub, home: Path, token: str = "") -> dict[str, str]:
    """What a process needs in its environment to know this Hub and no other; `home` is for what the library keeps."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    known = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **known, **({"HF_TOKEN": token} if token else {})}


def use(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch, token: str = "") -> None:
    """The same for this process, in which the library was imported with other values."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # older ones have none
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)


class CutError(ConnectionError):
    """A connection that ends here."""


class Request:
    """One request while it is answered: its parts, its body and its answer."""

    def __init__(self, handler: BaseHTTPRequestHandler, hub: Hub) -> None:
        self.handler, self.hub, self.headers = handler, hub, handler.headers
        self.path, self.query = unquote(urlsplit(handler.path).path), parse_qs(urlsplit(handler.path).query)
        self.fault = Fault()
        self.body = b""

    def read_body(self, asked: Asked) -> None:
        chunks = []
        for chunk in self.chunks():
            chunks.append(chunk)
            asked.got += len(chunk)
            if self.fault.cut is not None and asked.got >= self.fault.cut:
                raise CutError
        self.body = b"".join(chunks)

    def chunks(self) -> Iterator[bytes]:
        """The body, as it arrives."""
        file = self.handler.rfile
        left = int(self.headers.get("Content-Length", 0))
        while left:
            data = file.read1(min(left, CHUNK))  # type: ignore[attr-defined]
            if not data:
                raise CutError
            left -= len(data)
            yield data
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(file.readline() or b"0", 16):
                yield file.read(size)
                file.readline()
            file.readline()

    def json(self) -> Any:
        return json.loads(self.body)

    def names(self) -> list[str]:
        """The names under which the sender may write; none without a valid token."""
        return self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "), [])

    def send(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        if self.fault.lost:
            raise CutError
        if self.fault.rewrite:
            headers, data = self.fault.rewrite(dict(headers), data)
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        if self.handler.command == "HEAD":
            return
        self.handler.wfile.write(data if self.fault.cut is None else data[: self.fault.cut])
        if self.fault.cut is not None:
            raise CutError

    def send_json(self, value: Any, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode() if self.fault.json is None else self.fault.json
        self.send(status, {"Content-Type": "application/json", **headers}, data)

    def refuse(self, status: int, error: str, code: str = "") -> None:
        self.send_json(
            {"error": error},
            status,
            **{"X-Error-Message": ascii(error)[1:-1]},
            **({"X-Error-Code": code} if code else {}),
        )


def answer(request: Request) -> None:
    """Answer, or let go wrong, one request."""
    handler, hub = request.handler, request.hub
    kind, act, found = route(request)
    groups = found.groupdict() if found else {}
    asked = Asked(
        handler.command, groups.get("file") or "", request.headers.get("Range", ""), kind, groups.get("repo", "")
    )
    hub.asked.append(asked)
    fault = hub.before(asked)
    request.fault = fault if isinstance(fault, Fault) else Fault(status=fault or 0)
    try:
        request.read_body(asked)
        if request.fault.status:
            request.send(request.fault.status, request.fault.headers)
        elif hub.tokens and not request.names() and "Authorization" in request.headers:
            request.refuse(401, "Invalid credentials in Authorization header")
        else:
            act(request, **groups)
    except CutError:
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)


Action = Callable[..., None]


def route(request: Request) -> tuple[str, Action, re.Match[str] | None]:
    for kind, method, pattern, act in ROUTES:
        if method == request.handler.command.replace("HEAD", "GET") and (found := re.fullmatch(pattern, request.path)):
            return kind, act, found
    return "unknown", lambda request: request.refuse(404, f"no such address: {request.path}"), None


# What is asked for to read.


def readable(request: Request, repo: str, revision: str | None) -> Snapshot | None:
    """The files of a repository that the sender may see; otherwise, the request is answered, and it is None."""
    hub = request.hub
    hidden = repo in hub.written and hub.written[repo].private and repo.split("/")[0] not in request.names()
    if hidden or (repo not in hub.written and repo not in hub.repos):
        known = not hub.tokens or request.names()  # the real one says 401 to strangers
        request.refuse(404 if known else 401, "Repository not found", "RepoNotFound")
        return None
    snapshot = hub.snapshot(repo, revision or "main")
    if snapshot is None:
        request.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return snapshot


def info(request: Request, repo: str, revision: str | None = None) -> None:
    if snapshot := readable(request, repo, revision):
        written = request.hub.written.get(repo)
        siblings = [{"rfilename": name} for name in snapshot.files]
        about = {"id": repo, "modelId": repo, "sha": snapshot.commit, "siblings": siblings}
        request.send_json({**about, "private": bool(written and written.private)})


def tree(request: Request, repo: str, revision: str, folder: str = "") -> None:
    if not (snapshot := readable(request, repo, revision)):
        return
    prefix = f"{folder}/" if folder else ""
    files = {name: file for name, file in snapshot.files.items() if name.startswith(prefix)}
    entries = [entry(name, file) for name, file in files.items()]
    if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        entries = [one for one in entries if "/" not in str(one["path"])[len(prefix) :]]
        folders = {prefix + rest.split("/")[0] for name in files if "/" in (rest := name[len(prefix) :])}
        entries += [{"type": "directory", "path": name, "oid": commit(name), "size": 0} for name in sorted(folders)]
    begin = int(request.query.get("cursor", ["0"])[0])
    end, headers = begin + request.hub.page_size, {}
    if end < len(entries):
        query = "&".join(f"{key}={value[0]}" for key, value in {**request.query, "cursor": [str(end)]}.items())
        headers["Link"] = f'<{request.hub.url}{request.path}?{query}>; rel="next"'
    request.send_json(entries[begin:end], **headers)


def entry(name: str, file: Content) -> dict[str, Any]:
    """A file in a listing."""
    data = read(file)
    values: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_blob(data)}
    if name.endswith(LARGE):
        values["oid"] = git_blob(etag(name, data).encode())  # of the pointer, more or less
        values["lfs"] = {"oid": etag(name, data), "size": len(data), "pointerSize": 134}
    return values


def read(file: Content) -> bytes:
    return file.read_bytes() if isinstance(file, Path) else file


def etag(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else git_blob(data)


def git_blob(data: bytes) -> str:
    """What git calls this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def resolve(request: Request, repo: str, revision: str, file: str) -> None:
    if not (snapshot := readable(request, repo, revision)):
        return
    if file not in snapshot.files:
        headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return request.send(404, {**headers, "X-Repo-Commit": snapshot.commit})
    data = read(snapshot.files[file]) if request.fault.content is None else request.fault.content
    size, tag = len(data), f'"{etag(file, data)}"'
    headers = {"X-Repo-Commit": snapshot.commit, "ETag": tag, "Accept-Ranges": "bytes"}
    if file.endswith(LARGE):
        headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": tag}
    if asked := request.headers.get("Range"):
        first, last = asked.removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last or size - 1), size - 1)
        if begin >= size:
            return request.send(416, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        return request.send(206, headers, data[begin : end + 1])
    return request.send(200, headers, data)


# What is asked for to write.


def whoami(request: Request) -> None:
    if not (names := request.names()):
        return request.refuse(401, "Invalid credentials in Authorization header")
    token = {"displayName": "tests", "role": request.hub.role}
    about = {"type": "user", "name": names[0], "orgs": [{"type": "org", "name": name} for name in names[1:]]}
    return request.send_json({**about, "auth": {"type": "access_token", "accessToken": token}})


def create(request: Request) -> None:
    asked = request.json()
    if not request.names():
        return request.refuse(401, "Invalid username or password.")
    owner = asked.get("organization") or request.names()[0]
    repo = f"{owner}/{asked['name']}"
    if owner not in request.names():
        return request.refuse(403, f"You don't have the rights to create a model under the namespace {owner!r}")
    with request.hub.lock:
        if repo in request.hub.written:
            return request.send_json(
                {"error": "You already created this model repo", "url": f"{request.hub.url}/{repo}"}, 409
            )
        private = asked.get("visibility") == "private" or asked.get("private") is True
        request.hub.put(repo, {".gitattributes": b"*.gguf filter=lfs\n"}, private=private, message="initial commit")
    return request.send_json({"url": f"{request.hub.url}/{repo}", "name": repo})


def writable(request: Request, repo: str) -> bool:
    """Whether the sender may write to the repository; otherwise, the request is answered."""
    if not request.names():
        request.refuse(401, "Invalid username or password.")
    elif repo not in request.hub.written:
        request.refuse(404, "Repository not found", "RepoNotFound")
    elif repo.split("/")[0] not in request.names() or request.hub.role == "read":
        request.refuse(403, "You don't have the required permissions to write to this repo")
    else:
        return True
    return False


def validate_yaml(request: Request) -> None:
    """Of a card's metadata, only whether it is YAML."""
    block = re.match(r"---\n(.*?)\n---", request.json()["content"], re.DOTALL)
    try:
        yaml.safe_load(block[1] if block else "")
    except yaml.YAMLError as error:
        return request.send_json({"errors": [{"message": f"YAML: {error.args[0]}"}], "warnings": []}, 400)
    return request.send_json({"errors": [], "warnings": []})


def preupload(request: Request, repo: str, revision: str) -> None:
    if not writable(request, repo):
        return
    files = request.hub.written[repo].commits[-1].files
    modes = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
            "shouldIgnore": False,
            "oid": etag(file["path"], read(files[file["path"]])) if file["path"] in files else None,
        }
        for file in request.json()["files"]
    ]
    request.send_json({"files": modes})


def batch(request: Request, repo: str) -> None:
    """How to upload large files: not at all if they are here, in one piece, or in parts."""
    if not writable(request, repo):
        return
    hub, objects = request.hub, []
    for wanted in request.json()["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        objects.append({"oid": oid, "size": size})
        if oid in hub.store:
            continue
        upload: dict[str, Any] = {"href": f"{hub.url}/store/{oid}"}
        if size > hub.part_size:
            n_parts = -(-size // hub.part_size)
            urls = {f"{n:05}": f"{hub.url}/store/{oid}/{n}" for n in range(1, n_parts + 1)}
            upload = {"href": f"{hub.url}/store/{oid}/complete", "header": {"chunk_size": str(hub.part_size), **urls}}
            hub.parts[oid] = {}
        objects[-1]["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/{repo}.git/info/lfs/objects/verify"}}
    request.send_json({"transfer": "basic", "objects": objects})


def put(request: Request, file: str) -> None:
    """Keep what came, whatever it is: of the real store, nobody knows more than that it looks at the size."""
    request.hub.store[file] = request.body
    request.send(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def put_part(request: Request, file: str, part: str) -> None:
    request.hub.parts[file][int(part)] = request.body
    request.send(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def complete(request: Request, file: str) -> None:
    parts = request.hub.parts.pop(file)
    tags = [(n, f'"{hashlib.md5(parts[n]).hexdigest()}"') for n in sorted(parts)]
    if tags != [(part["partNumber"], part["etag"]) for part in request.json()["parts"]]:
        return request.refuse(400, "the parts are not those that were sent")
    request.hub.store[file] = b"".join(parts[n] for n in sorted(parts))
    return request.send_json({})


def verify(request: Request, repo: str) -> None:
    asked = request.json()
    there = len(request.hub.store.get(asked["oid"], b"")) == asked["size"]
    request.send_json({}) if there else request.refuse(422, "the object is not of the size that was announced")


def make_commit(request: Request, repo: str, revision: str) -> None:
    hub = request.hub
    if not writable(request, repo):
        return None
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    with hub.lock:
        head = hub.written[repo].commits[-1]
        if header.get("parentCommit", head.commit) != head.commit:
            return request.refuse(412, "A commit has happened since. Please refresh and try again.")
        files: dict[str, bytes] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.store:
                    return request.refuse(422, f"{value['path']}: no object {value['oid']}")
                files[value["path"]] = hub.store[value["oid"]]
        made = hub.put(repo, files, message=header["summary"])
    return request.send_json({"success": True, "commitOid": made, "commitUrl": f"{hub.url}/{repo}/commit/{made}"})


REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, str, Action]] = [
    ("whoami", "GET", "/api/whoami-v2", whoami),
    ("create", "POST", "/api/repos/create", create),
    ("yaml", "POST", "/api/validate-yaml", validate_yaml),
    ("info", "GET", f"/api/models/{REPO}", info),
    ("info", "GET", f"/api/models/{REPO}/revision/{REVISION}", info),
    ("tree", "GET", f"/api/models/{REPO}/tree/{REVISION}/?(?P<folder>.*)", tree),
    ("preupload", "POST", f"/api/models/{REPO}/preupload/{REVISION}", preupload),
    ("commit", "POST", f"/api/models/{REPO}/commit/{REVISION}", make_commit),
    ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch", batch),
    ("verify", "POST", rf"/{REPO}\.git/info/lfs/objects/verify", verify),
    ("put", "PUT", "/store/(?P<file>[^/]+)", put),
    ("part", "PUT", r"/store/(?P<file>[^/]+)/(?P<part>\d+)", put_part),
    ("complete", "POST", "/store/(?P<file>[^/]+)/complete", complete),
    ("resolve", "GET", f"/{REPO}/resolve/{REVISION}/(?P<file>.+)", resolve),
]
