"""Defects of the GGUF structure and of which tensors it holds."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quantize.types import F16, F32
from tests.damage import cut

from ..bases import FUSED, LM, Q4, TOK
from ..defect import Defect
from ..edits import CODEBOOK, HEAD, L0, L1, Damage, File, assign, edit, part, put, weights


def lost_tensor(name: str) -> Damage:
    return edit(lambda file: file.tensors.pop(name))


def in_bytes(change: Callable[[bytearray], object]) -> Damage:
    """A defect of the header, which no writer would write."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return damage


def offset_of(data: bytearray, tensor: str) -> int:
    """Where the header says at which offset a tensor lies."""
    end = data.index(tensor.encode()) + len(tensor)
    (n_dimensions,) = struct.unpack_from("<I", data, end)
    return end + 4 + 8 * n_dimensions + 4


def shift_offset(data: bytearray, tensor: str, by: int) -> None:
    at = offset_of(data, tensor)
    struct.pack_into("<Q", data, at, struct.unpack_from("<Q", data, at)[0] + by)


def swap_offsets(data: bytearray, a: str, b: str) -> None:
    first, second = (slice(at, at + 8) for at in (offset_of(data, a), offset_of(data, b)))
    data[first], data[second] = data[second], data[first]


def rename(data: bytearray, old: str, new: str) -> None:
    """A name in the header becomes another of the same length."""
    at = data.index(old.encode())
    data[at : at + len(new)] = new.encode()


def uncount_level(file: File) -> None:
    del file.tensors[CODEBOOK.format(19)], file.keys["mimo_tok.codebook_size.19"]
    file.put("mimo_tok.num_quantizers", 19)


def split_bias(file: File, layer: str) -> None:
    fused = file.tensors.pop(layer + "attn.qkv.bias").floats
    for c, rows in (("q", slice(256)), ("k", slice(256, 384)), ("v", slice(384, None))):
        file.tensors[f"{layer}attn.{c}.bias"] = file.tensors[layer + "attn_norm.weight"].with_floats(fused[rows])


