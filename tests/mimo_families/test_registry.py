"""The MiMo families: sizes from a config, tensors by name and shape, metadata; against the published models' facts."""

import re
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.formats.config import Config
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.family import Layout, family_of
from mimo_convert.model.gguf_facts import dimensions_of_file
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from mimo_families.registry import families
from quantize.errors import InputError
from tests import contract
from tests.synthetic import REAL_ASR_CONFIG as REAL_FLAT
from tests.synthetic import REAL_TOKENIZER_CONFIG as REAL_TOKENIZER

# As published; `audio_config` repeats and completes the flat audio part.
REAL_NESTED = REAL_FLAT | {
    "audio_config": {
        "group_size": 4, "audio_channels": 8, "speech_vocab_size": "1025-1025-129-129-129-129-129-129",
        "input_local_layers": 6, "input_local_dim": 1024, "input_full_attention": True, "local_attn_heads": 64,
        "input_local_attn_heads": 64, "input_local_head_dim": 16, "input_local_intermediate_size": 4096,
        "out_hidden_size": 4096, "rope_theta": 640000, "partial_rotary_factor": 1.0, "add_post_norm": True,
        "audio_segment_size": 6000,
    }
}  # fmt: skip
# What the existing runtime reads, by the contract.
PUBLISHED = """
mimo_asr.llm: hidden_size num_layers num_heads num_kv_heads intermediate_size vocab_size max_position_embeddings
mimo_asr.llm: rope_theta rms_norm_eps
mimo_asr.audio: channels group_size input_layers input_dim input_heads input_head_dim input_intermediate out_hidden_size
mimo_asr.audio.speech_vocab: 0 1 2 3 4 5 6 7
mimo_asr.audio.speech_zeroemb: 0 1 2 3 4 5 6 7
mimo_tok: d_model encoder_layers encoder_heads encoder_ffn_dim num_quantizers sampling_rate hop_length stride_size
mimo_tok: avg_pooler kernel_size
mimo_tok.codebook_size: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
"""
PUBLISHED_KEYS = {
    f"{prefix}.{key}"
    for prefix, _, keys in (line.partition(": ") for line in PUBLISHED.strip().splitlines())
    for key in keys.split()
}


def lm(values: dict[str, Any]) -> mimo_asr.SpeechLMDims:
    return mimo_asr.dimensions(Config(Path("config.json"), values))


def tokenizer(values: dict[str, Any]) -> mimo_tokenizer.AudioTokenizerDims:
    return mimo_tokenizer.dimensions(Config(Path("config.json"), values))


def shapes(tensors: list[Any]) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in tensors}


@pytest.mark.parametrize("fused", [False, True])
def test_the_speech_lms_tensors_are_the_contracts(fused: bool) -> None:
    found = {t.name: [s.name for s in t.sources] for t in mimo_asr.tensors(lm(REAL_NESTED), Layout(fused))}
    assert found == contract.speech_lm_names(36, 6, 16, fused=fused)


def test_the_audio_tokenizers_tensors_are_the_contracts() -> None:
    for fuse in (False, True):  # fusing means the language model alone
        found = {
            t.name: [s.name for s in t.sources] for t in mimo_tokenizer.tensors(tokenizer(REAL_TOKENIZER), Layout(fuse))
        }
        assert found == contract.audio_tokenizer_names(32, 20)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("llm.embed.weight", (151680, 4096)), ("llm.lm_head.weight", (151680, 4096)),
        ("llm.final_norm.weight", (4096,)),
        ("model.layers.35.attn.qkv.weight", (4096 + 1024 + 1024, 4096)), ("model.layers.35.attn.qkv.bias", (6144,)),
        ("model.layers.0.attn.o.weight", (4096, 4096)), ("model.layers.0.ffn.gate.weight", (11008, 4096)),
        ("model.layers.0.ffn.down.weight", (4096, 11008)), ("audio.blk.5.attn.k.weight", (1024, 1024)),
        ("audio.blk.5.ffn.up.weight", (4096, 1024)), ("audio.norm.weight", (1024,)),
        ("audio.emb.1.weight", (1025, 1024)),
        ("audio.emb.2.weight", (129, 1024)), ("audio.group_proj.weight", (4096, 4 * 1024)),
        ("audio.hidden_proj.weight", (1024, 4096)), ("llm.blk.15.attn.q.weight", (1024, 1024)),
        ("llm.blk.15.ffn.down.weight", (1024, 4096)), ("llm.codebook_head.7.weight", (129, 1024)),
    ],
)  # fmt: skip
def test_shapes_of_the_published_speech_lm(name: str, shape: tuple[int, ...]) -> None:
    assert shapes(mimo_asr.tensors(lm(REAL_NESTED), Layout(True)))[name] == shape


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.conv1.weight", (1280, 128, 3)), ("encoder.conv2.weight", (1280, 1280, 3)),
        ("encoder.down_sample_layer.0.weight", (1280, 1280, 2)), ("enc.blk.31.attn.o.weight", (1280, 1280)),
        ("enc.blk.31.fc1.weight", (5120, 1280)), ("enc.blk.31.fc2.weight", (1280, 5120)), ("enc.norm.bias", (1280,)),
        ("encoder.quant.vq.layers.1._codebook.embed", (1024, 1280)),
        ("encoder.quant.vq.layers.19._codebook.embed", (128, 1280)),
    ],
)  # fmt: skip
def test_shapes_of_the_published_audio_tokenizer(name: str, shape: tuple[int, ...]) -> None:
    assert shapes(mimo_tokenizer.tensors(tokenizer(REAL_TOKENIZER)))[name] == shape


