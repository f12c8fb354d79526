"""A Hugging Face checkpoint: its config, its tokenizer files, and where its tensors lie.

Every shard's header is checked (`safetensors_file`) before a weight is used.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantize.errors import InputError

from .files import input_errors
from .hub_folder import repository_of
from .json_file import SURROGATE, read_json
from .safetensors_file import read_header
from .shards import LocalShards
from .stored import StoredTensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]{0,199}", re.ASCII)  # of a repository: git's rules, and no path upwards
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # an id of the Hub
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Config:
    """A JSON object whose values are asked for by dotted key and type; a wrong or missing one is an InputError."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def get(self, *keys: str, kind: type = int, default: Any = None) -> Any:
        """The value of the first of `keys` that is there ("audio_config.group_size" looks inside)."""
        for key in keys:
            value = self._find(key)
            if value is None:
                continue
            if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < FLOAT32_MAX:
                value = float(value)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise InputError(self.path, f"{key} is {value!r}", expected=f"a value of type {kind.__name__}")
            if isinstance(value, float) and not abs(value) <= FLOAT32_MAX:
                raise InputError(self.path, f"{key} is {value!r}", expected="a number that float32 can hold")
            if isinstance(value, str) and SURROGATE.search(value):
                raise InputError(self.path, f"{key} is {value!r}", expected="text that UTF-8 can hold")
            return value
        if default is None:
            raise InputError(self.path, f"{keys[0]} is missing", todo="complete config.json")
        return default

    def _find(self, key: str) -> Any:
        """The value under a dotted key, or None."""
        value: Any = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def positive(self, *keys: str, default: Any = None, most: int = (1 << 31) - 1) -> int:
        """An int from 1 to `most`."""
        value = int(self.get(*keys, default=default))
        if not 1 <= value <= most:
            key = next((key for key in keys if self._find(key) is not None), keys[0])
            raise InputError(self.path, f"{key} is {value}", expected=f"a positive number of at most {most}")
        return value

    def must_be(self, key: str, *allowed: Any) -> None:
        """What the conversion cannot express must not be asked for: `key`, where present, is one of `allowed`."""
        value = self._find(key)
        if value is not None and value not in allowed:
            choice = " or ".join(json.dumps(a) for a in allowed)
            raise InputError(self.path, f"{key} is {json.dumps(value)}", expected=f"{choice}, all this family knows")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose headers were all found sound; `repo` and `revision` (the commit) if from the Hub, as
    far as is known."""

    folder: Path
    name: str
    config: Config
    tensors: Mapping[str, StoredTensor]
    repo: str = ""
    revision: str = ""
    shards: LocalShards = field(default_factory=LocalShards)

    def of_base_model(self, base_model: str, option: str) -> "Checkpoint":
        """The same checkpoint, which the user says holds the Hub's `base_model`, OWNER/NAME or OWNER/NAME@REVISION.

        Raises InputError for what is no such id, or if it is known to be another's.
        """
        repo, at, revision = base_model.partition("@")
        if not REPO.fullmatch(repo) or (at and not revision):
            raise InputError(option, repr(base_model), expected="OWNER/NAME or OWNER/NAME@REVISION")
        for said, known in ((repo, self.repo), (revision, self.revision)):
            if said and known and said != known:
                raise InputError(option, f"{base_model}, but {self.folder} holds {known}", todo="leave it out")
        return replace(self, name=repo.split("/")[1], repo=repo, revision=revision or self.revision)

    def fetch(self) -> None:
        """Return as soon as every shard can be read. Raises InputError if one cannot be downloaded."""
        files = sorted({tensor.file for tensor in self.tensors.values()})
        self.shards.expect(files)
        for file in files:
            self.shards.fetch(file)


def open_checkpoint(source: str, name: str = "", *, stream: bool = False) -> Checkpoint:
    """Open a local folder, or a Hub id (`OWNER/NAME`, `OWNER/NAME@REVISION`), of which only the shards stay there.

    `name` is what the model is called; by default what the folder or the repository is. `stream` is for `HubShards`.
    Raises InputError for anything that is not a complete, well-formed checkpoint; no weight is read.
    """
    folder, repo, revision, shards = Path(source), "", "", LocalShards()
    if not os.path.exists(folder):  # unlike Path.exists, no error for a name too long
        if source.count("/") != 1 or source.startswith((".", "/", "~")):
            raise InputError(source, "no such folder", expected="a checkpoint folder, a Hub id OWNER/NAME, or tiny")
        from .hub import HubShards, download_small_files  # late: it is slow to import, and most runs are local

        repo, at, revision = source.partition("@")
        if at and not REVISION.fullmatch(revision):
            raise InputError(source, f"{revision!r} is not a revision", expected="a branch, a tag or a commit")
        folder = download_small_files(source)
        shards = HubShards(source, folder, stream=stream)
        revision = folder.name  # the cache keeps each snapshot under its commit
    if not folder.is_dir():
        raise InputError(folder, "not a folder", expected="a folder with config.json and *.safetensors")
    config = Config(folder / "config.json", read_json(folder / "config.json"))
    tensors = _tensors(folder, shards)
    if not repo:
        repo, revision = repository_of(folder, [config.path, *{tensor.file for tensor in tensors.values()}])
    name = name or repo.rpartition("/")[2] or folder.resolve().name
    name = name.encode(errors="replace").decode()  # a folder's name need not be UTF-8
    return Checkpoint(folder, name, config, tensors, repo, revision, shards)


def _tensors(folder: Path, shards: LocalShards) -> dict[str, StoredTensor]:
    index = folder / INDEX
    if index.exists():
        return _indexed_tensors(folder, index, shards)
    files = [folder / SINGLE] if shards.exists(folder / SINGLE) else shards.files(folder)
    if len(files) != 1:
        raise InputError(
            folder,
            f"{len(files)} safetensors files and no {INDEX}",
            expected=f"{SINGLE}, or shards with their index",
            todo="download the checkpoint again",
        )
    return {info.name: info for info in _read_header(files[0], shards)}


def _indexed_tensors(folder: Path, index: Path, shards: LocalShards) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise InputError(index, "weight_map is missing or malformed", expected="tensor name → file name")
    files: dict[str, Path] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file or file in ("", ".", ".."):
            raise InputError(index, f"names {file!r}, outside the checkpoint folder", expected="plain file names")
        files[file] = folder / file
        if not shards.exists(files[file]):
            raise InputError(files[file], f"missing shard, named by {INDEX}", todo="download it")
    tensors: dict[str, StoredTensor] = {}
    for file, path in files.items():
        for info in _read_header(path, shards):
            if weight_map.get(info.name) != file:
                named = weight_map.get(info.name, "no file")
                raise InputError(path, f"holds tensor {info.name}, for which {INDEX} names {named}")
            tensors[info.name] = info
    for name, file in weight_map.items():
        if name not in tensors:
            raise InputError(files[file], f"missing tensor {name}, which {INDEX} promises", todo="download it again")
    return tensors


def _read_header(path: Path, shards: LocalShards) -> tuple[StoredTensor, ...]:
    """Every tensor of a shard. Raises InputError for one that is not well-formed."""
    with input_errors(path, "cannot be read"):
        size = shards.size(path)
        with shards.open(path) as file:
            return read_header(path, size, file).tensors
