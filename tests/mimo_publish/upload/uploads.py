"""Files to publish, and what a Hub has after an upload."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from mimo_convert.sources.hub_listing import HubFile
from mimo_publish.destination import Destination
from mimo_publish.upload.changes import LocalFile, compare
from mimo_publish.upload.commit import Published, upload
from mimo_publish.upload.remote import Remote, look
from mimo_publish.upload.verify import verify
from quantize.errors import InputError
from tests.hub_server import Asked, Fault, Hub, read

TOKEN, REPO = "hf_SecretSecretSecret", "alice/mimo-gguf"
CARD = b"---\nlicense: mit\n---\n# A model\n"
ASR, SPEECH = "asr-q8_0.gguf", "tokenizer-q8_0.gguf"


def local_file(path: Path) -> LocalFile:
    data = path.read_bytes()
    header = gguf.GGUFReader(path).data_offset if path.suffix == ".gguf" else 0
    return LocalFile(path.name, path, len(data), hashlib.sha256(data).hexdigest(), header)


def write_gguf(path: Path, seed: int, n: int) -> None:
    """A file of n kB and a little more, by the library of others."""
    writer = gguf.GGUFWriter(path, "test")
    writer.add_description(f"seed {seed}")
    writer.add_tensor("weights", np.random.default_rng(seed).normal(size=(n, 256)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def publish(files: list[LocalFile], repo: str = REPO, **how: Any) -> tuple[str, list[str]]:
    """All steps; the commit, and what was told."""
    told: list[str] = []
    to = Destination(repo, **how)
    made = send(look(to), to, files, told.append)
    assert verify(repo, made.commit, files) == []
    return made.commit, told


def send(
    remote: Remote, to: Destination, files: Sequence[LocalFile], tell: Callable[[str], None] = print,
    deleted: Sequence[HubFile] = (),
) -> Published:  # fmt: skip
    """One commit of the files that are new."""
    return upload(remote, to, compare(remote, files), deleted, "Q8_0 files", tell)


def failure(do: Callable[[], object]) -> str:
    """The one line of what goes wrong."""
    with pytest.raises(InputError) as caught:
        do()
    line = str(caught.value)
    assert "\n" not in line
    assert TOKEN not in line
    return line


def messages(hub: Hub, repo: str = REPO) -> list[str]:
    return [snapshot.message for snapshot in hub.written[repo].commits] if repo in hub.written else []


def contents(hub: Hub, repo: str = REPO) -> dict[str, bytes]:
    found = {name: read(file) for name, file in hub.written[repo].commits[-1].files.items()}
    del found[".gitattributes"]
    return found


def once(wrong: Fault, *kinds: str) -> Callable[[Asked], Fault | None]:
    """The first request of each kind goes wrong."""
    left = set(kinds)

    def before(asked: Asked) -> Fault | None:
        if asked.kind not in left:
            return None
        left.remove(asked.kind)
        return wrong

    return before


def always(wrong: Fault, kind: str) -> Callable[[Asked], Fault | None]:
    return lambda asked: wrong if asked.kind == kind else None
