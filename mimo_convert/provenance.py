"""What a file says of where it comes from: the base model, its revision and shards, and the tool that wrote it.

There are no times and no names of this machine in it, so that equal input gives an equal file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from gguf import GGUFValueType

from quantize.types import TYPES

from .checkpoint import REPO
from .gguf_file import Entry, GGUFFile

BASE = "general.base_model"
VERSION = "mimo_convert.version"
SHARDS = "mimo_convert.shards"
QUANTIZED_FROM = "mimo_convert.quantized_from"
HUB = "https://huggingface.co/"
NOT_READ = "0" * 64  # in place of the sha256 of a shard that is yet to be read
MOST_BETWEEN = 16  # files that may lie between a file and its checkpoint
COMPLETE_SINCE = (0, 6)  # the version from which on files of floats, too, are recorded
SHARD_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it


@dataclass(frozen=True)
class Intermediate:
    """A GGUF file that lay between another and the checkpoint.

    `type` is the one that it said most of it was; `types` are those of the tensors whose type does not follow from
    that, by their names with Q, K and V apart; `quantizer` is what made its blocks, `version` the mimo-convert that
    wrote it, each empty if that was not recorded.
    """

    type: str
    types: Mapping[str, str] = field(default_factory=dict)
    quantizer: str = ""
    version: str = ""


@dataclass(frozen=True)
class Provenance:
    """By a file's own account; empty is what it does not say.

    `repo` is the base model's id on the Hub, `revision` its commit there; `shards` the sha256 of each file of weights;
    `version` that of mimo-convert; `intermediates` the files that lay between, the first one first, as far as they may
    have changed a weight.
    """

    name: str = ""
    repo: str = ""
    revision: str = ""
    shards: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    intermediates: tuple[Intermediate, ...] = ()

    @property
    def quantized_from(self) -> tuple[str, ...]:
        """The types of the files that lay between."""
        return tuple(between.type for between in self.intermediates)

    @property
    def is_complete(self) -> bool:
        """Whether no file that lay between can be missing: earlier versions did not record those of floats."""
        versions = [self.version, *(between.version for between in self.intermediates)]
        return all(is_since(version, COMPLETE_SINCE) for version in versions)


NOTHING_TOLD = Provenance()


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
        intermediates=tuple(_intermediates(text(QUANTIZED_FROM), text)),
    )


def _intermediates(types: str, text: Callable[[str], str]) -> Iterator[Intermediate]:
    """What is recorded of each file that lay between; nothing at all if there are too many, or types unknown."""
    names = types.split(", ", MOST_BETWEEN)
    if not TYPES.keys() >= set(names) or len(names) > MOST_BETWEEN:
        return
    for i, type in enumerate(names):
        lines = [line.rpartition("=") for line in text(f"{QUANTIZED_FROM}.{i}.types").splitlines()]
        yield Intermediate(
            type,
            {name: other for name, _, other in lines if name and other in TYPES},
            text(f"{QUANTIZED_FROM}.{i}.quantizer"),
            text(f"{QUANTIZED_FROM}.{i}.version"),
        )


def quantized_from_text(before: Sequence[Intermediate], last: Intermediate) -> dict[str, str]:
    """Keys and texts that `provenance_of` reads the last one from, behind those that are recorded already."""
    key = f"{QUANTIZED_FROM}.{len(before)}"
    return {
        QUANTIZED_FROM: ", ".join(between.type for between in (*before, last)),
        f"{key}.types": "\n".join(f"{name}={type}" for name, type in last.types.items()),
        f"{key}.quantizer": last.quantizer,
        f"{key}.version": last.version,
    }


def is_since(version: str, first: tuple[int, int]) -> bool:
    """Whether `version`, 0.6.0 or 1.0rc1, is `first`, or a later one; not if it is in another form."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})", version, re.ASCII)
    return found is not None and (int(found[1]), int(found[2])) >= first


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
