"""Defects of weights: rows, norms, blocks, codebooks, convolutions."""

from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.types import BF16, F16, TYPES

from ..bases import LM, Q4, Q8, RANDOM, TOK
from ..defect import Defect
from ..edits import CODEBOOK, EMBED, HEAD, L0, L1, File, Floats, Part, assign, blocks, edit, part, swap, weights


def truncate(file: File) -> None:
    """An F32 file as one of BF16."""
    for name, old in file.tensors.items():
        if len(old.shape) == 2:
            halves = (old.floats.view(np.uint32) >> 16).astype(np.uint16)
            file.tensors[name] = Part(old.shape, BF16, halves.view(np.uint8).reshape(-1))
    file.put("general.file_type", BF16.file_type)


def to_halves(x: Floats) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        return x.astype(np.float16)


USED_ID, UNUSED_ID = 379, 300  # tokens that the JFK clip's prompt has, and has not
GATE, DOWN, OUT, V_PROJ = f"{L0}ffn.gate.weight", f"{L1}ffn.down.weight", "attn.o.weight", f"{L1}attn.v.weight"


WEIGHTS = [
    Defect("a matrix transposed", LM, weights(L0 + "attn.o.weight", np.transpose),
        checkpoint="tensor model.layers.0.attn.o.weight: is transposed", run="layer_00: cos_",
        against="tensor model.layers.0.attn.o.weight: is transposed"),
    Defect("one row of the embedding wrong", LM, weights(EMBED, lambda x: assign(x, USED_ID, x[UNUSED_ID + 1])),
        checkpoint="tensor llm.embed.weight: row 379", run="prefill_text_embeds: cos_",
        against="tensor llm.embed.weight: row 379"),
    Defect("one row of the embedding wrong, of a token that the clip does not need", LM,
        weights(EMBED, lambda x: assign(x, UNUSED_ID, x[UNUSED_ID + 1])),
        checkpoint="tensor llm.embed.weight: row 300", against="tensor llm.embed.weight: row 300"),
    Defect("a row of the embedding zero", Q8, weights(EMBED, lambda x: assign(x, USED_ID, 0)),
        checkpoint="tensor llm.embed.weight: row 379", run="prefill_text_embeds: cos_",
        against="tensor llm.embed.weight: row 379"),
    Defect("two rows of the head swapped", LM, weights(HEAD, lambda x: assign(x, [480, 392], x[[392, 480]])),
        checkpoint="tensor llm.lm_head.weight: row 392", run="prefill_text_logits_step0: cos_",
        against="tensor llm.lm_head.weight: row 392"),
    Defect("lm_head tied to the embedding", LM, edit(lambda f: f.tensors.update({HEAD: f.tensors[EMBED]})),
        checkpoint="tensor llm.lm_head.weight: begins with the rows of model.embed_tokens.weight",
        run="prefill_text_logits_step0: cos_",
        against="tensor llm.lm_head.weight: begins with the rows of llm.embed.weight"),
    Defect("norm weights off by one layer", LM,
        swap((L0 + "attn_norm.weight", L1 + "attn_norm.weight"), (L0 + "ffn_norm.weight", L1 + "ffn_norm.weight")),
        checkpoint="tensor model.layers.0.attn_norm.weight: is model.layers.1.input_layernorm.weight",
        run="layer_00: cos_", against="tensor model.layers.0.attn_norm.weight: is model.layers.1.attn_norm.weight"),
    Defect("attention's norm and the MLP's swapped", LM, swap((L1 + "attn_norm.weight", L1 + "ffn_norm.weight")),
        checkpoint="tensor model.layers.1.attn_norm.weight: is model.layers.1.post_attention_layernorm.weight",
        run="layer_01: cos_", against="tensor model.layers.1.attn_norm.weight: is model.layers.1.ffn_norm.weight"),
    Defect("two layers swapped", LM,
        edit(lambda f: [f.swap(name, name.replace(L0, L1)) for name in list(f.tensors) if name.startswith(L0)]),
        checkpoint="tensor model.layers.0.attn_norm.weight: is model.layers.1.input_layernorm.weight",
        run="layer_00: cos_", against="tensor model.layers.0.attn_norm.weight: is model.layers.1.attn_norm.weight"),
    Defect("gate and up swapped in one layer", LM, swap((L1 + "ffn.gate.weight", L1 + "ffn.up.weight")),
        checkpoint="tensor model.layers.1.ffn.gate.weight: begins with the rows of model.layers.1.mlp.up_proj.weight",
        run="layer_01: cos_",
        against="tensor model.layers.1.ffn.gate.weight: begins with the rows of model.layers.1.ffn.up.weight"),
    Defect("down of another layer", LM,
        edit(lambda f: f.tensors.update({L1 + "ffn.down.weight": f.tensors[L0 + "ffn.down.weight"]})),
        checkpoint="tensor model.layers.1.ffn.down.weight: begins with the rows of model.layers.0.mlp.down_proj.weight",
        run="layer_01: cos_",
        against="tensor model.layers.1.ffn.down.weight: begins with the rows of model.layers.0.ffn.down.weight"),
    Defect("Q's rows laid out for interleaved rope", LM,
        weights(L0 + "attn.q.weight", lambda x: x.reshape(2, 2, 64, 256).swapaxes(1, 2).reshape(256, 256)),
        checkpoint="tensor model.layers.0.attn.q.weight: row 1", run="layer_00: cos_",
        against="tensor model.layers.0.attn.q.weight: row 1"),
    Defect("a norm with 1 added, as Gemma's", LM, weights(L1 + "ffn_norm.weight", lambda x: x + 1),
        checkpoint="tensor model.layers.1.ffn_norm.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.ffn_norm.weight: has no row that is right"),
    Defect("a norm scaled by 2", LM, weights("llm.final_norm.weight", lambda x: 2 * x),
        checkpoint="tensor llm.final_norm.weight: has no row that is right",
        against="tensor llm.final_norm.weight: has no row that is right"),
    Defect("NaN in a norm", LM, weights(L0 + "ffn_norm.weight", lambda x: assign(x, 77, np.nan)),
        static="numbers: tensor model.layers.0.ffn_norm.weight holds NaN in row 0",
        checkpoint="tensor model.layers.0.ffn_norm.weight: row 0 holds NaN or infinity",
        run="layer_00: holds NaN or infinity",
        against="tensor model.layers.0.ffn_norm.weight: row 0 holds NaN or infinity"),
    Defect("embeddings of two channels swapped", LM, swap(("audio.emb.2.weight", "audio.emb.3.weight")),
        checkpoint="tensor audio.emb.2.weight: begins with the rows of speech_embeddings.3.weight",
        run="prefill_audio_features: cos_",
        against="tensor audio.emb.2.weight: begins with the rows of audio.emb.3.weight"),
    Defect("positions of a group reversed in the projection", LM,
        weights("audio.group_proj.weight", lambda x: x.reshape(256, 4, 256)[:, ::-1].reshape(256, 1024)),
        checkpoint="tensor audio.group_proj.weight: has no row that is right", run="prefill_audio_features: cos_",
        against="tensor audio.group_proj.weight: has no row that is right"),
    Defect("a head of speech generation wrong", LM, swap(("llm.codebook_head.2.weight", "llm.codebook_head.3.weight")),
        checkpoint="tensor llm.codebook_head.2.weight: begins with the rows of local_transformer_lm_heads.3.weight",
        against="tensor llm.codebook_head.2.weight: begins with the rows of llm.codebook_head.3.weight"),
    Defect("bytes of BF16 taken for F16", LM,
        part(V_PROJ, lambda part: part.with_floats(part.floats, BF16)._replace(type=F16)),
        checkpoint="tensor model.layers.1.attn.v.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.attn.v.weight: has no row that is right"),
    Defect("bf16 truncated instead of rounded", RANDOM.format("f32"), edit(truncate),
        checkpoint="tensor llm.embed.weight: row 0"),
    Defect("F16 overflow clipped to infinity", RANDOM.format("f16"),
        weights("audio.hidden_proj.weight", lambda x: x, F16),
        static="numbers: tensor audio.hidden_proj.weight holds infinity in row 3",
        checkpoint="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity",
        against="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity"),
    Defect("F16 overflow clipped to the largest number", RANDOM.format("f16"),
        weights("audio.hidden_proj.weight", lambda x: x.clip(-65504, 65504), F16),
        checkpoint="tensor audio.hidden_proj.weight: row 3", against="tensor audio.hidden_proj.weight: row 3"),
    Defect("F16 subnormals flushed to zero", RANDOM.format("f16"),
        weights(L0 + "ffn.up.weight", lambda x: np.where(abs(x) < 2**-14, 0, x)),
        checkpoint="tensor model.layers.0.ffn.up.weight: row 2"),
]  # fmt: skip
BLOCKS = [
    Defect("one Q4_K block's scale byte flipped", Q4,
        blocks(GATE, lambda b: assign(b, (100, 5), b[100, 5] ^ 0x15)),
        checkpoint="tensor model.layers.0.ffn.gate.weight: row 100",
        against="tensor model.layers.0.ffn.gate.weight: row 100"),
    Defect("one bit of a quant flipped", Q4,
        blocks(GATE, lambda b: assign(b, (100, 50), b[100, 50] ^ 1)),
        checkpoint="tensor model.layers.0.ffn.gate.weight: row 100 is not what our kernels make"),
    Defect("one tensor's blocks shifted by one", Q4,
        blocks(DOWN, lambda b: np.roll(b, 1, axis=0)),
        checkpoint="tensor model.layers.1.ffn.down.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.ffn.down.weight: has no row that is right"),
    Defect("a quantizer without its minimum", Q4,
        blocks(L0 + OUT, lambda b: assign(b, np.s_[:, 2:4], 0)),
        checkpoint="tensor model.layers.0.attn.o.weight: has no row that is right", run="layer_00: cos_",
        against="tensor model.layers.0.attn.o.weight: has no row that is right"),
    Defect("scales all doubled in one tensor", Q8,
        blocks(L1 + OUT, lambda b: assign(b, np.s_[:, :2], (2 * b[:, :2].copy().view(np.float16)).view(np.uint8))),
        checkpoint="tensor model.layers.1.attn.o.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.attn.o.weight: has no row that is right"),
    Defect("nibbles of Q4_K in the wrong order", Q4,
        blocks(f"{L1}ffn.gate.weight", lambda b: assign(b, np.s_[:, 16:], b[:, 16:] << 4 | b[:, 16:] >> 4)),
        checkpoint="tensor model.layers.1.ffn.gate.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.ffn.gate.weight: has no row that is right"),
    Defect("quantized again from blocks of 4 bits", Q4,
        weights(HEAD, lambda x: Part(x.shape, TYPES["q4_0"], np.empty(0, np.uint8)).with_floats(x).floats),
        checkpoint="tensor llm.lm_head.weight: row 0 is not what our kernels make",
        against="tensor llm.lm_head.weight: row 0"),
    Defect("quantized from F16 that had overflowed", RANDOM.format("q8_0"),
        weights("audio.hidden_proj.weight", to_halves, TYPES["q8_0"]),
        static="numbers: tensor audio.hidden_proj.weight holds NaN in row 3, and 31 more that are not finite",
        checkpoint="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity",
        against="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity"),
    Defect("a NaN scale", Q8, blocks(EMBED, lambda b: assign(b, np.s_[8 * UNUSED_ID, :2], [0, 0x7E])),
        static="numbers: tensor llm.embed.weight holds NaN in row 300, and 31 more that are not finite",
        checkpoint="tensor llm.embed.weight: row 300 holds NaN or infinity",
        against="tensor llm.embed.weight: row 300 holds NaN or infinity"),
    Defect("a scale 4096 times too large", Q8,
        blocks(EMBED, lambda b: assign(b, (8 * UNUSED_ID, 1), b[8 * UNUSED_ID, 1] + 0x30)),
        static="scales: tensor llm.embed.weight, row 300, block 0", checkpoint="tensor llm.embed.weight: row 300",
        against="tensor llm.embed.weight: row 300"),
]  # fmt: skip
ENCODER = [
    Defect("codebooks in half precision", "random tokenizer f32",
        weights(CODEBOOK.format(0), lambda x: x.astype(np.float16)),
        checkpoint="tensor encoder.quant.vq.layers.0._codebook.embed: row 0",
        against="tensor encoder.quant.vq.layers.0._codebook.embed: row 0"),
    Defect("a codebook stored as F16", TOK, weights(CODEBOOK.format(3), lambda x: x, F16),
        static="types: tensor encoder.quant.vq.layers.3._codebook.embed is f16",
        opening="tensor encoder.quant.vq.layers.3._codebook.embed is f16"),
    Defect("two codebook levels swapped", TOK, swap((CODEBOOK.format(2), CODEBOOK.format(3))),
        checkpoint="tensor encoder.quant.vq.layers.2._codebook.embed: begins with the rows of encoder.quantizer.vq",
        run="tok_codes:",
        against="tensor encoder.quant.vq.layers.2._codebook.embed: begins with the rows of encoder.quant.vq.layers.3."),
    Defect("one row of a codebook zero", TOK, weights(CODEBOOK.format(0), lambda x: assign(x, 7, 0)),
        checkpoint="tensor encoder.quant.vq.layers.0._codebook.embed: row 7",
        against="tensor encoder.quant.vq.layers.0._codebook.embed: row 7"),
    Defect("conv kernel reversed", TOK, weights("encoder.conv1.weight", lambda x: x[..., ::-1]),
        checkpoint="tensor encoder.conv1.weight: has no row that is right", run="tok_conv1: cos_",
        against="tensor encoder.conv1.weight: has no row that is right"),
    Defect("inputs and outputs of a convolution exchanged", TOK,
        weights("encoder.conv2.weight", lambda x: x.swapaxes(0, 1)),
        checkpoint="tensor encoder.conv2.weight: has no row that is right", run="tok_conv2: cos_",
        against="tensor encoder.conv2.weight: has no row that is right"),
    Defect("a convolution's bias zeroed", TOK, weights("encoder.conv2.bias", np.zeros_like),
        static="constant tensors: tensor encoder.conv2.bias: each of its 256 weights is 0",
        checkpoint="tensor encoder.conv2.bias: is all zeros", against="tensor encoder.conv2.bias: is all zeros"),
    Defect("last norm and the pooler's swapped", TOK, swap(("enc.norm.weight", "encoder.down_sample_norm.weight")),
        checkpoint="tensor enc.norm.weight: is encoder.down_sample_norm.weight", run="tok_xfmr: cos_",
        against="tensor enc.norm.weight: is encoder.down_sample_norm.weight"),
    Defect("fc1 and fc2 swapped", TOK, swap(("enc.blk.2.fc1.weight", "enc.blk.2.fc2.weight")),
        checkpoint="tensor enc.blk.2.fc1.weight: begins with the rows of encoder.layers.2.fc2.weight",
        run="tok_xfmr: cos_", against="tensor enc.blk.2.fc1.weight: begins with the rows of enc.blk.2.fc2.weight"),
]  # fmt: skip
