"""What the Hub, the network and the disk refuse is one line, and what is not needed makes room."""

from pathlib import Path

import pytest
from gguf import GGUFValueType

from mimo_convert.formats.gguf import ARCHITECTURE, Entry, align, make_header, read_gguf
from mimo_convert.write.convert import convert
from mimo_nightly.files.cache import MARGIN
from mimo_nightly.history import HEADER, WHOLE, FileRow
from quantize.types import TYPES
from tests.hub_server import Fault, Hub
from tests.opened import lint, make_request, open_tiny, options_of

from .fetching import MIB, NAME, OTHER, REPO, THIRD, TOKENIZER, Client, Processes, random_bytes, sha256
from .test_resume import killed_in_mid_file


@pytest.mark.parametrize("n", [0, 4 * MIB, 4 * MIB - 3, 4 * MIB + 3])
def test_a_file_that_changes_between_the_listing_and_the_download_is_refused(client: Client, hub: Hub, n: int) -> None:
    other = random_bytes(6, n)
    hub.before = lambda asked: Fault(content=other) if asked.kind == "resolve" else None
    line = client.refused()
    if n:
        assert f"{REPO}/{NAME}: has sha256 {sha256(other)}, the listing says {sha256(random_bytes(1))}: it cha" in line
    assert client.contents() == []
    hub.before = lambda asked: None
    assert client.fetch().paths[NAME].read_bytes() == random_bytes(1)


def test_a_busy_hub_is_asked_again(client: Client, hub: Hub) -> None:
    faults = [Fault(status=429, headers={"Retry-After": "0"}), Fault(status=503), Fault(cut=0)]
    hub.before = lambda asked: faults.pop() if faults and asked.kind == "resolve" else None
    found = client.fetch()
    assert found.paths[NAME].read_bytes() == random_bytes(1)
    assert len(client.asked()) == 4
    assert "the Hub is asked too often (HTTP 429); trying again in 0 s" in found.said


@pytest.mark.parametrize("kind", ["info", "resolve"])
@pytest.mark.parametrize(
    ("status", "says"), [(401, "token"), (404, ""), (429, "asked too often"), (500, "trouble of its own")]
)
def test_what_the_hub_refuses_is_one_line(client: Client, hub: Hub, kind: str, status: int, says: str) -> None:
    hub.before = lambda asked: Fault(status, {"Retry-After": "0"}) if asked.kind == kind else None
    line = client.refused()
    where, what = {"info": (f"{REPO}@main", "cannot be listed"), "resolve": (f"{REPO}/{NAME}", "cannot be downloaded")}[
        kind
    ]
    assert line.startswith(f"{where}: {what}: ")
    assert f"(HTTP {status})" in line
    assert says in line


def test_what_is_not_there_is_one_line(client: Client, hub: Hub) -> None:
    assert client.refused("Nobody/Nothing").startswith("Nobody/Nothing@main: cannot be listed: no such repository")
    assert f"{REPO}@v9: cannot be listed: there is no such revision" in client.refused(revision="v9")
    line = client.refused(REPO, TOKENIZER, "lm-q4_k.gguf")
    assert line == f"{REPO}@main: has no file lm-q4_k.gguf; expected {NAME}, {TOKENIZER}"
    hub.put(OTHER, {"README.md": b""})
    assert client.refused(OTHER).endswith(f"has no file {NAME}; expected a GGUF file, and it has none")
    assert client.refused("no name").startswith("no name@main: cannot be listed: ")


def test_no_network_is_one_line(client: Client, tmp_path: Path) -> None:
    client.processes = Processes("http://127.0.0.1:9", tmp_path)
    state = f"; the cache {client.cache} holds no files of it; check the network"
    line = client.refused()
    assert line.startswith(f"{REPO}@main: cannot be listed: the connection failed: ")
    assert state in line
    client.processes.end()


