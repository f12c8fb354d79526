"""A Hugging Face checkpoint: its config, its tokenizer files, and where its tensors lie.

Every shard's header is validated (formats/safetensors.py) before a weight is used.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mimo_convert.files import input_errors
from mimo_convert.formats.config import Config as Config  # families still import it from here
from mimo_convert.formats.json_file import read_json
from mimo_convert.formats.low_rank import adapted
from mimo_convert.formats.safetensors import read_header
from mimo_convert.formats.tensor import TensorSlice, shape_text
from mimo_convert.formats.vocabulary import Vocabulary, read_vocabulary
from mimo_convert.sources.hub_folder import repository_of
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError
from quantize.quoting import quoted

from .adapter import Adapter

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]{0,199}", re.ASCII)  # of a repository: git's rules, and no path upwards
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # an id of the Hub


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose headers were validated; `repo` and `revision` (the commit) if it is known to be from
    the Hub. What `adapter` adds is in its `tensors`; `omitted_adapter` is one in its repository that was left out."""

    folder: Path
    name: str
    config: Config
    tensors: Mapping[str, TensorSlice]
    repo: str = ""
    revision: str = ""
    shards: LocalShards = field(default_factory=LocalShards)
    adapter: Adapter | None = None
    omitted_adapter: str = ""
    _vocabularies: dict[object, Vocabulary] = field(default_factory=dict, compare=False, repr=False)

    def vocabulary(self, vocab_size: int, needed: Sequence[str], end_of_text: str) -> Vocabulary:
        """The vocabulary of `vocab_size` tokens, read once. Raises InputError as `read_vocabulary`."""
        asked = vocab_size, tuple(needed), end_of_text
        if asked not in self._vocabularies:
            self._vocabularies[asked] = read_vocabulary(self.folder, *asked)
        return self._vocabularies[asked]

    def of_base_model(self, base_model: str, option: str) -> "Checkpoint":
        """The same checkpoint as the Hub's `base_model`, OWNER/NAME or OWNER/NAME@REVISION, as the user states.

        Raises InputError for a malformed id, or one that contradicts what is known of the folder.
        """
        repo, revision = _repo_and_revision(base_model, option)
        for said, known in ((repo, self.repo), (revision, self.revision)):
            if said and known and said != known:
                raise InputError(option, f"{base_model}, but {self.folder} holds {known}", todo="leave it out")
        name = repo.split("/")[1]
        if self.adapter and self.adapter.is_apart:
            name = f"{name}-{self.adapter.name}"
        return replace(self, name=name, repo=repo, revision=revision or self.revision)

    def of_adapter_model(self, adapter_model: str, option: str) -> "Checkpoint":
        """The same checkpoint with its adapter as the Hub's `adapter_model`, OWNER/NAME or OWNER/NAME@REVISION, as the
        user states.

        Raises InputError for a malformed id, and if there is no adapter, or it is in the repository of its base.
        """
        _repo_and_revision(adapter_model, option)
        if not self.adapter or not self.adapter.is_apart:
            known = "has the adapter of its own repository" if self.adapter else "has no adapter"
            what = f"{adapter_model}, but {self.name} {known}"
            raise InputError(option, what, todo="leave it out, or give --adapter DIR")
        return replace(self, adapter=replace(self.adapter, model=adapter_model))

    def renamed(self, name_of: Callable[[str], str]) -> "Checkpoint":
        """The same checkpoint with its tensors by other names. Raises InputError for two of one name."""
        tensors: dict[str, TensorSlice] = {}
        for name, tensor in self.tensors.items():
            other = tensors.setdefault(name_of(name), tensor)
            if other is not tensor:
                raise InputError(tensor.file, f"tensor {tensor.name} is {other.name} by another name", expected="one")
        return replace(self, tensors=tensors)

    def with_adapter(self, adapter: Adapter, unused: Mapping[str, str], name: str = "") -> "Checkpoint":
        """The same checkpoint with an adapter's products added to its tensors; `unused` maps patterns of tensors that
        are in no file to the reason. `name` is the model's, by default both names.

        Raises InputError for a module that names no tensor, or one of another shape, or one that is not used.
        """
        tensors = dict(self.tensors)
        for target, products in adapter.products.items():
            what, tensor = f"module {quoted(adapter.modules[target])}", self.tensors.get(target)
            if tensor is None:
                raise InputError(adapter.weights, f"{what} names no tensor of {self.folder}", expected=target)
            reason = next((why for pattern, why in unused.items() if re.fullmatch(pattern, target)), None)
            if reason:
                raise InputError(adapter.weights, f"{what} names {target}, which is {reason}")
            for shape in ((product.b.shape[0], product.a.shape[1]) for product in products):
                if shape != tensor.shape:
                    what = f"{what} has the shape {shape_text(shape)} of B · A"
                    raise InputError(adapter.weights, what, expected=f"{shape_text(tensor.shape)}, that of {target}")
            tensors[target] = adapted(tensor, products)
        return replace(self, name=name or f"{self.name}-{adapter.name}", tensors=tensors, adapter=adapter)

    def fetch(self) -> None:
        """Wait until every weight can be read. Raises InputError if a file cannot be downloaded."""
        if self.adapter:
            self.adapter.fetch()
        files = sorted({tensor.file for tensor in self.tensors.values()})
        self.shards.expect(files)
        for file in files:
            self.shards.fetch(file)


