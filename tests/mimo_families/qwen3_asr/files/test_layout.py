"""Files of the family by the `gguf` library and `tokenizers`, against the contract and the checkpoint."""

import json
import math
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Layout
from mimo_families.qwen3_asr.layout import FAMILY, file_stem
from mimo_families.qwen3_asr.sizes import dimensions
from quantize.errors import InputError
from quantize.types import TYPES
from tests.mimo_commands.invoked import check_one_line, invoke, names
from tests.mimo_families.qwen3_asr.files import contract
from tests.qwen3_checkpoint import (
    ADDED_TOKENS,
    AUDIO,
    N_UNUSED,
    NOT_SPECIAL,
    REAL_AUDIO,
    REAL_AUDIO_06,
    REAL_TEXT,
    REAL_TEXT_06,
    TEXT,
    config_values,
    shapes,
    write_qwen3_asr,
)
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors
from tests.system.once import once


def dims(text: dict[str, Any], audio: dict[str, Any], **more: Any) -> Any:
    return dimensions(Config(Path("config.json"), config_values(text, audio, **more)))


@pytest.fixture(scope="session")
def written(published: Path, hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`published/` and `hf/`: both layouts in every type, as one command writes them."""

    def make(folder: Path) -> None:
        types = [word for name in TYPES for word in ("--outtype", name)]
        for checkpoint in (published, hf):
            layout = "hf" if checkpoint is hf else "published"
            assert invoke(checkpoint, *types, "--out", folder / layout).exit_code == 0

    return once(tmp_path_factory, "qwen3-asr-files", make)


# ── the published models ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "audio", "stem", "tower", "whole", "n_stored"),
    [
        (REAL_TEXT, REAL_AUDIO, "qwen3-asr-1.7b", 317_477_504, 2_038_052_480, 708),
        (REAL_TEXT_06, REAL_AUDIO_06, "qwen3-asr-0.6b", 186_376_192, 782_426_112, 612),
    ],
)
def test_a_published_model_has_its_tensors_parameters_and_name(
    text: dict[str, Any], audio: dict[str, Any], stem: str, tower: int, whole: int, n_stored: int
) -> None:
    d = dims(text, audio)
    stored = dict(shapes(text, audio))
    tensors = [t for t in FAMILY.tensors(d, Layout()) if t.name not in ("audio.mel_filters", "audio.mel_window")]
    named = contract.names(audio["encoder_layers"], text["num_hidden_layers"])
    assert {t.name: t.shape for t in tensors} == {ours: stored[theirs] for ours, theirs in named.items()}
    assert len(stored) == n_stored
    sizes = {t.name: prod(t.shape) for t in tensors if t.name != "output.weight"}
    assert sum(n for name, n in sizes.items() if name.startswith("audio.")) == tower
    assert sum(sizes.values()) == whole
    assert (file_stem(d), file_stem(d, "mega-asr-merged")) == (stem, stem.replace("qwen3", "mega"))
    assert file_stem(d, "my lora/2") == f"{stem}-my-lora-2"


def test_the_vocabulary_has_the_published_ids() -> None:
    assert FAMILY.text
    assert FAMILY.text.published
    ids = {token: 151_643 + i for i, token in enumerate(ADDED_TOKENS)}
    assert FAMILY.text.published.ids.items() <= ids.items()
    assert FAMILY.text.published.n_unused == 151_936 - 151_643 - len(ADDED_TOKENS)


# ── what a config says ───────────────────────────────────────────────────────────────────────────────────────────


def test_both_layouts_of_a_config_give_the_same_sizes() -> None:
    assert dims(REAL_TEXT, REAL_AUDIO) == dims(REAL_TEXT, REAL_AUDIO, hf=True)
    assert dims(REAL_TEXT, REAL_AUDIO).window_tokens == 104


@pytest.mark.parametrize(
    ("text", "audio", "says"),
    [
        ({"hidden_act": "gelu"}, {}, 'text_config.hidden_act is "gelu"; expected "silu"'),
        ({"tie_word_embeddings": False}, {}, "text_config.tie_word_embeddings is false; expected true"),
        ({"rope_scaling": {"rope_type": "yarn"}}, {}, 'text_config.rope_scaling.rope_type is "yarn"'),
        ({"num_key_value_heads": 3}, {}, "num_key_value_heads is 3; expected a divisor of num_attention_heads, 4"),
        ({"head_dim": 7}, {}, "head_dim is 7; expected an even number"),
        ({"vocab_size": 300}, {}, "audio_start_id is"),
        ({}, {"activation_function": "relu"}, 'audio_config.activation_function is "relu"; expected "gelu"'),
        ({}, {"d_model": None}, "audio_config.d_model is missing"),
        ({}, {"encoder_attention_heads": 3}, "encoder_attention_heads is 3; expected a divisor of d_model, 128"),
        ({}, {"output_dim": 128}, "output_dim is 128; expected hidden_size, 256"),
        ({}, {"n_window_infer": 250}, "n_window_infer is 250; expected a multiple of 2 × n_window, 100"),
    ],
)
def test_a_config_of_another_model_is_named(text: dict[str, Any], audio: dict[str, Any], says: str) -> None:
    values = config_values(TEXT | text, AUDIO | audio)
    for key in ("audio_start_token_id", "audio_end_token_id"):
        values["thinker_config"][key] = 444
    with pytest.raises(InputError) as caught:
        dimensions(Config(Path("config.json"), values))
    assert str(caught.value).removeprefix("config.json: ").removeprefix("thinker_config.").startswith(says)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("type_name", TYPES)
def test_a_file_has_the_contracts_tensors_in_the_types_that_roles_ask_for(written: Path, type_name: str) -> None:
    found = gguf_tensors(written / "published" / f"qwen3-asr-{type_name}.gguf")
    named = contract.names(AUDIO["encoder_layers"], TEXT["num_hidden_layers"])
    assert found.keys() == named.keys() | {"audio.mel_filters", "audio.mel_window"}
    stored = dict(shapes(TEXT, AUDIO))
    assert {name: found[name].shape for name in named} == {name: stored[theirs] for name, theirs in named.items()}
    small = TYPES[type_name].bits_per_weight < 8
    for name, tensor in found.items():
        expected = "q8_0" if name.startswith("audio.") and small else type_name
        if type_name == "f32" or len(tensor.shape) == 1 or name == "audio.mel_filters":
            expected = "f32"
        elif len(tensor.shape) == 4:
            expected = "f16"
        assert tensor.type == expected, name


@pytest.mark.parametrize("layout", ["published", "hf"])
def test_a_file_has_the_contracts_keys_and_the_checkpoints_weights(written: Path, published: Path, layout: str) -> None:
    path = written / layout / "qwen3-asr-f32.gguf"
    metadata, weights = gguf_metadata(path), checkpoint_tensors(published)
    assert metadata["general.architecture"] == "qwen3asr"
    expected = contract.keys(TEXT, AUDIO)
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["qwen3asr.llm.rms_norm_eps"] == pytest.approx(1e-6)
    found = gguf_tensors(path)
    for name, theirs in contract.names(AUDIO["encoder_layers"], TEXT["num_hidden_layers"]).items():
        assert found[name].data == weights[theirs].to(torch.float32).numpy().tobytes(), name


def test_both_layouts_give_the_same_rows_in_every_type(written: Path) -> None:
    for type_name in TYPES:
        one, other = (gguf_tensors(written / layout / f"qwen3-asr-{type_name}.gguf") for layout in ("published", "hf"))
        assert one == other


def test_the_head_is_the_embedding_byte_by_byte(written: Path) -> None:
    for type_name in TYPES:
        found = gguf_tensors(written / "published" / f"qwen3-asr-{type_name}.gguf")
        assert found["output.weight"].data == found["token_embd.weight"].data
        assert found["output.weight"].type == found["token_embd.weight"].type


def test_the_vocabulary_is_that_of_the_tokenizers_library(written: Path, published: Path) -> None:
    metadata, theirs = gguf_metadata(written / "published" / "qwen3-asr-q8_0.gguf"), Tokenizer.from_file(
        str(published / "tokenizer.json")
    )  # fmt: skip
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    n_used = TEXT["vocab_size"] - N_UNUSED
    assert tokens[:n_used] == [theirs.id_to_token(i) for i in range(n_used)]
    assert tokens[n_used:] == [f"[PAD{i}]" for i in range(n_used, TEXT["vocab_size"])]
    added = {token: 4 if token in NOT_SPECIAL else 3 for token in ADDED_TOKENS}
    assert {tokens[i]: types[i] for i in range(len(tokens)) if tokens[i] in added} == added
    ids = {
        "audio_start": "<|audio_start|>", "audio_end": "<|audio_end|>", "audio_pad": "<|audio_pad|>",
        "eos": "<|im_end|>", "pad": "<|endoftext|>",
    }  # fmt: skip
    for key, token in ids.items():
        assert metadata[f"qwen3asr.{key}_token_id"] == theirs.token_to_id(token)
    assert metadata["tokenizer.ggml.eos_token_id"] == theirs.token_to_id("<|im_end|>")
    assert metadata["tokenizer.ggml.merges"][:1] == [" ".join(published_merge(published))]


def published_merge(folder: Path) -> list[str]:
    return (folder / "merges.txt").read_text().splitlines()[1].split(" ")


def test_mel_filters_and_window_are_those_of_the_specification(written: Path) -> None:
    found = {t.name: t for t in GGUFReader(written / "published" / "qwen3-asr-q4_k.gguf").tensors}
    window = found["audio.mel_window"].data
    np.testing.assert_allclose(window, torch.hann_window(400, periodic=True).numpy(), atol=2e-7)
    filters = found["audio.mel_filters"].data.astype(np.float64)
    assert filters.shape == (201, 128)

    def mel(f: float) -> float:
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    inside = np.arange(201) * 40.0
    scale = np.array([mel(f) for f in inside]) * 129 / mel(8000)  # in steps between edges
    for m in range(128):  # by steps in mel, each filter reaches over the bins between its edges, and over no others
        assert np.array_equal(filters[:, m] > 0, (scale > m) & (scale < m + 2)), m
    # the first reaches from 0 to 46.77 Hz, two of 129 steps of 45.25 mel, and is 2 / 46.77 high at 23.38 Hz
    assert filters[1, 0] == pytest.approx((46.7655 - 40) / 23.3828 * 2 / 46.7655, rel=1e-4)
    # each has the area 1: those that are wide enough show it in a sum over bins of 40 Hz
    np.testing.assert_allclose(filters[:, 60:].sum(axis=0) * 40, 1, atol=0.1)


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rule_may_quantize_the_encoder_further(published: Path, tmp_path: Path) -> None:
    assert (
        invoke(published, "--outtype", "q4_k", "--tensor-type", "audio.blk.*ffn=q4_0", "--out", tmp_path).exit_code == 0
    )
    found = gguf_tensors(tmp_path / "qwen3-asr-q4_k-mix.gguf")
    assert {found[f"audio.blk.0.{name}.weight"].type for name in ("ffn_up", "ffn_down", "attn_q")} == {"q4_0", "q8_0"}


def test_a_rule_about_the_head_alone_makes_it_another_type(published: Path, tmp_path: Path) -> None:
    assert invoke(published, "--outtype", "q4_k", "--tensor-type", "^output=q6_k", "--out", tmp_path).exit_code == 0
    found = gguf_tensors(tmp_path / "qwen3-asr-q4_k-mix.gguf")
    assert (found["output.weight"].type, found["token_embd.weight"].type) == ("q6_k", "q4_k")
    again = gguf_tensors(tmp_path / "qwen3-asr-q4_k-mix.gguf")["output.weight"].data
    assert invoke(published, "--outtype", "q6_k", "--out", tmp_path).exit_code == 0
    assert gguf_tensors(tmp_path / "qwen3-asr-q6_k.gguf")["token_embd.weight"].data == again


def test_without_the_copy_a_file_has_everything_else(published: Path, written: Path, tmp_path: Path) -> None:
    assert invoke(published, "--outtype", "q4_k", "--no-output-copy", "--out", tmp_path).exit_code == 0
    whole = gguf_tensors(written / "published" / "qwen3-asr-q4_k.gguf")
    found = gguf_tensors(tmp_path / "qwen3-asr-q4_k.gguf")
    assert whole.keys() - found.keys() == {"output.weight"}
    assert all(found[name].data == whole[name].data for name in found)


def test_fused_projections_are_refused_with_the_reason(published: Path, tmp_path: Path) -> None:
    result = invoke(published, "--fuse-qkv", "--out", tmp_path / "out")
    check_one_line(result, "--fuse-qkv", "is not for qwen3asr: no contract of this family names a fused tensor")
    assert not names(tmp_path / "out")


@pytest.mark.parametrize("key", ["audio_token_id", "audio_start_token_id", "eos_token_id"])
def test_an_id_of_another_token_is_found_before_anything_is_written(tmp_path: Path, key: str) -> None:
    folder = write_qwen3_asr(tmp_path / "x")
    values = config_values(TEXT, AUDIO)
    values["thinker_config"][key] += 1
    (folder / "config.json").write_text(json.dumps(values))
    result = invoke(folder, "--out", tmp_path / "out")
    check_one_line(result, folder / "config.json", r"(audio_pad|audio_start|eos)_id is \d+, '.*'; expected \d+, '<\|")
    assert not names(tmp_path / "out")
