"""LoRA adapters in the files of PEFT: pairs of low rank that are added to weights of a checkpoint.

A pair of the module M, `base_model.model.M.lora_A.weight` (rank, columns) and `…lora_B.weight` (rows, rank), adds
B · A · alpha / rank to M's weight (PEFT, "LoRA"; rank and alpha of M by rank_pattern and alpha_pattern, else r and
lora_alpha). A family may name a file of blocks that gives runs of a pair's rank their own alpha / rank.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mimo_convert.disk import sha256_of
from mimo_convert.fields import Fields, shown
from mimo_convert.files import input_errors
from mimo_convert.formats.json_file import read_json
from mimo_convert.formats.low_rank import Product
from mimo_convert.formats.safetensors import WEIGHT_TYPES, read_header
from mimo_convert.formats.tensor import TensorSlice, shape_text
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError
from quantize.quoting import quoted

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PAIR = re.compile(rf"{re.escape(PREFIX)}(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
LARGEST = 1e6  # of a rank and an alpha

# What an adapter is taken to be; of one that says otherwise, the sum would be another one.
ASSUMED: Mapping[str, Sequence[Any]] = {
    "peft_type": ("LORA", None), "fan_in_fan_out": (False, None), "bias": ("none", None), "lora_bias": (False, None),
    "use_dora": (False, None), "use_rslora": (False, None), "modules_to_save": (None, []),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),  # others change the base, too
}  # fmt: skip


@dataclass(frozen=True)
class AdapterFacts:
    """How adapters of a family are written. `weight_of(module)` is the checkpoint's name of a module's weight, the same
    for two spellings of one module; `blocks` is the file that gives blocks of a rank their own scale, empty: none.

    A repository may hold a base and its adapter, in folders named `base` and `folder`.
    """

    weight_of: Callable[[str], str]
    blocks: str = ""
    base: str = ""
    folder: str = ""


class Block(NamedTuple):
    """Ranks from `start` until `end` of a pair, and their scale."""

    start: int
    end: int
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter whose files were validated: `products` by the checkpoint's name of the tensor that they are added to,
    and `modules`, the adapter's own name of that. `hashes` are the sha256 of its `files`, by name, or by the path in
    the repository that holds them with their base; `shards` are where they come from. `model` is the Hub's id of
    another repository, OWNER/NAME or OWNER/NAME@REVISION; empty if it is not known."""

    folder: Path
    name: str
    products: Mapping[str, tuple[Product, ...]]
    modules: Mapping[str, str]
    files: tuple[Path, ...]
    hashes: Mapping[str, str]
    shards: LocalShards
    model: str = ""

    @property
    def is_apart(self) -> bool:
        """Whether it is not in the repository of its base."""
        return is_apart(self.hashes)

    @property
    def weights(self) -> Path:
        """The file of its pairs."""
        return self.folder / WEIGHTS

    def fetch(self) -> None:
        """Wait until its weights can be read. Raises InputError if they cannot be downloaded."""
        self.shards.fetch(self.weights)


def is_apart(hashes: Collection[str]) -> bool:
    """Whether the files of an adapter, by their recorded names, are not in the repository of its base."""
    return any("/" not in name for name in hashes)


