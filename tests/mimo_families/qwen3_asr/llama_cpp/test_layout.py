"""The pair by the `gguf` library, against the contract and the checkpoint."""

import re
from math import prod
from pathlib import Path
from typing import Any

import gguf
import jinja2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Layout
from mimo_families.qwen3_asr.llama_cpp.layout import MMPROJ, TEXT, name_of
from mimo_families.qwen3_asr.llama_cpp.sizes import encoder_dimensions, text_dimensions
from quantize.errors import InputError
from quantize.types import TYPES
from tests.mimo_commands.invoked import check_one_line, invoke, names
from tests.mimo_families.qwen3_asr import plain
from tests.qwen3_checkpoint import (
    ADDED_TOKENS,
    AUDIO,
    NOT_SPECIAL,
    REAL_AUDIO,
    REAL_AUDIO_06,
    REAL_TEXT,
    REAL_TEXT_06,
    config_values,
    shapes,
)
from tests.qwen3_checkpoint import (
    TEXT as TEXT_CONFIG,
)
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors
from tests.system.once import once

from . import contract


def config(text: dict[str, Any], audio: dict[str, Any]) -> Config:
    return Config(Path("config.json"), config_values(text, audio))


@pytest.fixture(scope="session")
def written(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair in every type, as one command writes it."""

    def make(folder: Path) -> None:
        types = [word for name in TYPES for word in ("--outtype", name)]
        assert invoke(published, "--runtime", "llama.cpp", *types, "--out", folder).exit_code == 0

    return once(tmp_path_factory, "qwen3-asr-pairs", make)


# ── the published models ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "audio", "size", "n_parameters"),
    [(REAL_TEXT, REAL_AUDIO, "1.7B", 2_038_052_480), (REAL_TEXT_06, REAL_AUDIO_06, "0.6B", 782_426_112)],
)
def test_both_files_have_every_tensor_of_a_published_model_and_no_other(
    text: dict[str, Any], audio: dict[str, Any], size: str, n_parameters: int
) -> None:
    """llama.cpp skips a misnamed norm or bias of the encoder without a word: the list is proved here."""
    stored = dict(shapes(text, audio))
    text_dims, audio_dims = text_dimensions(config(text, audio)), encoder_dimensions(config(text, audio))
    of_text = {t.name: t for t in TEXT.tensors(text_dims, Layout(without=TEXT.unwritten_parts))}
    of_encoder = {t.name: t for t in MMPROJ.tensors(audio_dims, Layout())}
    named = contract.text_names(text["num_hidden_layers"])
    assert {name: t.shape for name, t in of_text.items()} == {ours: stored[theirs] for ours, theirs in named.items()}
    encoder = contract.encoder_names(audio["encoder_layers"])
    assert of_encoder.keys() == encoder.keys() | {contract.POSITIONS}
    for ours, theirs in encoder.items():
        is_image = ours.startswith("a.conv2d.") and ours.endswith(".bias")
        assert of_encoder[ours].shape == (*stored[theirs], *((1, 1) if is_image else ())), ours
    assert of_encoder[contract.POSITIONS].shape == (1500, audio["d_model"])
    sizes = [prod(t.shape) for t in (*of_text.values(), *of_encoder.values()) if t.name != contract.POSITIONS]
    assert sum(sizes) == n_parameters
    assert TEXT.stem(text_dims) == f"Qwen3-ASR-{size}"
    assert MMPROJ.stem(audio_dims) == f"mmproj-Qwen3-ASR-{size}"
    assert MMPROJ.stem(audio_dims, "mega-asr-merged") == f"mmproj-Mega-ASR-{size}"
    assert name_of(text["hidden_size"], "my lora/2") == f"Qwen3-ASR-{size}-my-lora-2"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pair_is_named_as_the_published_ones(written: Path) -> None:
    small = {name.upper() for name, one in TYPES.items() if one.bits_per_weight < TYPES["q8_0"].bits_per_weight}
    every = {name.upper() for name in TYPES}
    expected = {f"Qwen3-ASR-{name}.gguf" for name in every} | {
        f"mmproj-Qwen3-ASR-{name}.gguf" for name in every - small
    }
    assert {path.name for path in written.glob("*.gguf")} == expected


@pytest.mark.parametrize("type_name", TYPES)
def test_text_has_the_contracts_tensors_in_the_types_that_roles_ask_for(written: Path, type_name: str) -> None:
    found = gguf_tensors(written / f"Qwen3-ASR-{type_name.upper()}.gguf")
    assert found.keys() == contract.text_names(TEXT_CONFIG["num_hidden_layers"]).keys()
    for name, tensor in found.items():
        assert tensor.type == ("f32" if "norm" in name else type_name), name


@pytest.mark.parametrize("type_name", ["f32", "f16", "bf16", "q8_0"])
def test_the_encoder_has_the_contracts_tensors_and_types(written: Path, type_name: str) -> None:
    found = gguf_tensors(written / f"mmproj-Qwen3-ASR-{type_name.upper()}.gguf")
    assert found.keys() == contract.encoder_names(AUDIO["encoder_layers"]).keys() | {contract.POSITIONS}
    for name, tensor in found.items():
        is_f32 = name.endswith(".bias") or any(part in name for part in ("ln1", "ln2", "post_ln", "position_embd"))
        expected = "f32" if is_f32 else "f16" if "conv2d" in name and type_name != "f32" else type_name
        assert tensor.type == expected, name


def test_weights_are_the_checkpoints(written: Path, published: Path) -> None:
    weights = checkpoint_tensors(published)
    encoder = gguf_tensors(written / "mmproj-Qwen3-ASR-F32.gguf")
    text = gguf_tensors(written / "Qwen3-ASR-F32.gguf")
    for found, named in (
        (encoder, contract.encoder_names(AUDIO["encoder_layers"])),
        (text, contract.text_names(TEXT_CONFIG["num_hidden_layers"])),
    ):
        for name, theirs in named.items():
            assert found[name].data == weights[theirs].to(torch.float32).numpy().tobytes(), name
    table = np.frombuffer(encoder[contract.POSITIONS].data, np.float32).reshape(1500, AUDIO["d_model"])
    np.testing.assert_allclose(table[:13], plain.positions(13, AUDIO["d_model"]), atol=1e-6)


def test_keys_have_the_contracts_types_and_values(written: Path) -> None:
    for name, expected in (
        ("Qwen3-ASR-Q4_K.gguf", contract.text_keys(TEXT_CONFIG)),
        ("mmproj-Qwen3-ASR-Q8_0.gguf", contract.encoder_keys(AUDIO)),
    ):
        fields = gguf.GGUFReader(written / name).fields
        found = {key: (fields[key].types[-1].name, fields[key].contents()) for key in expected}
        assert found == expected
    metadata = gguf_metadata(written / "Qwen3-ASR-Q4_K.gguf")
    assert metadata["qwen3vl.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    epsilon = gguf_metadata(written / "mmproj-Qwen3-ASR-Q8_0.gguf")["clip.audio.attention.layer_norm_epsilon"]
    assert epsilon == pytest.approx(1e-5)
    for type_name, number in (("F16", 1), ("Q8_0", 7)):
        assert gguf_metadata(written / f"Qwen3-ASR-{type_name}.gguf")["general.file_type"] == number


def test_the_vocabulary_tells_special_tokens_from_added_ones(written: Path, published: Path) -> None:
    metadata = gguf_metadata(written / "Qwen3-ASR-F16.gguf")
    theirs = Tokenizer.from_file(str(published / "tokenizer.json"))
    types = dict(zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True))
    assert {token: types[token] for token in ADDED_TOKENS} == {
        token: 4 if token in NOT_SPECIAL else 3 for token in ADDED_TOKENS
    }
    assert metadata["tokenizer.ggml.eos_token_id"] == theirs.token_to_id("<|im_end|>")
    unused = {token for token, kind in types.items() if kind == 5}
    assert unused == {f"[PAD{i}]" for i in range(TEXT_CONFIG["vocab_size"] - 7, TEXT_CONFIG["vocab_size"])}


def test_the_chat_template_gives_upstreams_prompt(written: Path) -> None:
    template = gguf_metadata(written / "Qwen3-ASR-F16.gguf")["tokenizer.chat_template"]
    user = {"role": "user", "content": "<|audio_start|>…<|audio_end|>"}
    prompt = jinja2.Template(template).render(messages=[user], add_generation_prompt=True)
    assert prompt == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|audio_start|>…<|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    hinted = jinja2.Template(template).render(messages=[{"role": "system", "content": "Bayreuth"}, user])
    assert hinted.startswith("<|im_start|>system\nBayreuth<|im_end|>\n<|im_start|>user\n")


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_named_recipe_is_of_the_text_and_the_encoder_stays_q8_0(published: Path, tmp_path: Path) -> None:
    arguments = ("--runtime", "llama.cpp", "--recipe", "q4_k_m", "--out", tmp_path)
    found = invoke(published, *arguments)
    assert found.exit_code == 0
    assert "tensors: in the mmproj file of the pair" in found.output
    assert "tensors: in the text model's file of the pair" in found.output
    assert {path.name for path in tmp_path.glob("*.gguf")} == {
        "Qwen3-ASR-Q4_K_M.gguf", "mmproj-Qwen3-ASR-Q8_0.gguf",
    }  # fmt: skip
    assert gguf_metadata(tmp_path / "Qwen3-ASR-Q4_K_M.gguf")["general.file_type"] == 15
    assert gguf_tensors(tmp_path / "Qwen3-ASR-Q4_K_M.gguf")["token_embd.weight"].type == "q6_k"


def test_a_rule_may_quantize_the_encoder_further(published: Path, tmp_path: Path) -> None:
    arguments = ("--runtime", "llama.cpp", "--outtype", "q8_0", "--tensor-type", "a.blk.*ffn=q4_0", "--out", tmp_path)
    assert invoke(published, *arguments).exit_code == 0
    [path] = tmp_path.glob("mmproj-*.gguf")
    assert gguf_tensors(path)["a.blk.0.ffn_up.weight"].type == "q4_0"


@pytest.mark.parametrize(
    ("arguments", "where", "says"),
    [
        (["--runtime", "ollama"], "--runtime", "ollama loads no file of qwen3asr; expected llama.cpp"),
        (["--runtime", "llama.cpp", "--fuse-qkv"], "--fuse-qkv", "is not for qwen3vl"),
        (["--runtime", "llama.cpp", "--stream"], "--stream", "deletes each shard once it is read"),
    ],
)
def test_what_cannot_be_made_is_refused(
    published: Path, tmp_path: Path, arguments: list[str], where: str, says: str
) -> None:
    check_one_line(invoke(published, *arguments, "--out", tmp_path / "out"), where, says)
    assert not names(tmp_path / "out")


def test_a_runtime_is_not_for_models_of_one_layout(tmp_path: Path) -> None:
    result = invoke("tiny", "--runtime", "llama.cpp", "--out", tmp_path / "out")
    check_one_line(result, "--runtime", "llama.cpp loads no file of mimo_asr; leave it out")


@pytest.mark.parametrize(
    ("text", "audio", "says"),
    [
        ({}, {"n_window_infer": 400}, "n_window_infer is 400; expected 800, which llama.cpp has built in"),
        ({}, {"n_window": 25}, "n_window is 25; expected 50, which llama.cpp has built in"),
        ({}, {"max_source_positions": 12}, "there are 12 positions; expected at least 13, those of a chunk"),
        ({"rope_scaling": {"mrope_section": [24, 20, 2]}}, {}, "the sections of the rotary embedding are"),
        ({"rope_scaling": {"mrope_section": ["a"]}}, {}, "text_config.rope_scaling.mrope_section is"),
    ],
)
def test_a_config_that_llama_cpp_does_not_compute_is_refused(
    text: dict[str, Any], audio: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        both(config(TEXT_CONFIG | text, AUDIO | audio))


def both(found: Config) -> tuple[Any, Any]:
    return text_dimensions(found), encoder_dimensions(found)
