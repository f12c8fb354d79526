"""Random checkpoints of Qwen3-ASR of any size, in both layouts, and adapters for them, as they are published.

Names and shapes are written from the specification, without a look at the code that they test.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from tests.synthetic import Random, write_shard, write_vocabulary

TOKENS = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> "
    "<tts_text_eod> <tts_text_bos_single> <non_speech> <|audio_pad|>"
)
ADDED_TOKENS = [*TOKENS.split(), *(f"<blank{i}>" for i in range(1, 28)), "<asr_text>"]
NOT_SPECIAL = {*ADDED_TOKENS[14:26], "<non_speech>", "<asr_text>"}

TEXT: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 128, "intermediate_size": 512, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "attention_bias": False, "max_position_embeddings": 65536, "tie_word_embeddings": True,
    "rope_scaling": {
        "rope_type": "default", "type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True
    },
}  # fmt: skip
AUDIO: dict[str, Any] = {
    "d_model": 128, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 256, "output_dim": 256,
    "num_mel_bins": 128, "downsample_hidden_size": 16, "n_window": 50, "n_window_infer": 800, "conv_chunksize": 500,
    "max_source_positions": 1500, "activation_function": "gelu", "scale_embedding": False,
}  # fmt: skip
REAL_TEXT = TEXT | {
    "vocab_size": 151_936, "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "intermediate_size": 6144,
}  # fmt: skip
REAL_AUDIO = AUDIO | {
    "d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "output_dim": 2048,
    "downsample_hidden_size": 480,
}  # fmt: skip
# Of the smaller published model, with what differs from REAL_TEXT and REAL_AUDIO.
REAL_TEXT_06 = REAL_TEXT | {"hidden_size": 1024, "intermediate_size": 3072}
REAL_AUDIO_06 = REAL_AUDIO | {
    "d_model": 896, "encoder_layers": 18, "encoder_attention_heads": 14, "encoder_ffn_dim": 3584, "output_dim": 1024,
}  # fmt: skip
REAL_N_TOKENS = 151_705  # of the published vocabulary, without unused ids

N_UNUSED = 7  # ids of small vocabularies that no token has


def write_qwen3_asr(
    folder: Path, *, seed: int = 0, n_shards: int = 1, dtype: str = "BF16", hf: bool = False,
    text: Mapping[str, Any] = {}, audio: Mapping[str, Any] = {}, with_head: bool = True, other_head: bool = False,
) -> Path:  # fmt: skip
    """A checkpoint with random weights; `text` and `audio` override TEXT and AUDIO. The folder has every tokenizer
    file.

    `hf`: with the names and the config of an `-hf` repository. `with_head`: lm_head is stored, a copy of
    the embedding unless it is an `other_head`.
    """
    text, audio = TEXT | text, AUDIO | audio
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, text, audio, hf=hf)
    n_tokens = REAL_N_TOKENS if text["vocab_size"] == 151_936 else text["vocab_size"] - N_UNUSED
    write_vocabulary(folder, n_tokens, seed=seed, added=ADDED_TOKENS, not_special=NOT_SPECIAL, eos="<|im_end|>")
    named = list(shapes(text, audio, with_head=with_head))
    copy = {} if other_head else {"thinker.lm_head.weight": "thinker.model.embed_tokens.weight"}
    roles = {name: "embedding" if name in copy else role_of(name) for name, _ in named}
    tensors = sorted(Random(name, roles[name], shape, dtype, copy.get(name, "")) for name, shape in named)
    write_shards(folder, tensors, n_shards, seed)
    if hf:
        rename_to_hf(folder)
    return folder


def rename_to_hf(folder: Path) -> None:
    """Give the tensors of a small checkpoint the names of an `-hf` repository."""
    for shard in folder.glob("*.safetensors"):
        save_torch({hf_name(name): tensor for name, tensor in load_torch(shard).items()}, shard)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        values = json.loads(index.read_text())
        values["weight_map"] = {hf_name(name): file for name, file in values["weight_map"].items()}
        index.write_text(json.dumps(values))


def write_config(folder: Path, text: Mapping[str, Any], audio: Mapping[str, Any], *, hf: bool = False) -> None:
    """`config_values` as config.json."""
    (folder / "config.json").write_text(json.dumps(config_values(text, audio, hf=hf)))


def config_values(text: Mapping[str, Any], audio: Mapping[str, Any], *, hf: bool = False) -> dict[str, Any]:
    """A config; the ids of its tokens are those of the vocabulary, which ends with the added ones."""
    first = 151_643 if text["vocab_size"] == 151_936 else text["vocab_size"] - N_UNUSED - len(ADDED_TOKENS)
    ids = {token: first + i for i, token in enumerate(ADDED_TOKENS)}
    thinker = {
        "audio_config": dict(audio), "text_config": dict(text), "audio_token_id": ids["<|audio_pad|>"],
        "audio_start_token_id": ids["<|audio_start|>"], "audio_end_token_id": ids["<|audio_end|>"],
        "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "dtype": "bfloat16",
    }  # fmt: skip
    about = {"architectures": ["Qwen3ASRForConditionalGeneration"], "model_type": "qwen3_asr"}
    return about | thinker if hf else about | {"thinker_config": thinker}


def write_shards(folder: Path, tensors: list[Random], n_shards: int, seed: int) -> None:
    """One file, or shards with their index."""
    if n_shards == 1:
        write_shard(folder / "model.safetensors", tensors, seed)
        return
    weight_map = {}
    for i in range(n_shards):
        file = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        part = tensors[i * len(tensors) // n_shards : (i + 1) * len(tensors) // n_shards]
        write_shard(folder / file, part, seed)
        weight_map |= dict.fromkeys((tensor.name for tensor in part), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def shapes(
    text: Mapping[str, Any], audio: Mapping[str, Any], *, with_head: bool = True
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the checkpoint with its shape: section 2 of the specification."""
    d, f, c = audio["d_model"], audio["encoder_ffn_dim"], audio["downsample_hidden_size"]
    h, i, v = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    q, kv = (text[key] * text["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))

    def affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"thinker.{name}.weight", shape
        yield f"thinker.{name}.bias", shape[:1]

    yield from affine("audio_tower.conv2d1", c, 1, 3, 3)
    yield from affine("audio_tower.conv2d2", c, c, 3, 3)
    yield from affine("audio_tower.conv2d3", c, c, 3, 3)
    yield "thinker.audio_tower.conv_out.weight", (d, audio["num_mel_bins"] // 8 * c)
    for n in range(audio["encoder_layers"]):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from affine(f"audio_tower.layers.{n}.self_attn.{part}", d, d)
        yield from affine(f"audio_tower.layers.{n}.self_attn_layer_norm", d)
        yield from affine(f"audio_tower.layers.{n}.final_layer_norm", d)
        yield from affine(f"audio_tower.layers.{n}.fc1", f, d)
        yield from affine(f"audio_tower.layers.{n}.fc2", d, f)
    yield from affine("audio_tower.ln_post", d)
    yield from affine("audio_tower.proj1", d, d)
    yield from affine("audio_tower.proj2", h, d)
    yield "thinker.model.embed_tokens.weight", (v, h)
    for n in range(text["num_hidden_layers"]):
        prefix = f"thinker.model.layers.{n}"
        yield f"{prefix}.self_attn.q_proj.weight", (q, h)
        yield f"{prefix}.self_attn.k_proj.weight", (kv, h)
        yield f"{prefix}.self_attn.v_proj.weight", (kv, h)
        yield f"{prefix}.self_attn.o_proj.weight", (h, q)
        yield f"{prefix}.self_attn.q_norm.weight", (text["head_dim"],)
        yield f"{prefix}.self_attn.k_norm.weight", (text["head_dim"],)
        yield f"{prefix}.input_layernorm.weight", (h,)
        yield f"{prefix}.post_attention_layernorm.weight", (h,)
        yield f"{prefix}.mlp.gate_proj.weight", (i, h)
        yield f"{prefix}.mlp.up_proj.weight", (i, h)
        yield f"{prefix}.mlp.down_proj.weight", (h, i)
    yield "thinker.model.norm.weight", (h,)
    if with_head:
        yield "thinker.lm_head.weight", (v, h)


def hf_name(name: str) -> str:
    """The name of a tensor in an `-hf` repository."""
    for ours, theirs in (
        ("thinker.model.", "model.language_model."),
        ("thinker.lm_head.", "lm_head."),
        ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
        ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
        ("thinker.", "model."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def role_of(name: str) -> str:
    """How the weights of a tensor are spread."""
    if name.endswith(".bias"):
        return "bias"
    if "norm" in name or "ln_post" in name:
        return "norm"
    if "embed_tokens" in name:
        return "embedding"
    return "convolution" if "conv2d" in name else "matrix"


# ── adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Block(NamedTuple):
    """Columns `start` … `end` of B, rows of A, of one module, with their own scale alpha / rank."""

    start: int
    end: int
    rank: int | None = None
    alpha: float | None = None

    @property
    def values(self) -> dict[str, float]:
        """As JSON; what is None is left to its default."""
        return {key: value for key, value in self._asdict().items() if value is not None}


def module_shapes(text: Mapping[str, Any], audio: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Every module that the published adapter has pairs for, by its name in the adapter, with the shape of its weight;
    each of the decoder under both spellings."""
    found: dict[str, tuple[int, int]] = {}
    for name, shape in shapes(TEXT | text, AUDIO | audio, with_head=False):
        module = name.removesuffix(".weight")
        if len(shape) != 2 or module.endswith("embed_tokens"):
            continue
        found[module] = shape  # type: ignore[assignment]
        if module.startswith("thinker.model.layers."):
            found[module.replace("thinker.model.layers.", "thinker.layers.")] = shape  # type: ignore[assignment]
    return found


def write_adapter(
    folder: Path, *, seed: int = 7, text: Mapping[str, Any] = {}, audio: Mapping[str, Any] = {}, rank: int = 4,
    alpha: float = 8.0, ranks: Mapping[str, int] = {}, alphas: Mapping[str, float] = {},
    blocks: Mapping[str, list[Block]] = {}, modules: Mapping[str, tuple[int, int]] | None = None, dtype: str = "F32",
) -> Path:  # fmt: skip
    """A LoRA adapter with random pairs for `modules`, by default those of `module_shapes`.

    `ranks` and `alphas` are the patterns, by module; `blocks`, by module, become mega_lora_blocks.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modules = module_shapes(text, audio) if modules is None else modules
    rng = np.random.default_rng(seed)
    kind = {"F32": np.float32, "F16": np.float16}[dtype]
    pairs = {}
    for module, (rows, columns) in sorted(modules.items()):
        r = ranks.get(module, rank)
        a = rng.standard_normal((r, columns), np.float32) * np.float32(columns**-0.5)
        b = rng.standard_normal((rows, r), np.float32) * np.float32(0.2)
        pairs[f"base_model.model.{module}.lora_A.weight"] = a.astype(kind)
        pairs[f"base_model.model.{module}.lora_B.weight"] = b.astype(kind)
    save_file(pairs, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "fan_in_fan_out": False, "bias": "none",
        "rank_pattern": dict(ranks), "alpha_pattern": dict(alphas), "use_dora": False, "use_rslora": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if blocks:
        listed = {module: [block.values for block in of_module] for module, of_module in blocks.items()}
        (folder / "mega_lora_blocks.json").write_text(json.dumps(listed))
    return folder


def write_mega_asr(folder: Path, *, seed: int = 0, **adapter: Any) -> Path:
    """A repository like Mega-ASR's: the base, the adapter, and a router, which is not converted."""
    write_qwen3_asr(folder / "Qwen3-ASR-1.7B", seed=seed)
    write_adapter(folder / "mega-asr-merged", **adapter)
    router = folder / "audio_quality_router"
    router.mkdir()
    save_file({"fc.weight": np.ones((1, 4), np.float32)}, router / "model.safetensors")
    return folder