def open_adapter(
    folder: Path, facts: AdapterFacts, repository: Path | None = None, shards: LocalShards | None = None
) -> Adapter:
    """Open the adapter in a folder, which may be one of a `repository` with its base. Of weights that are still to come
    from `shards` (None: all files are local) the header alone is read; local ones are hashed, too.

    Raises InputError unless every tensor is half of a pair of the rank that its config says, or its blocks.
    """
    shards = shards or LocalShards()
    config, weights = folder / CONFIG, folder / WEIGHTS
    if not config.is_file():
        raise InputError(folder, f"holds no {CONFIG}", expected=f"a LoRA adapter: {CONFIG} and {WEIGHTS}")
    blocks = folder / (facts.blocks or CONFIG)
    files = [config, weights, *([blocks] if facts.blocks and blocks.exists() else [])]
    settings = Settings.read(config)
    pairs = dict(_pairs(weights, shards))
    scaled = Blocks.read(blocks) if blocks in files[2:] else NO_BLOCKS
    settings.check_used(pairs)
    scaled.check_used({name for module in pairs for name in (module, _without_suffix(facts.weight_of(module)))})
    products: dict[str, list[Product]] = {}
    for module, (a, b) in pairs.items():
        target = facts.weight_of(module)
        of_module = scaled.of(module, _without_suffix(target), a) or [settings.block(module, a)]
        products.setdefault(target, []).extend(Product(a, b, *block) for block in of_module)
    return Adapter(
        folder,
        folder.resolve().name,
        {target: tuple(of_target) for target, of_target in products.items()},
        {facts.weight_of(module): module for module in pairs},
        tuple(files),
        {str(file.relative_to(repository) if repository else file.name): _sha256(file, shards) for file in files},
        shards,
    )


def _sha256(file: Path, shards: LocalShards) -> str:
    """The sha256 of a file; of one that is still to come the published one, which its download is compared with."""
    published = "" if shards.is_here(file) else shards.published_sha256(file)
    if not published:
        shards.fetch(file)  # one that git stores
        shards.note(file)
    return published or sha256_of(file)


def _without_suffix(weight: str) -> str:
    return weight.removesuffix(".weight")


# ── the pairs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _pairs(path: Path, shards: LocalShards) -> Iterator[tuple[str, tuple[TensorSlice, TensorSlice]]]:
    """Each module of the file with its A and B."""
    with input_errors(path, "cannot be read"), shards.open(path) as file:
        header = read_header(path, shards.size(path), file)
    halves: dict[str, dict[str, TensorSlice]] = {}
    for tensor in header.tensors:
        found = PAIR.fullmatch(tensor.name)
        if not found:
            expected = f"{PREFIX}MODULE.lora_A.weight or lora_B.weight"
            raise InputError(path, f"tensor {quoted(tensor.name)} is not half of a pair", expected=expected)
        if tensor.ggml_type.ggml < 0 or len(tensor.shape) != 2 or not all(tensor.shape):
            what = f"tensor {quoted(tensor.name)} is {tensor.ggml_type.name} {shape_text(tensor.shape)}"
            raise InputError(path, what, expected=f"a matrix of {' or '.join(WEIGHT_TYPES)}")
        halves.setdefault(found["module"], {})[found["half"]] = tensor
    if not halves:
        raise InputError(path, "holds no pair", expected=f"{PREFIX}MODULE.lora_A.weight and lora_B.weight")
    for module, half in halves.items():
        for missing in {"A", "B"} - half.keys():
            [there] = half
            what = f"module {quoted(module)} has lora_{there} and no lora_{missing}"
            raise InputError(path, what, expected="both halves of the pair")
        a, b = half["A"], half["B"]
        if a.shape[0] != b.shape[1]:
            what = f"module {quoted(module)} has lora_A of rank {a.shape[0]} and lora_B of rank {b.shape[1]}"
            raise InputError(path, what, expected="one rank")
        yield module, (a, b)


