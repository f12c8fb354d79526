"""What a file says of where it comes from: the base model, its revision and shards, and the tool that wrote it.

There are no times and no names of this machine in it, so that equal input gives an equal file.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from gguf import GGUFValueType

from .checkpoint import REPO
from .gguf_file import Entry, GGUFFile

BASE = "general.base_model"
VERSION = "mimo_convert.version"
SHARDS = "mimo_convert.shards"
QUANTIZED_FROM = "mimo_convert.quantized_from"
HUB = "https://huggingface.co/"
NOT_READ = "0" * 64  # in place of the sha256 of a shard that is yet to be read
SHARD_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it


@dataclass(frozen=True)
class Provenance:
    """By a file's own account; empty is what it does not say.

    `repo` is the base model's id on the Hub, `revision` its commit there; `shards` the sha256 of each file of weights;
    `version` that of mimo-convert; `quantized_from` the types of the quantized files that lay between, the first one
    first. Files of plain floats count as the checkpoint: what is made of them is the same, where they hold its weights.
    """

    name: str = ""
    repo: str = ""
    revision: str = ""
    shards: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    quantized_from: tuple[str, ...] = ()


def provenance_of(file: GGUFFile) -> Provenance:
    """What `file` says of itself; whatever is not in the form that it should have is as if it were not there."""

    def text(key: str) -> str:
        value = file.metadata.get(key)
        return value if isinstance(value, str) else ""

    repo = text(f"{BASE}.0.repo_url").removeprefix(HUB)
    lines = [SHARD_LINE.fullmatch(line) for line in text(SHARDS).splitlines()]
    return Provenance(
        name=text(f"{BASE}.0.name"),
        repo=repo if REPO.fullmatch(repo) else "",
        revision=text(f"{BASE}.0.version"),
        shards={line[2]: line[1] for line in lines if line},
        version=text(VERSION),
        quantized_from=tuple(filter(None, text(QUANTIZED_FROM).split(", "))),
    )


def base_model_entries(name: str, repo: str, revision: str) -> list[Entry]:
    """The base model as the format's own keys give it (ggml/docs/gguf.md, general.base_model)."""
    told = {f"{BASE}.0.name": name}
    if repo:
        told |= {f"{BASE}.0.organization": repo.split("/")[0], f"{BASE}.0.repo_url": f"{HUB}{repo}"}
    if revision:
        told[f"{BASE}.0.version"] = revision
    count = Entry(f"{BASE}.count", 1, GGUFValueType.UINT32)
    return [count, *(Entry(key, text, GGUFValueType.STRING) for key, text in told.items())]


def tool_version() -> str:
    """The version of mimo-convert."""
    return version("mimo-convert")


def shards_text(names: Iterable[str]) -> str:
    """The files of weights as `sha256sum` lists them, before their hashes are known."""
    return "".join(shard_line(name, NOT_READ) for name in sorted(set(names)))


def with_hashes(shards: str, hashes: Mapping[str, str]) -> str:
    """The same text, of the same length, with the hashes that are known."""
    for name, sha256 in hashes.items():
        shards = shards.replace(shard_line(name, NOT_READ), shard_line(name, sha256))
    return shards


def shard_line(name: str, sha256: str) -> str:
    """A line of the list; a file's name need not be UTF-8."""
    return f"{sha256}  {name.encode(errors='replace').decode()}\n"
