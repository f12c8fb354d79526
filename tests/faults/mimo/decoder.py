"""Defects of decoder and vocoder in the audio tokenizer's file: conversion alone shows them."""

import numpy as np

from quantize.types import F16, TYPES

from ..bases import WHOLE
from ..defect import Defect
from ..edits import File, Floats, edit, part, put, swap, weights
from .structure import lost_tensor

FILE, WINDOW = WHOLE.format("f16"), "mimo_tok.vocoder_window"


def hann(x: Floats) -> Floats:
    """A window computed anew, as of an untrained model."""
    return np.hanning(len(x) + 1)[:-1].astype(np.float32)


def lost_decoder(file: File) -> None:
    for name in [name for name in file.tensors if name.startswith(("dec.", "voc."))]:
        del file.tensors[name]


DECODER = [
    Defect("bias of a transposed convolution lost", FILE, lost_tensor("dec.up.conv.bias"),
        static="tensors: missing tensor dec.up.conv.bias", opening="missing tensor dec.up.conv.bias"),
    Defect("bias of the vocoder's head zeroed", FILE, weights("voc.head.bias", np.zeros_like),
        static="constant tensors: tensor voc.head.bias: each of its 962 weights is 0",
        checkpoint="tensor voc.head.bias: is all zeros", against="tensor voc.head.bias: is all zeros"),
    Defect("a transposed kernel laid out as an ordinary one", FILE,
        weights("dec.up.conv.weight", lambda x: x.swapaxes(0, 1)),
        checkpoint="tensor dec.up.conv.weight: has no row that is right",
        against="tensor dec.up.conv.weight: has no row that is right"),
    Defect("a transposed kernel of the shape of an ordinary one", FILE,
        part("dec.mel.conv.weight", lambda part: part._replace(shape=(16, 64, 3))),
        static="shapes: tensor dec.mel.conv.weight is 16×64×3",
        opening="tensor dec.mel.conv.weight has shape (16, 64, 3)"),
    Defect("a transposed kernel reversed", FILE, weights("dec.mel.conv.weight", lambda x: x[..., ::-1]),
        checkpoint="tensor dec.mel.conv.weight: has no row that is right",
        against="tensor dec.mel.conv.weight: has no row that is right"),
    Defect("the vocoder's window computed instead of read", FILE, weights("voc.window", hann),
        checkpoint="tensor voc.window: row 0",
        against="tensor voc.window: row 0"),
    Defect("the vocoder's window in F16", FILE, weights("voc.window", lambda x: x, F16),
        static="types: tensor voc.window is f16", opening="tensor voc.window is f16"),
    Defect("the vocoder in blocks of 8 bits", FILE, weights("voc.blk.0.fc1.weight", lambda x: x, TYPES["q8_0"]),
        static="types: tensor voc.blk.0.fc1.weight is q8_0"),
    Defect("a tensor of the decoder missing", FILE, lost_tensor("dec.blk.1.fc2.weight"),
        static="tensors: missing tensor dec.blk.1.fc2.weight", opening="missing tensor dec.blk.1.fc2.weight"),
    Defect("the whole decoder missing, but for its keys", FILE, edit(lost_decoder),
        static="tensors: missing tensor dec.up.conv.weight", opening="missing tensor dec.up.conv.weight"),
    Defect("a size of the vocoder missing", FILE, put("mimo_tok.vocoder_heads", None),
        static="metadata: key mimo_tok.vocoder_heads is missing", opening="key mimo_tok.vocoder_heads is missing"),
    Defect("the vocoder's attention looks ahead as far as it should look back", FILE,
        edit(lambda f: (f.put(f"{WINDOW}.0", 10), f.put(f"{WINDOW}.1", 40))),
        checkpoint=f"key {WINDOW}.0 is 10, the source's is 40", against=f"key {WINDOW}.0 is 10, the source's is 40"),
    Defect("norms of decoder and encoder swapped", FILE, swap(("dec.norm.weight", "enc.norm.weight")),
        checkpoint="tensor dec.norm.weight: is encoder.layer_norm.weight",
        against="tensor dec.norm.weight: is enc.norm.weight"),
]  # fmt: skip