def test_offline_is_said_as_offline_with_what_the_cache_holds(client: Client, tmp_path: Path) -> None:
    client.fetch(REPO, NAME, TOKENIZER)
    client.processes = Processes("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    off = "the network is switched off by HF_HUB_OFFLINE"
    state = f"the cache {client.cache} holds 2 files of it, maybe outdated"
    assert client.refused() == f"{REPO}@main: cannot be listed: {off}; {state}; unset HF_HUB_OFFLINE"
    client.processes.end()


def test_a_cache_that_cannot_be_one_is_one_line(client: Client) -> None:
    client.cache.write_text("not a folder")
    assert client.refused().startswith(f"{client.cache}: cannot be used as a cache: ")


def test_what_was_not_needed_for_longest_makes_room(client: Client, hub: Hub) -> None:
    for i, repo in enumerate((OTHER, THIRD)):
        hub.put(repo, {NAME: random_bytes(10 + i)})
    first, second = client.fetch().paths[NAME], client.fetch(OTHER).paths[NAME]
    client.fetch()  # needed again
    client.capacity = MARGIN + 8 * MIB + 100_000
    (client.cache / "mine.txt").write_text("not a file of the nightly job's")
    third = client.fetch(THIRD)
    assert third.scope == WHOLE
    assert f"{second}: deleted, to make room" in third.said
    assert [path.exists() for path in (first, second, third.paths[NAME])] == [True, False, True]
    client.capacity = MARGIN + 4 * MIB + 100_000
    client.fetch(OTHER)
    assert [path.exists() for path in (first, second, third.paths[NAME])] == [False, True, False]
    assert client.contents() == [NAME, "mine.txt"]


def test_what_is_needed_now_is_not_deleted_for_the_rest(client: Client, hub: Hub) -> None:
    client.fetch(REPO, NAME)
    hub.put(OTHER, {NAME: random_bytes(10)})
    client.fetch(OTHER)
    client.asked()
    client.capacity = MARGIN + 5 * MIB + 100_000
    assert client.fetch(REPO, NAME, TOKENIZER).scope == WHOLE
    assert client.asked() == [(TOKENIZER, "0-")]


def test_a_part_counts_for_what_is_still_to_come(client: Client, hub: Hub) -> None:
    killed_in_mid_file(client, hub)
    client.capacity = MARGIN + 4 * MIB + 100_000
    assert client.fetch().scope == WHOLE


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A speech LM's file that is as it should be."""
    out = tmp_path_factory.mktemp("lm")
    [plan] = convert([make_request(open_tiny(), [TYPES["f16"]], options_of())], out, threads=2)
    return (out / plan.file_name).read_bytes()


def test_of_what_no_disk_can_hold_the_header_is_examined(client: Client, hub: Hub, lm: bytes) -> None:
    hub.put(OTHER, {NAME: lm, TOKENIZER: random_bytes(2, MIB)})
    client.fetch()
    client.asked()
    client.capacity = MARGIN + len(lm)
    found = client.fetch(OTHER, NAME, TOKENIZER)
    assert found.scope == HEADER
    assert client.contents() == [NAME, f"{NAME}.header", f"{TOKENIZER}.header"], "nothing is deleted in vain"
    path = found.paths[NAME]
    assert (path.stat().st_size, path.name) == (len(lm), f"{NAME}.header")
    assert path.stat().st_blocks * 512 < len(lm) / 2
    assert found.rows[0] == FileRow(NAME, sha256(lm), len(lm), found.commit, sha256(lm))
    checked = lint(path, 2, weights=False)
    assert checked.passed
    assert {"vocabulary", "types", "shapes"} <= {rule.name for rule in checked.rules}
    rules = lint(found.paths[TOKENIZER], 2, weights=False).rules
    [problem] = [finding for rule in rules for finding in rule.findings]
    assert problem == "not a GGUF file; expected a file that begins with the bytes GGUF"
    assert [(file, limits) for file, limits in client.asked() if file == NAME] == [(NAME, f"0-{MIB - 1}")]
    client.capacity = 1 << 40
    assert client.fetch(OTHER, NAME, TOKENIZER).scope == WHOLE
    assert client.contents() == [NAME, NAME, TOKENIZER]


def test_a_header_is_asked_for_until_it_is_complete(client: Client, hub: Hub) -> None:
    words = [f"word {i:032}" for i in range(60_000)]
    tensors = [("a", (1024, 1024), TYPES["f32"]), ("b", (1024, 1024), TYPES["f32"])]
    entries = [Entry("tokenizer.ggml.tokens", words, GGUFValueType.STRING)]
    header = make_header("mimo_asr", entries, tensors).data
    assert 2 * MIB < len(header) < 4 * MIB
    data = header + bytes(8 * MIB)
    hub.put(OTHER, {NAME: data})
    client.capacity = MARGIN
    path = client.fetch(OTHER).paths[NAME]
    assert client.asked() == [(NAME, f"{begin * MIB}-{end * MIB - 1}") for begin, end in ((0, 1), (1, 2), (2, 4))]
    file = read_gguf(path)
    assert (file.metadata["tokenizer.ggml.tokens"], file.size) == (words, len(data))
    assert path.read_bytes()[: len(header)] == header
    assert file.tensors["a"].begin == align(len(header))
    assert file.metadata[ARCHITECTURE] == "mimo_asr"