STRUCTURE = [
    Defect("file cut by one byte", LM, lambda path: cut(path, -1),
        static="structure: truncated in tensor llm.codebook_head.7.weight: 9768447 bytes",
        opening="truncated in tensor llm.codebook_head.7.weight: 9768447 bytes"),
    Defect("file cut by one byte of padding", "tiny lm q4_k", lambda path: cut(path, -1),
        static="structure: 1 bytes of padding are missing behind the last tensor"),
    Defect("a byte too many", LM, lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        static="structure: 1 bytes follow the last tensor"),
    Defect("wrong alignment in the metadata", LM, put("general.alignment", 64),
        static="structure: key general.alignment is 64", opening="key general.alignment is 64"),
    Defect("a tensor that is not aligned", LM, in_bytes(lambda data: shift_offset(data, HEAD, 4)),
        static="structure: tensor llm.lm_head.weight lies at offset 525316",
        opening="tensor llm.lm_head.weight lies at offset 525316"),
    Defect("offsets of two tensors swapped", LM,
        in_bytes(lambda data: swap_offsets(data, L0 + "ffn.up.weight", L1 + "ffn.up.weight")),
        static="structure: tensor model.layers.0.ffn.up.weight lies at offset 2892800",
        opening="tensor model.layers.0.ffn.up.weight lies at offset 2892800"),
    Defect("duplicate tensor", LM, in_bytes(lambda data: rename(data, "audio.emb.7.weight", "audio.emb.6.weight")),
        static="structure: duplicate tensor audio.emb.6.weight", opening="duplicate tensor audio.emb.6.weight"),
    Defect("duplicate key", LM,
        in_bytes(lambda data: rename(data, "mimo_asr.llm.num_layers", "mimo_asr.llm.vocab_size")),
        static="structure: duplicate key mimo_asr.llm.vocab_size",
        opening="duplicate key mimo_asr.llm.vocab_size"),
    Defect("GGUF version 2", LM, in_bytes(lambda data: assign(data, 4, 2)), static="structure: GGUF version 2",
        opening="GGUF version 2"),
    Defect("a type that ggml does not have", LM, in_bytes(lambda data: assign(data, offset_of(data, HEAD) - 4, 99)),
        static="structure: tensor llm.lm_head.weight has ggml type 99",
        opening="tensor llm.lm_head.weight has ggml type 99"),
    Defect("architecture of a plain Qwen2", LM, edit(lambda f: setattr(f, "architecture", "qwen2")),
        static="architecture: key general.architecture is 'qwen2'", opening="key general.architecture is 'qwen2'"),
]  # fmt: skip
LAYOUT = [
    Defect("Q and K swapped inside the fused tensor", FUSED,
        weights(L1 + "attn.qkv.weight", lambda x: x[[*range(256, 384), *range(256), *range(384, 512)]]),
        checkpoint="tensor model.layers.1.attn.qkv.weight[0:256]: begins with the rows of model.layers.1.self_attn.k_",
        run="layer_01: cos_",
        against="tensor model.layers.1.attn.qkv.weight[0:256]: begins with the rows of model.layers.1.attn.k.weight"),
    Defect("V before K inside the fused tensor", FUSED,
        weights(L0 + "attn.qkv.weight", lambda x: x[[*range(256), *range(384, 512), *range(256, 384)]]),
        checkpoint="tensor model.layers.0.attn.qkv.weight[256:384]: begins with the rows of model.layers.0.self_attn.",
        run="layer_00: cos_",
        against="tensor model.layers.0.attn.qkv.weight[256:384]: begins with the rows of model.layers.0.attn.v.weight"),
    Defect("a bias not fused", FUSED, edit(lambda f: split_bias(f, L0)),
        static="tensors: missing tensor model.layers.0.attn.qkv.bias",
        opening="missing tensor model.layers.0.attn.qkv.bias"),
    Defect("bias of V zeroed inside the fused tensor", FUSED,
        weights(L0 + "attn.qkv.bias", lambda x: assign(x, slice(384, None), 0)),
        checkpoint="tensor model.layers.0.attn.qkv.bias[384:512]: is all zeros",
        against="tensor model.layers.0.attn.qkv.bias[384:512]: is all zeros"),
    Defect("bias of Q zeroed", LM, weights(L0 + "attn.q.bias", np.zeros_like),
        static="constant tensors: tensor model.layers.0.attn.q.bias: each of its 256 weights is 0",
        checkpoint="tensor model.layers.0.attn.q.bias: is all zeros", run="layer_00: cos_",
        against="tensor model.layers.0.attn.q.bias: is all zeros"),
    Defect("a bias for K, which the encoder has not", TOK,
        edit(lambda f: f.tensors.update({"enc.blk.0.attn.k.bias": f.tensors["enc.blk.0.attn.q.bias"]})),
        static="tensors: extra tensor enc.blk.0.attn.k.bias",
        opening="extra tensor enc.blk.0.attn.k.bias, unknown to mimo_tokenizer"),
    Defect("a tensor missing", LM, lost_tensor(L1 + "ffn.up.weight"),
        static="tensors: missing tensor model.layers.1.ffn.up.weight",
        opening="missing tensor model.layers.1.ffn.up.weight"),
    Defect("a tensor of speech generation missing", LM, lost_tensor("llm.codebook_head.7.weight"),
        static="tensors: missing tensor llm.codebook_head.7.weight",
        opening="missing tensor llm.codebook_head.7.weight"),
    Defect("a tensor with rows and columns exchanged in its shape", LM,
        part("audio.group_proj.weight", lambda part: part._replace(shape=(1024, 256))),
        static="shapes: tensor audio.group_proj.weight is 1024×256",
        opening="tensor audio.group_proj.weight has shape (1024, 256)"),
    Defect("a norm in F16", LM, weights(L0 + "ffn_norm.weight", lambda x: x, F16),
        static="types: tensor model.layers.0.ffn_norm.weight is f16",
        opening="tensor model.layers.0.ffn_norm.weight is f16"),
    Defect("a matrix left in F32", Q4, weights(L0 + "ffn.up.weight", lambda x: x, F32),
        static="types: tensor model.layers.0.ffn.up.weight is f32",
        checkpoint="tensor model.layers.0.ffn.up.weight: row 0", against="tensor model.layers.0.ffn.up.weight: row 0"),
    Defect("a codebook level missing", TOK, lost_tensor(CODEBOOK.format(7)),
        static="tensors: missing tensor encoder.quant.vq.layers.7._codebook.embed",
        opening="missing tensor encoder.quant.vq.layers.7._codebook.embed"),
    Defect("last codebook level missing, and not counted", TOK,
        edit(uncount_level),
        checkpoint="key mimo_tok.num_quantizers is 19, the source's is 20",
        against="key mimo_tok.num_quantizers is 19, the source's is 20"),
]  # fmt: skip
