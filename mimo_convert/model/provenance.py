"""Provenance of a file: the base model, its revision and shards, intermediate files, and the tool that wrote it.

It contains no times and no names of the machine, so that equal input gives equal files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gguf import GGUFValueType

from mimo_convert.formats.gguf import Entry, GGUFFile
from quantize.types import TYPES

from .adapter import Adapter
from .checkpoint import REPO, REVISION

BASE = "general.base_model"
VERSION = "mimo_convert.version"
SHARDS = "mimo_convert.shards"
ADAPTER = "mimo_convert.adapter"  # sha256 of its files, as of the shards
ADAPTER_NAME = "mimo_convert.adapter.name"
ADAPTER_MODEL = "mimo_convert.adapter.model"  # the Hub's id of its repository, if that is not its base's
ADAPTER_OMITTED = "mimo_convert.adapter.omitted"  # the folder of one in the repository of the base, by --adapter none
IMATRIX = "mimo_convert.imatrix"  # the sha256 of the importance matrix
FEEDBACK = "mimo_convert.feedback"  # the method of each matrix: a line `name=method`
IMATRIX_FILE = "quantize.imatrix.file"  # what it was called; llama.cpp's key
IMATRIX_DATASET = "quantize.imatrix.dataset"  # what it was collected from; llama.cpp's key
QUANTIZED_FROM = "mimo_convert.quantized_from"
HUB = "https://huggingface.co/"
NOT_READ = "0" * 64  # in place of the sha256 of a shard that is yet to be read
MOST_BETWEEN = 16  # files that may lie between a file and its checkpoint
COMPLETE_SINCE = (0, 6)  # the version from which on files of floats, too, are recorded
ADAPTER_ID = re.compile(rf"{REPO.pattern}(@{REVISION.pattern})?", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
SHARD_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it


@dataclass(frozen=True)
class Intermediate:
    """A GGUF file between another file and its checkpoint.

    `type` is its declared type; `types` are those of tensors whose type does not follow from it, by their names with Q,
    K and V separate; `quantizer` its backends, `version` the mimo-convert that wrote it, each empty if not recorded.
    """

    type: str
    types: Mapping[str, str] = field(default_factory=dict)
    quantizer: str = ""
    version: str = ""


@dataclass(frozen=True)
class Provenance:
    """What a file records of its origin; empty is what it does not record.

    `repo` is the base model's id on the Hub, `revision` its commit; `shards` the sha256 of each shard; `version` that
    of mimo-convert; `adapter` the sha256 of each file of the adapter, `adapter_name` and `adapter_model` (OWNER/NAME or
    OWNER/NAME@REVISION) what it is; `adapter_omitted` the adapter in the repository of the base that was not merged;
    `imatrix` is the sha256 of the importance matrix, `imatrix_file` what its file was called, `imatrix_dataset` what it
    was collected from, `feedback` the methods of matrices as text;
    `intermediates` the files in between, in order, as far as they may have changed a weight.
    """

    name: str = ""
    repo: str = ""
    revision: str = ""
    shards: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    intermediates: tuple[Intermediate, ...] = ()
    adapter: Mapping[str, str] = field(default_factory=dict)
    adapter_name: str = ""
    adapter_model: str = ""
    adapter_omitted: str = ""
    imatrix: str = ""
    imatrix_file: str = ""
    imatrix_dataset: str = ""
    feedback: str = ""

    @property
    def quantized_from(self) -> tuple[str, ...]:
        """The types of the intermediate files."""
        return tuple(between.type for between in self.intermediates)

    @property
    def is_complete(self) -> bool:
        """Whether all intermediate files are recorded: versions before COMPLETE_SINCE did not record files of
        floats."""
        versions = [self.version, *(between.version for between in self.intermediates)]
        return all(is_since(version, COMPLETE_SINCE) for version in versions)


NO_PROVENANCE = Provenance()


def provenance_of(file: GGUFFile) -> Provenance:
    """Read the provenance of `file`; malformed values are ignored."""

    def text(key: str) -> str:
        value = file.metadata.get(key)
        return value if isinstance(value, str) else ""

    repo = text(f"{BASE}.0.repo_url").removeprefix(HUB)
    return Provenance(
        name=text(f"{BASE}.0.name"),
        repo=repo if REPO.fullmatch(repo) else "",
        revision=text(f"{BASE}.0.version"),
        shards=hashes_of_text(text(SHARDS)),
        version=text(VERSION),
        adapter=hashes_of_text(text(ADAPTER)),
        adapter_name=text(ADAPTER_NAME),
        adapter_model=adapter_model if ADAPTER_ID.fullmatch(adapter_model := text(ADAPTER_MODEL)) else "",
        adapter_omitted=text(ADAPTER_OMITTED),
        imatrix=imatrix if SHA256.fullmatch(imatrix := text(IMATRIX)) else "",
        imatrix_file=text(IMATRIX_FILE),
        imatrix_dataset=text(IMATRIX_DATASET),
        feedback=text(FEEDBACK),
        intermediates=tuple(_intermediates(text(QUANTIZED_FROM), text)),
    )


def _intermediates(types: str, text: Callable[[str], str]) -> Iterator[Intermediate]:
    """The recorded intermediate files; none if there are too many, or a type is unknown."""
    names = types.split(", ", MOST_BETWEEN)
    if not TYPES.keys() >= set(names) or len(names) > MOST_BETWEEN:
        return
    for i, type_name in enumerate(names):
        lines = [line.rpartition("=") for line in text(f"{QUANTIZED_FROM}.{i}.types").splitlines()]
        yield Intermediate(
            type_name,
            {name: other for name, _, other in lines if name and other in TYPES},
            text(f"{QUANTIZED_FROM}.{i}.quantizer"),
            text(f"{QUANTIZED_FROM}.{i}.version"),
        )


def quantized_from_text(before: Sequence[Intermediate], last: Intermediate) -> dict[str, str]:
    """Keys and texts that record `last` after the intermediates that are recorded already."""
    key = f"{QUANTIZED_FROM}.{len(before)}"
    return {
        QUANTIZED_FROM: ", ".join(between.type for between in (*before, last)),
        f"{key}.types": "\n".join(f"{name}={type_name}" for name, type_name in last.types.items()),
        f"{key}.quantizer": last.quantizer,
        f"{key}.version": last.version,
    }


def is_since(version: str, first: tuple[int, int]) -> bool:
    """Whether `version`, such as 0.6.0 or 1.0rc1, is at least `first`; False if it is malformed."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})", version, re.ASCII)
    return found is not None and (int(found[1]), int(found[2])) >= first


