"""Decoder and vocoder in the audio tokenizer's file: names, keys, types and bytes by the contract, as the `gguf`
library and ggml read them; what is refused; files that can only encode."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gguf import GGUFValueType

from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from quantize.errors import InputError
from tests.conftest import SMALL_DECODER, SMALL_TOKENIZER
from tests.contract import DECODER_KEYS, audio_tokenizer_names, decoder_names
from tests.gguf_edit import Key, rewrite
from tests.mimo_commands.invoked import check_one_line, invoke, names
from tests.mimo_convert.write.test_convert import check_file
from tests.opened import lint, model_file
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors

WholeFile = Callable[[str], Path]
ENCODER = audio_tokenizer_names(SMALL_TOKENIZER["encoder_layers"], SMALL_TOKENIZER["num_quantizers"])
DECODER = decoder_names(SMALL_DECODER["decoder_layers"], SMALL_DECODER["vocoder_num_layers"])
WINDOW = "mimo_tok.vocoder_window"


def is_of_decoder(key: str) -> bool:
    return key.startswith(("mimo_tok.decoder_", "mimo_tok.vocoder_"))


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "q4_k"])
def test_every_byte_is_ggmls_of_the_checkpoints_rows(
    whole_tokenizer: Path, whole_tokenizer_file: WholeFile, outtype: str
) -> None:
    """Transposed kernels as they lie in the checkpoint, the vocoder F16, the window exact; sources of two dtypes."""
    dtypes = {str(tensor.dtype) for tensor in checkpoint_tensors(whole_tokenizer).values()}
    assert dtypes == {"torch.bfloat16", "torch.float32"}
    every = ENCODER | {ours: [theirs] for ours, theirs in DECODER.items()}
    check_file(whole_tokenizer_file(outtype), whole_tokenizer, every, outtype)


def test_the_window_is_the_checkpoints_and_no_hann_of_ours(
    whole_tokenizer: Path, whole_tokenizer_file: WholeFile
) -> None:
    stored = checkpoint_tensors(whole_tokenizer)["decoder.vocoder.head.istft.window"]
    assert gguf_tensors(whole_tokenizer_file("q4_k"))["voc.window"].data == stored.numpy().tobytes()


def test_every_size_has_its_key(whole_tokenizer_file: WholeFile) -> None:
    path = whole_tokenizer_file("q8_0")
    found = {key: value for key, value in gguf_metadata(path).items() if is_of_decoder(key)}
    sizes = {f"mimo_tok.{key}": SMALL_DECODER[field] for key, field in DECODER_KEYS.items()}
    assert found == sizes | {f"{WINDOW}.0": 40, f"{WINDOW}.1": 10}
    assert model_file(path).file.value_types[f"{WINDOW}.0"] == GGUFValueType.INT32
    assert lint(path).passed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"decoder_causal": False}, "decoder_causal is false; expected true"),
        ({"decoder_attn_window_size": [40, 10]}, r"decoder_attn_window_size is \[40, 10\]; expected \[-1, -1\]"),
        ({"vocoder_padding": "center"}, 'vocoder_padding is "center"; expected "same"'),
        ({"window_size": 480}, "window_size is 480; expected 960"),
        ({"decoder_stride_size": 3}, "decoder_stride_size is 3; expected stride_size, 2"),
        ({"decoder_kernel_size": 1}, "decoder_kernel_size is 1; expected decoder_stride_size, 2, or more"),
        ({"vocoder_attention_heads": 3}, "vocoder_attention_heads is 3; expected a divisor of 32"),
        ({"vocoder_attn_window_size": [40]}, r"vocoder_attn_window_size is \[40\]; expected two numbers"),
        ({"vocoder_attn_window_size": [40, -2]}, r"vocoder_attn_window_size is \[40, -2\]; expected two numbers"),
        ({"vocoder_dim": None}, "vocoder_dim is missing"),
    ],
    ids=str,
)
def test_a_decoder_of_another_kind_is_refused(
    whole_tokenizer: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = shutil.copytree(whole_tokenizer, tmp_path / "checkpoint")
    config = SMALL_TOKENIZER | json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    check_one_line(invoke(folder, "--out", tmp_path / "out"), folder / "config.json", says)
    assert not (tmp_path / "out").exists()


def test_a_file_without_it_is_the_one_of_a_checkpoint_that_has_none(
    whole_tokenizer: Path, small_tokenizer: Path, whole_tokenizer_file: WholeFile, tmp_path: Path
) -> None:
    """By mimo-convert and by mimo-quantize: no tensor and no key of the decoder; what is left is as before."""
    invoke(whole_tokenizer, "--outtype", "f16", "--without", "decoder", "--out", tmp_path)
    out = tmp_path / "less.gguf"
    CliRunner().invoke(mimo_quantize, [str(whole_tokenizer_file("f16")), str(out), "--without", "decoder"])
    [name] = names(tmp_path)[1:]
    assert name == "mimo-tokenizer-f16.gguf"
    whole = gguf_tensors(whole_tokenizer_file("f16"))
    for path in (out, tmp_path / name):
        assert not any(map(is_of_decoder, gguf_metadata(path)))
        found = gguf_tensors(path)
        assert found.keys() == ENCODER.keys()
        assert {name: one.data for name, one in found.items()} == {name: whole[name].data for name in found}
        assert lint(path).passed
        assert model_file(path).layout.without == {"decoder"}
    made = invoke(small_tokenizer, "--outtype", "f16", "--out", tmp_path / "small")
    assert (made.exit_code, made.stderr) == (0, "")
    assert gguf_tensors(tmp_path / "small" / name).keys() == ENCODER.keys()


def test_asking_for_what_is_not_there_is_one_line(small_tokenizer: Path, whole_tokenizer: Path, tmp_path: Path) -> None:
    said = invoke(small_tokenizer, "--with", "decoder", "--out", tmp_path / "out")
    check_one_line(said, small_tokenizer / "config.json", "decoder_layers is missing; leave out the decoder")
    folder = shutil.copytree(small_tokenizer, tmp_path / "checkpoint")
    shutil.copy(whole_tokenizer / "config.json", folder)
    said = invoke(folder, "--out", tmp_path / "out")
    says = "tensor decoder.dconv1.conv.weight has shape 4×4×3; expected 64×64×2, by config.json"
    check_one_line(said, folder / "model.safetensors", says)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keys": lambda key: None if key.name == "mimo_tok.vocoder_dim" else key},
         "key mimo_tok.vocoder_dim is missing; expected one, since the file has speech synthesis"),
        ({"keys": lambda key: None if is_of_decoder(key.name) else key},
         "key mimo_tok.decoder_layers is missing; expected one, since the file has speech synthesis"),
        ({"keys": lambda key: None if key.name == f"{WINDOW}.1" else key}, "vocoder_attn_window_size has 1 numbers"),
        ({"keys": lambda key: None if key.name.startswith(WINDOW) else key,
          "add": [Key(WINDOW, 40, GGUFValueType.INT32)]}, f"key {WINDOW} is 40; expected keys {WINDOW}.0"),
        ({"tensors": lambda name: name != "dec.mel.norm.bias"}, "missing tensor dec.mel.norm.bias"),
        ({"tensors": lambda name: not name.startswith(("dec.", "voc."))}, "missing tensor dec.up.conv.weight"),
    ],
    ids=["a key", "all keys", "half a window", "a window of one number", "a tensor", "all tensors"],
)  # fmt: skip
def test_a_file_that_lacks_a_piece_is_refused_and_linted(
    whole_tokenizer_file: WholeFile, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = rewrite(whole_tokenizer_file("q8_0"), tmp_path / "x.gguf", **changes)
    with pytest.raises(InputError) as raised:
        model_file(path)
    assert says in str(raised.value)
    problems = [problem for rule in lint(path).rules for problem in rule.findings]
    assert any(says.partition(";")[0] in problem for problem in problems), problems


def test_each_published_model_has_it_or_not_by_default(small_lm: Path, whole_tokenizer: Path, tmp_path: Path) -> None:
    """Files of MiMo-V2.5-ASR have none by default, those of MiMo-Audio-7B have all."""
    lm = shutil.copytree(small_lm, tmp_path / "MiMo-Audio-7B-Instruct")
    config = json.loads((lm / "config.json").read_text()) | {"architectures": ["MiMoAudioModel"]}
    (lm / "config.json").write_text(json.dumps(config))
    cases: list[tuple[Path, list[str], bool]] = [
        (small_lm, [], False), (small_lm, ["--with", "decoder"], True), (lm, [], True),
        (lm, ["--without", "decoder"], False), (lm, ["--asr-only"], False),
    ]  # fmt: skip
    for i, (model, options, has_decoder) in enumerate(cases):
        out = tmp_path / str(i)
        CliRunner().invoke(
            mimo_convert,
            [str(model), "--tokenizer", str(whole_tokenizer), "--outtype", "q8_0", "--no-check", *options,
             "--out", str(out)],
        )  # fmt: skip
        stem = "mimo-asr" if model is small_lm else "mimo-audio-instruct"
        assert names(out) == [f"{stem}-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"]
        expected = ENCODER.keys() | (DECODER.keys() if has_decoder else set())
        assert gguf_tensors(out / "mimo-tokenizer-q8_0.gguf").keys() == expected
        speaks = any(name.startswith("llm.blk.") for name in gguf_tensors(out / names(out)[0]))
        assert speaks is ("--asr-only" not in options)
