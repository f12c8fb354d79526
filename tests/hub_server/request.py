"""A request while it is answered: its parts, its body and its answer."""

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .hub import Asked, Fault, Hub

CHUNK = 1 << 16  # bytes of a request's body read at once


class CutError(ConnectionError):
    """A connection that ends here."""


class Request:
    """One request while it is answered: its parts, its body and its answer."""

    def __init__(self, handler: BaseHTTPRequestHandler, hub: Hub) -> None:
        self.handler, self.hub, self.headers = handler, hub, handler.headers
        self.address, self.query = urlsplit(handler.path).path, parse_qs(urlsplit(handler.path).query)
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
