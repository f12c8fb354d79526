"""Connections that are cut and processes that are killed: what has arrived is not asked for again."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.hub_server import Asked, Fault, Hub

from .fetching import MIB, NAME, OTHER, REPO, Client, once, random_bytes, sha256


def test_a_connection_that_is_cut_in_mid_file_is_gone_on_with(client: Client, hub: Hub) -> None:
    cuts = [MIB + 5, 2 * MIB + 5]
    hub.before = lambda asked: Fault(cut=cuts.pop()) if cuts and asked.kind == "resolve" else None
    found = client.fetch()
    assert found.paths[NAME].read_bytes() == random_bytes(1)
    assert client.asked() == [(NAME, "0-"), (NAME, f"{2 * MIB}-"), (NAME, f"{3 * MIB}-")]
    assert "the connection was cut; resuming at 2.10 MB" in found.said


def test_a_line_that_is_cut_again_and_again_is_gone_on_with_the_next_run(client: Client, hub: Hub) -> None:
    faults = [Fault(cut=100)] * 10 + [Fault(cut=MIB)]
    hub.before = lambda asked: faults.pop() if asked.kind == "resolve" else None
    line = client.refused()
    assert line.startswith(f"{REPO}/{NAME}: cannot be downloaded: the connection failed")
    assert len(client.asked()) == 5  # what came of the first was worth going on
    assert [name.rpartition(".")[2] for name in client.contents()] == ["part"]
    hub.before = lambda asked: None
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert client.asked() == [(NAME, f"{MIB}-")]


def killed_in_mid_file(client: Client, hub: Hub, repo: str = REPO) -> None:
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
    process = client.start(repo)
    assert waits.wait(20)
    os.kill(process, signal.SIGKILL)
    assert client.processes.status() == -signal.SIGKILL
    killed.set()
    hub.before = lambda asked: None
    client.asked()


def test_a_process_that_was_killed_is_gone_on_with(client: Client, hub: Hub) -> None:
    killed_in_mid_file(client, hub)
    assert [name.rpartition(".")[2] for name in client.contents()] == ["part"]
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert client.asked() == [(NAME, f"{2 * MIB}-")]
    assert client.contents() == [NAME]


def test_a_process_that_was_killed_between_the_last_byte_and_the_name_asks_for_nothing(client: Client) -> None:
    path = client.fetch().paths[NAME]
    client.asked()
    path.rename(path.with_name(f"{NAME}.{sha256(random_bytes(1))}.part"))
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)
    assert client.asked() == []


def test_the_part_of_one_version_is_never_gone_on_with_as_another(client: Client, hub: Hub) -> None:
    killed_in_mid_file(client, hub)
    hub.put(REPO, {NAME: random_bytes(5)})
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(5)
    assert client.asked() == [(NAME, "0-")]
    assert client.contents() == [NAME]


def test_the_part_of_another_target_stays_for_its_own_run(client: Client, hub: Hub) -> None:
    killed_in_mid_file(client, hub)
    hub.put(OTHER, {NAME: random_bytes(5)})
    client.fetch(OTHER)
    client.asked()
    client.fetch()
    assert client.asked() == [(NAME, f"{2 * MIB}-")]


def test_a_part_that_was_damaged_on_the_disk_does_not_become_a_file(client: Client, hub: Hub) -> None:
    killed_in_mid_file(client, hub)
    [part] = client.cache.rglob("*.part")
    part.write_bytes(bytes(2 * MIB))
    assert "it changed while it was downloaded, or was damaged on the way" in client.refused()
    assert client.contents() == []
    part.write_bytes(bytes(9 * MIB))
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)


def test_a_server_that_sends_all_of_a_file_instead_of_the_rest_is_understood(client: Client, hub: Hub) -> None:
    """As some that stand between the Hub and a user do."""
    killed_in_mid_file(client, hub)
    with serve_whole(random_bytes(1)) as (url, tokens):
        hub.before = once(Fault(status=302, headers={"Location": url}))
        assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)
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
