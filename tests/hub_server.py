"""A small Hugging Face Hub on this machine: what huggingface_hub asks of one to list and to download a repository."""

import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request for a file's content, in the order in which they came."""

    method: str
    file: str
    range: str


class Hub:
    """Serves `repos`: name → revision → folder; a revision is known by its name and by `commit(revision)`.

    `before` is called with each request for content before it is answered; it returns an HTTP status in place of the
    content, or 0. `asked` lists the requests.
    """

    def __init__(self, repos: Mapping[str, Mapping[str, Path]]) -> None:
        self.repos, self.asked = repos, list[Asked]()
        self.before: Callable[[Asked], int] = lambda asked: 0
        self.url = ""

    def whole(self) -> list[str]:
        """The shards that were asked for whole, in order."""
        return [a.file for a in self.asked if (a.method, a.range) == ("GET", "") and a.file.endswith(".safetensors")]


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def serve(repos: Mapping[str, Mapping[str, Path]]) -> Iterator[Hub]:
    """The Hub, running in threads of this process until the end of the block."""
    hub = Hub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, hub)

        def do_HEAD(self) -> None:
            answer(self, hub)

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was interrupted
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = handler.path.partition("?")[0]
    found = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)/?(.*))?", path)
    revisions = hub.repos.get(found[1]) if found else None
    if not found or revisions is None:
        return send(handler, 404, {"X-Error-Code": "RepoNotFound"})
    asked_for = found[3] or "main"
    revision = next((name for name in revisions if asked_for in (name, commit(name))), None)
    if revision is None:
        return send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
    folder = revisions[revision]
    if found[2] == "resolve":
        return send_content(handler, hub, folder / found[4], commit(revision))
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if found[2] == "tree":
        return send_json(handler, [entry(file) for file in files])
    siblings = [{"rfilename": file.name} for file in files]
    return send_json(handler, {"id": found[1], "modelId": found[1], "sha": commit(revision), "siblings": siblings})


def entry(file: Path) -> dict[str, Any]:
    """A file in a listing; shards are stored as large files are."""
    values: dict[str, Any] = {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": etag(file)}
    if file.suffix == ".safetensors":
        values["lfs"] = {"oid": etag(file), "size": file.stat().st_size, "pointerSize": 134}
    return values


def etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def send_content(handler: BaseHTTPRequestHandler, hub: Hub, file: Path, commit: str) -> None:
    asked = Asked(handler.command, file.name, handler.headers.get("Range", ""))
    hub.asked.append(asked)
    status = hub.before(asked)
    if status:
        return send(handler, status, {})
    if not file.is_file():
        return send(handler, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
    data = file.read_bytes()
    size, headers = len(data), {"X-Repo-Commit": commit, "ETag": f'"{etag(file)}"', "Accept-Ranges": "bytes"}
    if file.suffix == ".safetensors":
        headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": f'"{etag(file)}"'}
    if asked.range:
        first, last = asked.range.removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last or size - 1), size - 1)
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        return send(handler, 206, headers, data[begin : end + 1])
    return send(handler, 200, headers, data)


def send_json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    send(handler, 200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def send(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)
