"""What a file says of where it comes from: the base model, its revision and shards, and the tool that wrote it.

There are no times and no names of this machine in it, so that equal input gives an equal file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .gguf_file import GGUFFile

BASE = "general.base_model.0"
VERSION = "mimo_convert.version"
SHARDS = "mimo_convert.shards"
QUANTIZED_FROM = "mimo_convert.quantized_from"
HUB = "https://huggingface.co/"
UNKNOWN_SHA256 = "0" * 64  # in a plan, before its shards were read
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it


@dataclass(frozen=True)
class Provenance:
    """By a file's own account; empty is what it does not say.

    `repo` is the base model's id on the Hub, `revision` its commit there; `shards` the sha256 of each file of weights;
    `version` that of mimo-convert; `quantized_from` the type of the GGUF file that this one was made from.
    """

    name: str = ""
    repo: str = ""
    revision: str = ""
    shards: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    quantized_from: str = ""


def provenance_of(file: GGUFFile) -> Provenance:
    """What `file` says of itself; whatever is not in the form that it should have is as if it were not there."""

    def text(key: str) -> str:
        value = file.metadata.get(key)
        return value if isinstance(value, str) else ""

    repo = text(f"{BASE}.repo_url").removeprefix(HUB)
    lines = [SHARD_LINE.fullmatch(line) for line in text(SHARDS).splitlines()]
    return Provenance(
        name=text(f"{BASE}.name"),
        repo=repo if REPO.fullmatch(repo) else "",
        revision=text(f"{BASE}.version"),
        shards={line[2]: line[1] for line in lines if line},
        version=text(VERSION),
        quantized_from=text(QUANTIZED_FROM),
    )
