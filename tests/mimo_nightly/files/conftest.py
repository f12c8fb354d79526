"""A Hub with one repository, and somebody who fetches from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import Hub, serve

from .fetching import MIB, NAME, REPO, TOKENIZER, Client, Processes, random_bytes


@pytest.fixture(scope="session")
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
def client(tmp_path: Path, hub: Hub, running: tuple[Hub, Processes]) -> Client:
    return Client(tmp_path / "cache", hub, running[1])