def _repo_and_revision(said: str, option: str) -> tuple[str, str]:
    """The two parts of an id of the Hub; the revision may be empty. Raises InputError for a malformed one."""
    repo, at, revision = said.partition("@")
    if not REPO.fullmatch(repo) or (at and not revision):
        raise InputError(option, repr(said), expected="OWNER/NAME or OWNER/NAME@REVISION")
    return repo, revision


def open_checkpoint(folder: str | Path, name: str = "") -> Checkpoint:
    """Open a local folder. `name` is the model's name, by default that of its repository or folder.

    Raises InputError unless it is a complete, well-formed checkpoint; no weight is read.
    """
    return _open(Path(folder), LocalShards(), name)


def open_hub_checkpoint(repo_id: str, *, stream: bool = False, inside: Sequence[str] = ()) -> Checkpoint:
    """Open a checkpoint of the Hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, whose shards are downloaded as needed;
    `stream` is for `HubShards`. Where the repository itself has no config.json, the first of its folders `inside` that
    has one is opened.

    Raises InputError as `open_checkpoint`, and if the Hub or the network fails.
    """
    from mimo_convert.sources.hub_shards import (  # late: it is slow to import, and most runs are local
        HubShards,
        download_small_files,
    )

    repo, at, revision = repo_id.partition("@")
    if at and not REVISION.fullmatch(revision):
        raise InputError(repo_id, f"{revision!r} is not a revision", expected="a branch, a tag or a commit")
    folder, listing = download_small_files(repo_id, inside)
    others = () if (folder / "config.json").exists() else inside
    chosen = next((name for name in others if (folder / name / "config.json").exists()), "")
    shards = HubShards(repo_id, folder, listing, stream=stream, inside=chosen)
    # the cache keeps each snapshot under its commit
    return _open(folder / chosen, shards, repo=repo, revision=folder.name)


def _open(folder: Path, shards: LocalShards, name: str = "", repo: str = "", revision: str = "") -> Checkpoint:
    if not folder.is_dir():
        raise InputError(folder, "not a folder", expected="a folder with config.json and *.safetensors")
    config = Config(folder / "config.json", read_json(folder / "config.json"))
    tensors = _tensors(folder, shards)
    if not repo:
        repo, revision = repository_of(folder, [config.path, *{tensor.file for tensor in tensors.values()}])
    name = name or repo.rpartition("/")[2] or folder.resolve().name
    name = name.encode(errors="replace").decode()  # a folder's name need not be UTF-8
    return Checkpoint(folder, name, config, tensors, repo, revision, shards)


def _tensors(folder: Path, shards: LocalShards) -> dict[str, TensorSlice]:
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


def _indexed_tensors(folder: Path, index: Path, shards: LocalShards) -> dict[str, TensorSlice]:
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
    tensors: dict[str, TensorSlice] = {}
    for file, path in files.items():
        for info in _read_header(path, shards):
            if weight_map.get(info.name) != file:
                named = weight_map.get(info.name, "no file")
                raise InputError(path, f"holds tensor {info.name}, for which {INDEX} names {named}")
            tensors[info.name] = info
    for name, file in weight_map.items():
        if name not in tensors:
            raise InputError(files[file], f"missing tensor {name}, which {INDEX} lists", todo="download it again")
    return tensors


def _read_header(path: Path, shards: LocalShards) -> tuple[TensorSlice, ...]:
    """The tensors of a shard. Raises InputError if it is not well-formed."""
    with input_errors(path, "cannot be read"):
        size = shards.size(path)
        with shards.open(path) as file:
            return read_header(path, size, file).tensors