def base_model_entries(name: str, repo: str, revision: str) -> list[Entry]:
    """The general.base_model entries (ggml/docs/gguf.md)."""
    told = {f"{BASE}.0.name": name}
    if repo:
        told |= {f"{BASE}.0.organization": repo.split("/")[0], f"{BASE}.0.repo_url": f"{HUB}{repo}"}
    if revision:
        told[f"{BASE}.0.version"] = revision
    count = Entry(f"{BASE}.count", 1, GGUFValueType.UINT32)
    return [count, *(Entry(key, text, GGUFValueType.STRING) for key, text in told.items())]


def adapter_entries(adapter: Adapter) -> list[Entry]:
    """The metadata about an adapter: its name, its repository, if that is known, and the sha256 of its files in the
    format of `sha256sum`."""
    text = "".join(shard_line(file, sha256) for file, sha256 in adapter.hashes.items())
    told = {ADAPTER_NAME: adapter.name, ADAPTER_MODEL: adapter.model, ADAPTER: text}
    return [Entry(key, value, GGUFValueType.STRING) for key, value in told.items() if value]


def shards_text(names: Iterable[str]) -> str:
    """The shards in the format of `sha256sum`, with placeholders for the hashes."""
    return "".join(shard_line(name, NOT_READ) for name in sorted(set(names)))


def hashes_of_text(shards: str) -> dict[str, str]:
    """The hash of each shard by its name, from text in the format of `sha256sum`; other lines are ignored."""
    lines = [SHARD_LINE.fullmatch(line) for line in shards.splitlines()]
    return {line[2]: line[1] for line in lines if line}


def with_hashes(shards: str, hashes: Mapping[str, str]) -> str:
    """Replace placeholders by known hashes; the length does not change."""
    for name, sha256 in hashes.items():
        shards = shards.replace(shard_line(name, NOT_READ), shard_line(name, sha256))
    return shards


def shard_line(name: str, sha256: str) -> str:
    """A line in the format of `sha256sum`; a file name that is not UTF-8 is replaced."""
    return f"{sha256}  {name.encode(errors='replace').decode()}\n"
