"""A webhook on this machine: what it was sent, and what it answers."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "/services/T00/B00/verySecretPart"


@dataclass
class Receiver:
    """The address; what was posted there; and the statuses and headers of its next answers (else 200)."""

    url: str = ""
    posted: list[bytes] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    hangs: threading.Event | None = None

    @property
    def texts(self) -> list[str]:
        """The texts of what was posted, as whoever shows them does."""
        texts = [json.loads(body)["text"] for body in self.posted]
        entities = (("\u200b", ""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
        for entity, character in entities:
            texts = [text.replace(entity, character) for text in texts]
        return texts


@contextmanager
def receiving(answers: Sequence[int] = (), headers: dict[str, str] | None = None) -> Iterator[Receiver]:
    """A receiver, until the end of the block."""
    found = Receiver(answers=[*answers], headers=headers or {})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            found.types.append(self.headers["Content-Type"])
            if found.hangs:
                found.hangs.wait(30)
            self.send_response(found.answers.pop(0) if found.answers else 200, f"no such hook as {self.path}")
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(f"you asked for {self.path}".encode())

        do_GET = do_POST  # noqa: N815 (of who follows a redirect)

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        if found.hangs:
            found.hangs.set()
        server.shutdown()
        server.server_close()
