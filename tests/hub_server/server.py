"""The Hub as a server on this machine, and what a process needs to use it."""

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

from .hub import Asked, Fault, Hub
from .naming import add_item, create_branch, create_tag, get_collection, list_collections, refs
from .reading import info, resolve, tree
from .request import CutError, Request
from .writing import batch, complete, create, make_commit, preupload, put, put_part, validate_yaml, verify, whoami


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


def answer(request: Request) -> None:
    """Answer, or let go wrong, one request."""
    handler, hub = request.handler, request.hub
    kind, act, found = route(request)
    groups = {name: unquote(value) for name, value in found.groupdict().items()} if found else {}
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
        if method == request.handler.command.replace("HEAD", "GET") and (
            found := re.fullmatch(pattern, request.address)
        ):
            return kind, act, found
    return "unknown", lambda request: request.refuse(404, f"no such address: {request.address}"), None


SLUG = r"(?P<slug>[^/]+/[^/]+)"
REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
DATASET = r"(?P<repo>datasets/[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, str, Action]] = [
    ("whoami", "GET", "/api/whoami-v2", whoami),
    ("create", "POST", "/api/repos/create", create),
    ("yaml", "POST", "/api/validate-yaml", validate_yaml),
    ("info", "GET", f"/api/models/{REPO}", info),
    ("info", "GET", f"/api/models/{REPO}/revision/{REVISION}", info),
    ("tree", "GET", f"/api/models/{REPO}/tree/{REVISION}/?(?P<folder>.*)", tree),
    ("info", "GET", f"/api/{DATASET}/revision/{REVISION}", info),
    ("tree", "GET", f"/api/{DATASET}/tree/{REVISION}/?(?P<folder>.*)", tree),
    ("refs", "GET", f"/api/models/{REPO}/refs", refs),
    ("branch", "POST", f"/api/models/{REPO}/branch/(?P<name>[^/]+)", create_branch),
    ("tag", "POST", f"/api/models/{REPO}/tag/{REVISION}", create_tag),
    ("collections", "GET", "/api/collections", list_collections),
    ("collection", "GET", f"/api/collections/{SLUG}", get_collection),
    ("item", "POST", f"/api/collections/{SLUG}/items", add_item),
    ("preupload", "POST", f"/api/models/{REPO}/preupload/{REVISION}", preupload),
    ("commit", "POST", f"/api/models/{REPO}/commit/{REVISION}", make_commit),
    ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch", batch),
    ("verify", "POST", rf"/{REPO}\.git/info/lfs/objects/verify", verify),
    ("put", "PUT", "/store/(?P<file>[^/]+)", put),
    ("part", "PUT", r"/store/(?P<file>[^/]+)/(?P<part>\d+)", put_part),
    ("complete", "POST", "/store/(?P<file>[^/]+)/complete", complete),
    ("resolve", "GET", f"/{DATASET}/resolve/{REVISION}/(?P<file>.+)", resolve),
    ("resolve", "GET", f"/{REPO}/resolve/{REVISION}/(?P<file>.+)", resolve),
]