def test_the_published_speech_lm_has_8_billion_weights_of_which_a_quarter_billion_only_speaks() -> None:
    sizes = {name: prod(shape) for name, shape in shapes(mimo_asr.tensors(lm(REAL_NESTED))).items()}
    speaking = ("llm.blk.", "llm.norm.", "llm.codebook_head.", "audio.hidden_proj.")
    assert round(sum(sizes.values()) / 1e9, 1) == 8.0
    # 16 blocks of 4 × 1024² + 3 × 4096 × 1024 weights, and what stands around them
    assert round(sum(n for name, n in sizes.items() if name.startswith(speaking)) / 1e9, 2) == 0.28


def test_a_flat_config_gives_the_same_sizes_as_a_nested_one() -> None:
    assert lm(REAL_FLAT) == lm(REAL_NESTED)


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("group_size", 2, "group_size", 2), ("input_local_layers", 3, "input_layers", 3),
        ("input_local_dim", 512, "input_dim", 512), ("input_local_attn_heads", 8, "input_heads", 8),
        ("input_local_head_dim", 32, "input_head_dim", 32),
        ("input_local_intermediate_size", 77, "input_intermediate", 77),
        ("rope_theta", 10000, "input_rope_theta", 10000.0),
        ("speech_vocab_size", "2000", "speech_vocab", (2000,) * 8), ("delay_pattern", "0-1", "delay_pattern", "0-1"),
    ],
)  # fmt: skip
def test_the_nested_value_wins(key: str, value: Any, field: str, expected: Any) -> None:
    changed = REAL_NESTED | {"audio_config": REAL_NESTED["audio_config"] | {key: value}}
    assert getattr(lm(changed), field) == expected


