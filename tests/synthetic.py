"""Random checkpoints of both families, of any size, in the layout of the published ones."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_convert.checkpoint import Config
from mimo_convert.models import mimo_asr, mimo_tokenizer

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


def write_speech_lm(folder: Path, *, seed: int = 0, n_shards: int = 2, dtype: str = "BF16", **config: Any) -> Path:
    """A speech LM with random weights; `config` overrides ASR_CONFIG. The folder has every tokenizer file."""
    values = ASR_CONFIG | config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    dims = mimo_asr.dimensions(Config(folder / "config.json", values))
    write_vocabulary(folder, dims.vocab_size - N_PADDING, seed=seed)
    tensors = random_tensors(mimo_asr.tensors(dims, False), seed, dtype)
    names, weight_map = sorted(tensors), {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        part = names[shard * len(names) // n_shards : (shard + 1) * len(names) // n_shards]
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_audio_tokenizer(folder: Path, *, seed: int = 0, dtype: str = "BF16", **config: Any) -> Path:
    """An audio tokenizer with random weights, with training buffers and a decoder tensor like the published one."""
    values = TOKENIZER_CONFIG | config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    dims = mimo_tokenizer.dimensions(Config(folder / "config.json", values))
    tensors = random_tensors(mimo_tokenizer.tensors(dims, False), seed + 1, dtype)
    for level, size in enumerate(dims.codebook_size):
        prefix = f"encoder.quantizer.vq.layers.{level}._codebook."
        tensors |= {prefix + "cluster_size": torch.ones(size), prefix + "inited": torch.ones(1)}
    tensors["decoder.dconv1.conv.weight"] = torch.zeros(4, 4, 3)
    save_file(tensors, folder / "model.safetensors")
    return folder


def random_tensors(tensors: list[Any], seed: int, dtype: str) -> dict[str, torch.Tensor]:
    """Weights that keep activations of order one, by the role of each tensor; norms and biases are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    target = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    made = {}
    for tensor in tensors:
        for source in tensor.sources:
            x = torch.randn(source.shape, generator=generator)
            if tensor.role == "norm":
                x = 1 + 0.1 * x
            elif tensor.role == "bias":
                x = 0.1 * x
            elif tensor.role in ("matrix", "head", "convolution"):
                x = x / x[0].numel() ** 0.5
            made[source.name] = x.to(target)
    return made


def write_vocabulary(folder: Path, n_tokens: int, *, seed: int = 0) -> Tokenizer:
    """A byte-level BPE of `n_tokens` tokens, the 30 added ones at the end; 96 of its merges begin with `#`.

    Writes tokenizer.json, vocab.json, merges.txt and tokenizer_config.json, all of the same tokenizer.
    """
    n_entries = n_tokens - len(ADDED_TOKENS)
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
    tokenizer.add_tokens([AddedToken(t, special=t not in NOT_SPECIAL, normalized=False) for t in ADDED_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"))

    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    decoder = {str(n_entries + i): {"content": t, "special": t not in NOT_SPECIAL} for i, t in enumerate(ADDED_TOKENS)}
    config = {"added_tokens_decoder": decoder, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def random_merges(n_entries: int, seed: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges: the 256 bytes, 96 merges that begin with `#`, and random joins of mostly letters."""
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
    while len(tokens) < n_entries:
        left, right = rng.choice(common), rng.choice(common[1:400])
        if join(left, right):
            common.append(left + right)
    return tokens, merges
