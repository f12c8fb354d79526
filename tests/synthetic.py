"""Random checkpoints of both families, of any size up to the real one, in the layout of the published ones.

Weights are made and written a few million at a time, so that 16 GB need no more memory than a small one.
"""

import json
import os
import random
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_convert.formats.config import Config
from mimo_convert.model.family import SEPARATE
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer

# Qwen2's pre-tokenization, from the published tokenizer.json.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED_TOKENS = (  # noqa: SIM905, a list of thirty strings reads worse
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<|sosp|> <|eosp|> <|empty|> <|Human|> <|SpeechLM|> <|sostm|> <|eostm|> <|eot|>"
).split()
NOT_SPECIAL = ADDED_TOKENS[14:22]
REAL_VOCAB_SIZE, N_PADDING, N_HASH_MERGES = 151_680, 7, 96

ASR_CONFIG: dict[str, Any] = {
    "architectures": ["MiMoV2ASRForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "attention_bias": True,
    "tie_word_embeddings": False, "vocab_size": 1280, "hidden_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 512,
    "rms_norm_eps": 1e-6, "rope_theta": 640000, "max_position_embeddings": 1024, "group_size": 4, "audio_channels": 8,
    "speech_vocab_size": "1025-1025-129-129-129-129-129-129", "speech_zeroemb_idx": "1024-1024-128-128-128-128-128-128",
    "delay_pattern": "0-1-2-3-4-5-6-7", "input_local_layers": 2, "input_local_dim": 256, "input_full_attention": True,
    "local_attn_heads": 4, "local_layers": 2, "local_dim": 128, "local_ffn_dim": 256,
}  # fmt: skip
TOKENIZER_CONFIG: dict[str, Any] = {
    "model_type": "mimo_audio_tokenizer", "d_model": 256, "encoder_layers": 4, "encoder_attention_heads": 4,
    "encoder_ffn_dim": 512, "encoder_skip_layer_id": 3, "encoder_causal": False, "encoder_attn_window_size": [-1, -1],
    "kernel_size": 3, "stride_size": 2, "avg_pooler": 2, "n_mels": 128, "nfft": 960, "window_size": 960,
    "hop_length": 240, "sampling_rate": 24000, "fmin": 0, "fmax": None, "rope_theta": 10000, "ln_type": "LayerNorm",
    "activation_function": "gelu", "num_quantizers": 20, "codebook_size": [1024, 1024] + [128] * 18,
    "scale_embedding": False,
}  # fmt: skip

# What the config of an audio tokenizer with decoder and vocoder has besides.
DECODER_CONFIG: dict[str, Any] = {
    "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 512, "decoder_causal": True,
    "decoder_attn_window_size": [-1, -1], "decoder_kernel_size": 3, "decoder_stride_size": 2, "vocoder_dim": 64,
    "vocoder_num_layers": 2, "vocoder_attention_heads": 4, "vocoder_intermediate_dim": 128,
    "vocoder_attn_window_size": [40, 10], "vocoder_padding": "same",
}  # fmt: skip
# What MiMo-Audio-7B's has otherwise than ASR_CONFIG: flat keys, and no input_full_attention, which means causal.
MIMO_AUDIO_CONFIG: dict[str, Any] = {"architectures": ["MiMoAudioModel"], "input_full_attention": None}


# MiMo-V2.5-ASR's config.json and the audio tokenizer's, as published.
REAL_ASR_CONFIG: dict[str, Any] = ASR_CONFIG | {
    "vocab_size": REAL_VOCAB_SIZE, "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 11008, "max_position_embeddings": 8192, "input_local_layers": 6,
    "input_local_dim": 1024, "local_attn_heads": 64, "local_layers": 16, "local_dim": 1024, "local_ffn_dim": 4096,
}  # fmt: skip
REAL_TOKENIZER_CONFIG: dict[str, Any] = TOKENIZER_CONFIG | {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
}  # fmt: skip
REAL_DECODER_CONFIG: dict[str, Any] = DECODER_CONFIG | {
    "decoder_layers": 32, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "vocoder_dim": 256,
    "vocoder_num_layers": 16, "vocoder_attention_heads": 16, "vocoder_intermediate_dim": 1024,
}  # fmt: skip

WEIGHTS_AT_ONCE = 1 << 22


class Random(NamedTuple):
    """A tensor to be made: `role` decides how its weights are spread. It has the weights of `like` if that is named."""

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    like: str = ""


def write_speech_lm(
    folder: Path, *, seed: int = 0, n_shards: int = 2, dtype: str = "BF16", sparse: bool = False, **config: Any
) -> Path:
    """A speech LM with random weights; `config` overrides ASR_CONFIG. The folder has every tokenizer file. Those that
    are `sparse` are zeros that take no disk."""
    values = ASR_CONFIG | config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    dims = mimo_asr.dimensions(Config(folder / "config.json", values))
    write_vocabulary(folder, dims.vocab_size - N_PADDING, seed=seed)
    tensors = sorted(random_tensors(mimo_asr.tensors(dims, SEPARATE), dtype))
    weight_map = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        part = tensors[shard * len(tensors) // n_shards : (shard + 1) * len(tensors) // n_shards]
        write_shard(folder / file, part, seed, sparse=sparse)
        weight_map |= dict.fromkeys((tensor.name for tensor in part), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_audio_tokenizer(folder: Path, *, seed: int = 0, dtype: str = "BF16", **config: Any) -> Path:
    """An audio tokenizer with random weights, with training buffers like the published one; a `config` with
    DECODER_CONFIG has a decoder in it, and the dtypes of the published one, else a tensor of a decoder."""
    values = TOKENIZER_CONFIG | config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    dims = mimo_tokenizer.dimensions(Config(folder / "config.json", values))
    tensors = random_tensors(mimo_tokenizer.tensors(dims, SEPARATE), dtype)
    for level, size in enumerate(dims.codebook_size):
        prefix = f"encoder.quantizer.vq.layers.{level}._codebook."
        tensors += [Random(prefix + name, "buffer", (n,), "F32") for name, n in (("cluster_size", size), ("inited", 1))]
    if dims.has_decoder:
        exact = ("decoder.", "encoder.quantizer.")
        tensors = [one._replace(dtype="F32") if one.name.startswith(exact) else one for one in tensors]
    else:
        tensors.append(Random("decoder.dconv1.conv.weight", "convolution", (4, 4, 3), "F32"))
    write_shard(folder / "model.safetensors", tensors, seed + 1)
    return folder


def random_tensors(tensors: Any, dtype: str) -> list[Random]:
    """What a family's tensors are made of."""
    return [Random(source.name, tensor.role, source.shape, dtype) for tensor in tensors for source in tensor.sources]


def write_shard(path: Path, tensors: Sequence[Random], seed: int, *, sparse: bool = False) -> None:
    """A safetensors file of random weights, made over all cores; the same for the same `seed`; or a `sparse` one."""
    header, places, end = {}, {}, 0
    for tensor in tensors:
        places[tensor.name], end = end, end + prod(tensor.shape) * {"F32": 4, "F16": 2, "BF16": 2}[tensor.dtype]
        header[tensor.name] = {
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [places[tensor.name], end]
        }  # fmt: skip
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)

    with path.open("wb") as file, ThreadPoolExecutor() as pool:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)  # a tensor may be empty

        def write(tensor: Random, first: int) -> None:
            data = random_weights(tensor, first, seed)
            os.pwrite(file.fileno(), data.tobytes(), 8 + len(raw) + places[tensor.name] + first * data.itemsize)

        for tensor in () if sparse else tensors:
            starts = range(0, prod(tensor.shape), WEIGHTS_AT_ONCE)
            list(pool.map(write, [tensor] * len(starts), starts))


def random_weights(tensor: Random, first: int, seed: int) -> npt.NDArray[Any]:
    """Weights from `first` on, in the dtype's bits: activations stay of order one; norms and biases are not trivial."""
    n = min(WEIGHTS_AT_ONCE, prod(tensor.shape) - first)
    generator = np.random.default_rng([seed, crc32((tensor.like or tensor.name).encode()), first])
    x = generator.standard_normal(n, np.float32)
    if tensor.role == "norm":
        x = 1 + np.float32(0.1) * x
    elif tensor.role == "bias":
        x *= np.float32(0.1)
    elif tensor.role == "table":  # of a window: almost a periodic Hann
        x = (1 + np.float32(0.1) * x) * np.sin(np.pi * np.arange(n, dtype=np.float32) / n) ** 2
    elif tensor.role in ("matrix", "encoder_matrix", "vocoder_matrix", "head", "convolution"):
        x *= np.float32(prod(tensor.shape[1:]) ** -0.5)
    elif tensor.role == "buffer":
        x[:] = 1
    if tensor.dtype == "BF16":
        return ((x.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    return x.astype({"F32": np.float32, "F16": np.float16}[tensor.dtype])


def write_vocabulary(
    folder: Path, n_tokens: int, *, seed: int = 0, added: Sequence[str] = ADDED_TOKENS,
    not_special: Collection[str] = NOT_SPECIAL, eos: str = "<|endoftext|>",
) -> Tokenizer:  # fmt: skip
    """A byte-level BPE of `n_tokens` tokens, the added ones at the end; 96 of its merges begin with `#`.

    Writes tokenizer.json, vocab.json, merges.txt and tokenizer_config.json, all of the same tokenizer.
    """
    n_entries = n_tokens - len(added)
    tokens, merges = random_merges(n_entries, seed)
    vocab = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(t, special=t not in not_special, normalized=False) for t in added])
    tokenizer.save(str(folder / "tokenizer.json"))

    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    decoder = {str(n_entries + i): {"content": t, "special": t not in not_special} for i, t in enumerate(added)}
    config = {"added_tokens_decoder": decoder, "eos_token": eos, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


@cache
def random_merges(n_entries: int, seed: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges: the 256 bytes, 96 merges that begin with `#`, and random joins of mostly letters.

    Both are kept for the next caller: copy them before changing anything.
    """
    rng = random.Random(seed)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    known, merges = set(tokens), []
    common = ["Ġ", *"etaoinshrdlu"]
    hashes = [*"#"]

    def join(left: str, right: str) -> bool:
        new = left + right
        if new in known or len(new) > 16 or "Ġ" in right:
            return False
        known.add(new)
        tokens.append(new)
        merges.append((left, right))
        return True

    n_hashes = min(N_HASH_MERGES, (n_entries - 256) // 2)
    while len(merges) < n_hashes:
        left, right = rng.choice(hashes), rng.choice([*hashes, *"!-:=abc"])
        if join(left, right):
            hashes.append(left + right)
    rights = common[1:]
    while len(tokens) < n_entries:
        left, right = rng.choice(common), rng.choice(rights)
        if join(left, right):
            common.append(left + right)
            if len(rights) < 399:
                rights.append(left + right)
    return tokens, merges