@pytest.mark.parametrize(
    ("config", "field", "expected"),
    [
        ({"input_local_dim": 512}, "input_head_dim", 8),
        ({"input_local_dim": 512}, "input_intermediate", 2048),
        ({"local_attn_heads": 32}, "input_heads", 32),
        ({"local_attn_heads": 32}, "patch_head_dim", 32),
        ({"head_dim": None}, "head_dim", 128),
        ({"hidden_size": 2048}, "out_hidden_size", 2048),
        ({"audio_channels": 2, "speech_vocab_size": 300, "speech_zeroemb_idx": "299"}, "speech_vocab", (300, 300)),
    ],
)
def test_what_a_config_leaves_out_follows_from_the_rest(config: dict[str, Any], field: str, expected: Any) -> None:
    assert getattr(lm(REAL_FLAT | config), field) == expected


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "4096"}, "hidden_size is '4096'; expected a value of type int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; expected a positive number"),
        ({"max_position_embeddings": 2**40}, f"max_position_embeddings is {2**40}; expected a positive number"),
        ({"rope_theta": 1e39}, "rope_theta is 1e+39; expected a number that float32 can hold"),
        ({"num_key_value_heads": 5}, "num_key_value_heads is 5; expected a divisor of num_attention_heads, 32"),
        ({"hidden_act": "gelu"}, 'hidden_act is "gelu"; expected "silu"'),
        ({"attention_bias": False}, "attention_bias is false; expected true"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true; expected false"),
        ({"rope_scaling": {"type": "yarn"}}, 'rope_scaling is {"type": "yarn"}; expected'),
        ({"audio_config": {"add_post_norm": False}}, "audio_config.add_post_norm is false; expected true"),
        ({"speech_vocab_size": "1025-129"}, "speech_vocab_size is '1025-129'; expected 8 numbers joined by dashes"),
        ({"speech_vocab_size": "²"}, "speech_vocab_size is '²'; expected 8 numbers joined by dashes"),
        ({"speech_vocab_size": "1" * 12}, f"speech_vocab_size is '{'1' * 12}'; expected 8 numbers"),
        ({"audio_channels": 2_000_000_000}, "audio_channels is 2000000000; expected a positive number of at most 64"),
        ({"delay_pattern": "\ud800"}, "delay_pattern is '\\ud800'; expected text that UTF-8 can hold"),
        ({"speech_zeroemb_idx": "1025"}, "speech_zeroemb_idx of channel 0 is 1025; expected from 1, and below 1025"),
    ],
)
def test_a_speech_lm_config_that_cannot_be_converted_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        lm(REAL_FLAT | config)
    assert str(caught.value).startswith(f"config.json: {says}")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"d_model": None}, "d_model is missing"),
        ({"encoder_attention_heads": 3}, "encoder_attention_heads is 3; expected a divisor of 1280"),
        ({"encoder_skip_layer_id": 33}, "encoder_skip_layer_id is 33; expected at most 32"),
        ({"hop_length": 1}, "hop_length is 1; expected at least 48, for 500 mel frames a second"),
        ({"codebook_size": [10**4000] * 20}, "codebook_size is ["),
        ({"codebook_size": [128] * 19}, f"codebook_size is {[128] * 19}; expected 20 sizes"),
        ({"codebook_size": "128"}, "codebook_size is '128'; expected a value of type list"),
        ({"codebook_size": [128.5] * 20}, f"codebook_size is {[128.5] * 20}; expected 20 sizes"),
        ({"encoder_causal": True}, "encoder_causal is true; expected false"),
        ({"encoder_attn_window_size": [40, 10]}, "encoder_attn_window_size is [40, 10]; expected [-1, -1]"),
        ({"fmax": 8000}, "fmax is 8000; expected"),
        ({"stride_size": 1}, "stride_size is 1; expected 2"),
    ],
)
def test_an_audio_tokenizer_config_that_cannot_be_converted_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer(REAL_TOKENIZER | config)
    assert str(caught.value).startswith(f"config.json: {says}")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (REAL_FLAT, mimo_asr.FAMILY),
        ({"architectures": ["MiMoAudioForCausalLM"]}, mimo_asr.FAMILY),
        ({"architectures": ["MiMoAudioModel"], "model_type": "qwen2"}, mimo_asr.FAMILY),
        (REAL_TOKENIZER, mimo_tokenizer.FAMILY),
    ],
)
def test_a_family_is_known_by_what_the_config_says(config: dict[str, Any], expected: Any) -> None:
    assert family_of(families(), Checkpoint(Path(), "x", Config(Path("config.json"), config), {})) is expected


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, "Qwen2ForCausalLM, qwen2"),
        ({"architectures": "MiMoV2ASRForCausalLM"}, "nothing"),
        ({}, "nothing"),
        ({"architectures": [None, {}], "model_type": 3}, "3"),
    ],
)
def test_an_unknown_architecture_is_answered_with_the_known_ones(config: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=f"config.json: names the architecture {found}; expected one of MiMoV2ASR"):
        family_of(families(), Checkpoint(Path(), "x", Config(Path("config.json"), config), {}))


@pytest.mark.parametrize("family", [mimo_asr.FAMILY, mimo_tokenizer.FAMILY], ids=lambda family: family.architecture)
def test_sizes_survive_the_way_through_a_files_metadata(family: Any) -> None:
    dims = family.dimensions(Config(Path("config.json"), REAL_NESTED if family.text else REAL_TOKENIZER))
    metadata: dict[str, Any] = {}
    for field, name in [(key.field, key.key) for key in family.keys if key.part not in family.unsized_parts(dims)]:
        value = asdict(dims)[field]
        metadata |= {f"{name}.{i}": n for i, n in enumerate(value)} if isinstance(value, tuple) else {name: value}
    assert dimensions_of_file(family, Path("x.gguf"), metadata) == dims

    published = {key: value for key, value in metadata.items() if key in PUBLISHED_KEYS}
    assert dimensions_of_file(family, Path("x.gguf"), published) == dims, "what older files lack has these values"

    for key in published:
        without = {k: v for k, v in published.items() if k != key}
        if not re.search(r"\.[1-9]\d*$", key):  # of a list, the first element
            with pytest.raises(InputError, match=f"x.gguf: key {key.removesuffix('.0')} is missing; expected a value"):
                dimensions_of_file(family, Path("x.gguf"), without)
        with pytest.raises(InputError, match=r"x.gguf: key .* holds 0 values; expected a value of type"):
            dimensions_of_file(family, Path("x.gguf"), published | {key: []})