# ── their scales ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Settings:
    """Ranks and alphas of adapter_config.json."""

    path: Path
    rank: float
    alpha: float
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read them. Raises InputError for what is malformed, and for another kind of adapter."""
        values = read_json(path)
        for key, allowed in ASSUMED.items():
            if values.get(key) not in allowed:
                raise InputError(path, f"{key} is {shown(values.get(key))}", expected=shown(allowed[0]))
        config = Fields(path, values)
        patterns = (_numbers(path, key, values.get(key) or {}) for key in ("rank_pattern", "alpha_pattern"))
        return cls(path, config.whole("r", int(LARGEST)), config.number("lora_alpha", LARGEST), *patterns)

    def block(self, module: str, a: TensorSlice) -> Block:
        """The whole rank of a pair with its scale. Raises InputError if the config says another rank."""
        rank, alpha = _of_module(self.ranks, module, self.rank), _of_module(self.alphas, module, self.alpha)
        if a.shape[0] != rank:
            what = f"module {quoted(module)} has rank {a.shape[0]}"
            raise InputError(a.file, what, expected=f"{rank:g}, by {self.path.name}")
        return Block(0, a.shape[0], alpha / rank)

    def check_used(self, pairs: Mapping[str, object]) -> None:
        """Raise InputError for a pattern that is about no module."""
        for key, patterns in (("rank_pattern", self.ranks), ("alpha_pattern", self.alphas)):
            for pattern in patterns.keys() - pairs.keys():
                if not any(module.endswith(f".{pattern}") for module in pairs):
                    raise InputError(self.path, f"{key} names {quoted(pattern)}", expected=f"a module of {WEIGHTS}")


def _of_module(patterns: Mapping[str, float], module: str, default: float) -> float:
    """The value of a module, by its name, else by the first pattern that is the end of it, as PEFT has it."""
    if module in patterns:
        return patterns[module]
    return next((value for name, value in patterns.items() if module.endswith(f".{name}")), default)


def _numbers(path: Path, key: str, values: Any) -> dict[str, float]:
    """Positive numbers by name."""
    fields = Fields(path, values, key)
    found = {name: fields.number(name, LARGEST) for name in fields.values}
    for name, value in found.items():
        if value == 0:
            raise InputError(path, f"{key} of {quoted(name)} is 0", expected="a positive number")
    return found


@dataclass(frozen=True)
class Blocks:
    """Blocks of ranks with their own scales, by module."""

    path: Path
    of_modules: Mapping[str, Sequence[Block]]

    @classmethod
    def read(cls, path: Path) -> "Blocks":
        """Read `{module: [{"start", "end", "rank" (end - start), "alpha" (rank)}, …]}`."""
        values = read_json(path)
        return cls(path, {module: list(_blocks(path, module, listed)) for module, listed in values.items()})

    def of(self, module: str, other_name: str, a: TensorSlice) -> Sequence[Block]:
        """The blocks of a pair: by the adapter's name of the module, else by the checkpoint's; empty if it has none.
        Raises InputError for a block beyond the rank."""
        found = self.of_modules.get(module) or self.of_modules.get(other_name) or ()
        for block in found:
            if block.end > a.shape[0]:
                what = f"module {quoted(module)} has a block {block.start} … {block.end}"
                raise InputError(self.path, what, expected=f"an end of at most {a.shape[0]}, the rank in {a.file.name}")
        return found

    def check_used(self, modules: Collection[str]) -> None:
        """Raise InputError for blocks of a module without a pair."""
        for module in self.of_modules:
            if module not in modules:
                what = f"module {quoted(module)} has no pair"
                raise InputError(self.path, what, expected=f"a module of {WEIGHTS}")


NO_BLOCKS = Blocks(Path(), {})


def _blocks(path: Path, module: str, listed: Any) -> Iterator[Block]:
    if not isinstance(listed, list) or not listed:
        raise InputError(path, f"module {quoted(module)} has {shown(listed)}", expected="a list of blocks")
    for entry in listed:
        block = Fields(f"{path}: module {quoted(module)}", entry, "a block")
        start, end = block.whole("start"), block.whole("end")
        if not start < end:
            raise InputError(block.where, f"a block {start} … {end}", expected="a start before its end")
        rank = block.number("rank", LARGEST) if block.values.get("rank") is not None else end - start
        alpha = block.number("alpha", LARGEST) if block.values.get("alpha") is not None else rank
        if rank == 0:
            raise InputError(block.where, "rank is 0", expected="a positive number")
        yield Block(start, end, alpha / rank)
