"""Keys and tensors that differ from the source's."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.source_model import SourceModel
from quantize.errors import InputError
from tests.conftest import SMALL_LM
from tests.damage import edit_json
from tests.gguf_edit import Key, rewrite
from tests.opened import model_of_file
from tests.synthetic import write_speech_lm

from .compared import Files, change, check, model, reasons, write


def swapped(name: str, one: int, other: int) -> Callable[[Key], Key]:
    def of_key(key: Key) -> Key:
        if key.name == name:
            key.value[one], key.value[other] = key.value[other], key.value[one]
        return key

    return of_key


def drop(name: str) -> Callable[[Key], Key | None]:
    return lambda key: None if key.name == name else key


SIZES, TOKENS = "mimo_asr", "tokenizer.ggml"
WRONG_KEYS: dict[str, tuple[Callable[[Key], Key | None], str]] = {
    "a size": (
        change(f"{SIZES}.llm.max_position_embeddings", value=8192),
        f"key {SIZES}.llm.max_position_embeddings is 8192, the source's is 1024",
    ),
    "a float": (
        change(f"{SIZES}.llm.rms_norm_eps", value=1e-5),
        rf"key {SIZES}\.llm\.rms_norm_eps is 9\.99\d+e-06, the source's is 9\.99\d+e-07",
    ),
    "one of many sizes": (
        change(f"{SIZES}.audio.speech_zeroemb.3", value=15),
        f"key {SIZES}.audio.speech_zeroemb.3 is 15, the source's is 16",
    ),
    "the delay pattern": (
        change(f"{SIZES}.audio.delay_pattern", value="0-0-0-0-0-0-0-0"),
        f"key {SIZES}.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'",
    ),
    "the order of merges": (
        swapped(f"{TOKENS}.merges", 0, 1), f"key {TOKENS}.merges is '#.+' at 0, the source's is '#.+'"
    ),
    "the ids of tokens": (
        swapped(f"{TOKENS}.tokens", 475, 476), rf"key {TOKENS}.tokens is '<\|.*' at 475, the source's is '<\|.*'"
    ),
    "a token's type": (
        change(f"{TOKENS}.token_type", value=[1] * 475 + [3] * 30 + [5] * 7),
        f"key {TOKENS}.token_type is 3 at 489, the source's is 4",
    ),
    "the end of text": (
        change(f"{TOKENS}.eos_token_id", value=480), rf"key {TOKENS}.eos_token_id is 480, the source's is 475"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_a_key_that_differs_is_named(files: Files, lm: SourceModel, tmp_path: Path, wrong: str) -> None:
    keys, pattern = WRONG_KEYS[wrong]
    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=keys)
    for source in (lm, model_of_file(files("f16", True))):
        found = check(path, source)
        [problem] = found.findings
        assert re.fullmatch(pattern, problem), problem
        assert reasons(found) == [problem]


ABOUT_THE_FILE = ("general.", "mimo_convert.")
MEANT = ("mimo_asr.audio.delay_pattern", "mimo_asr.audio.rope_theta", *(f"tokenizer.ggml.{name}" for name in (
    "pre", "token_type", "eos_token_id", "padding_token_id"
)))  # fmt: skip


def test_keys_about_the_file_and_those_of_newer_tools_need_not_be_there(
    files: Files, lm: SourceModel, tmp_path: Path
) -> None:
    def older(key: Key) -> Key | None:
        return None if key.name.startswith(ABOUT_THE_FILE) or key.name in MEANT else key

    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=older)
    assert reasons(check(path, lm)) == []
    assert reasons(check(files("q4_k", False), model_of_file(path))) == []


def test_a_key_that_is_missing_means_what_readers_take_it_for(small_lm: Path, files: Files, tmp_path: Path) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    edit_json(folder / "config.json", lambda values: values | {"delay_pattern": "0-0-0-0-0-0-0-0"})
    edit_json(folder / "tokenizer_config.json", lambda values: values | {"eos_token": "<|im_end|>"})
    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=lambda key: None if key.name in MEANT else key)
    assert check(path, model(folder)).findings == (
        "key mimo_asr.audio.delay_pattern is '0-1-2-3-4-5-6-7', the source's is '0-0-0-0-0-0-0-0'",
        "key tokenizer.ggml.eos_token_id is 475, the source's is 477",
    )


def test_tensors_that_are_missing_too_many_or_of_another_shape_are_named(tmp_path: Path, lm: SourceModel) -> None:
    """Files that are sound in themselves, of other models."""
    more = model(write_speech_lm(tmp_path / "more", **SMALL_LM | {"num_hidden_layers": 3}))
    found = check(write(lm, tmp_path, "f16", fuse_qkv=True), more)
    assert found.findings[0] == "key mimo_asr.llm.num_layers is 2, the source's is 3"
    assert len(found.findings) == 13
    assert "tensor model.layers.2.self_attn.k_proj.bias of the source is missing" in found.findings
    found = check(write(more, tmp_path, "q8_0"), lm)
    assert len(found.findings) == 13
    assert "tensor model.layers.2.attn.k.bias is not in the source" in found.findings
    wider = model(write_speech_lm(tmp_path / "wider", **SMALL_LM | {"intermediate_size": 768}))
    found = check(write(lm, tmp_path, "f32"), wider)
    assert found.findings[:2] == (
        "key mimo_asr.llm.intermediate_size is 512, the source's is 768",
        "tensor model.layers.0.ffn.gate.weight has shape 512×256, the source's is 768×256",
    )


def test_files_of_different_families_are_not_compared(tokenizers: dict[str, SourceModel], files: Files) -> None:
    with pytest.raises(InputError, match=r"q4_k\.gguf: is of mimo_asr; expected mimo_tokenizer, as .* is"):
        check(files("q4_k", False), tokenizers["BF16"])
