"""Edit a GGUF file in its parts: keys, tensors, blocks, header bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType as V

from mimo_convert.formats.gguf import Entry, align, make_header, read_gguf
from quantize.kernels import quantize_rows, to_float32
from quantize.types import Type

Floats = npt.NDArray[np.float32]
Blocks = npt.NDArray[np.uint8]


def as_list(value: Any) -> Any:
    """An array of a file's metadata as a list, which can be changed; anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else value


class Part(NamedTuple):
    """A tensor: its bytes, and what they are."""

    shape: tuple[int, ...]
    type: Type
    data: npt.NDArray[np.uint8]

    @property
    def floats(self) -> Floats:
        return to_float32(self.data.reshape(self.shape[0], -1), self.type).reshape(self.shape)

    def with_floats(self, x: npt.NDArray[Any], type: Type | None = None) -> "Part":
        """The same tensor with other weights, by ggml's quantizer."""
        rows = np.ascontiguousarray(x, np.float32).reshape(x.shape[0], -1)
        with np.errstate(over="ignore"):
            return Part(x.shape, type or self.type, quantize_rows(rows, type or self.type).reshape(-1).copy())


@dataclass
class File:
    """A GGUF file in its parts, to be changed."""

    architecture: str
    keys: dict[str, Entry]
    tensors: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "File":
        file = read_gguf(path)
        parts = {name: Part(t.shape, t.ggml_type, t.read().reshape(-1).copy()) for name, t in file.tensors.items()}
        return cls(
            file.architecture, {entry.key: entry._replace(value=as_list(entry.value)) for entry in file.entries}, parts
        )

    def write(self, path: Path) -> None:
        rows = [(name, part.shape, part.type) for name, part in self.tensors.items()]
        data = [part.data.tobytes() for part in self.tensors.values()]
        header = make_header(self.architecture, list(self.keys.values()), rows).data
        path.write_bytes(header + b"".join(part.ljust(align(len(part)), b"\0") for part in data))

    def value(self, key: str) -> Any:
        return self.keys[key].value

    def put(self, key: str, value: Any, type: V | None = None) -> None:
        """Another value for a key; None takes it out."""
        old = self.keys.pop(key, Entry(key, value, type or V.UINT32))
        if value is not None:
            self.keys[key] = Entry(key, value, type or old.value_type)

    def floats(self, tensor: str, change: Callable[[Floats], npt.NDArray[Any]], type: Type | None = None) -> None:
        """Other weights, made of a tensor's own."""
        self.tensors[tensor] = self.tensors[tensor].with_floats(change(self.tensors[tensor].floats.copy()), type)

    def swap(self, a: str, b: str) -> None:
        """Two tensors under each other's names."""
        self.tensors |= {a: self.tensors[b], b: self.tensors[a]}


Change = Callable[[File], object]
Damage = Callable[[Path], object]


def edit(change: Change) -> Damage:
    """A defect of a file that is taken apart."""

    def damage(path: Path) -> None:
        file = File.read(path)
        change(file)
        file.write(path)

    return damage


def put(key: str, value: Any, type: V | None = None) -> Damage:
    return edit(lambda file: file.put(key, value, type))


def swap(*pairs: tuple[str, str]) -> Damage:
    return edit(lambda file: [file.swap(*pair) for pair in pairs])


def weights(tensor: str, change: Callable[[Floats], npt.NDArray[Any]], type: Type | None = None) -> Damage:
    return edit(lambda file: file.floats(tensor, change, type))


def part(tensor: str, change: Callable[[Part], Part]) -> Damage:
    return edit(lambda file: file.tensors.update({tensor: change(file.tensors[tensor])}))


def blocks(tensor: str, change: Callable[[Blocks], Blocks]) -> Damage:
    """A tensor's blocks, (n, bytes of one), as `change` returns them."""

    def of(old: Part) -> Part:
        return old._replace(data=change(old.data.reshape(-1, old.type.block_bytes)).reshape(-1))

    return part(tensor, of)


def assign(x: Floats, at: Any, value: Any) -> Floats:
    x[at] = value
    return x


TOKENIZER = "tokenizer.ggml."
L0, L1 = "model.layers.0.", "model.layers.1."
EMBED, HEAD = "llm.embed.weight", "llm.lm_head.weight"
CODEBOOK = "encoder.quant.vq.layers.{}._codebook.embed"
