"""mimo-quantize writes what mimo-convert would have written, of files of any type."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType as V

from mimo_convert.plan.request import Request
from mimo_convert.write.origin import origins_of
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.contract import contract_type, speech_lm_names
from tests.gguf_edit import Key, patch, rewrite
from tests.mimo_commands.invoked import check_one_line, names
from tests.opened import model_of_file, options_of
from tests.quantize.test_kernels import ggml_bytes
from tests.readers import ggml_tensors, gguf_metadata, gguf_tensors

from .quantized import (
    BELOW_8_BITS,
    BLOCKS,
    QUANTIZER,
    UP,
    Files,
    dequantized,
    done,
    quantize,
    same,
    same_by_way_of,
    written,
)


@pytest.mark.parametrize("quantizer", ["ggml", "simd"])
def test_blocks_that_are_made_and_blocks_that_are_copied_keep_the_name_of_their_quantizer(
    lm: Files, tmp_path: Path, quantizer: str
) -> None:
    made = done(lm(False, "bf16"), tmp_path / "q8_0.gguf", "--outtype", "q8_0", "--quantizer", quantizer)
    assert gguf_metadata(made)[QUANTIZER] == quantizer
    copied = done(made, tmp_path / "copied.gguf", "--fuse-qkv", "--quantizer", "auto")
    assert gguf_metadata(copied)[QUANTIZER] == quantizer
    mixed = done(made, tmp_path / "mixed.gguf", "--tensor-type", "up=q4_k", "--quantizer", "ggml")
    assert gguf_metadata(mixed)[QUANTIZER] == ("ggml" if quantizer == "ggml" else "ggml + simd")
    replaced = done(made, tmp_path / "replaced.gguf", "--outtype", "q4_k", "--quantizer", "ggml")
    assert gguf_metadata(replaced)[QUANTIZER] == "ggml"
    floats = done(made, tmp_path / "floats.gguf", "--outtype", "f32")
    assert QUANTIZER not in gguf_metadata(floats)


@pytest.mark.parametrize(
    "key", [None, Key(QUANTIZER, 7, V.UINT32), Key(QUANTIZER, "simd\n\x1b[31m", V.STRING), Key(QUANTIZER, "", V.STRING)]
)
def test_of_blocks_whose_file_does_not_tell_nothing_is_claimed(lm: Files, tmp_path: Path, key: Key | None) -> None:
    silent = rewrite(
        lm(False, "q8_0"), tmp_path / "in.gguf", keys=lambda found: found if found.name != QUANTIZER else key
    )
    copied, mixed = tmp_path / "copied.gguf", tmp_path / "mixed.gguf"
    assert QUANTIZER not in gguf_metadata(done(silent, copied, "--fuse-qkv"))
    rule = ["--tensor-type", "up=q4_k", "--quantizer", "ggml"]
    assert gguf_metadata(done(silent, mixed, *rule))[QUANTIZER] == "ggml + unknown"
    again = done(mixed, tmp_path / "again.gguf", "--split-qkv")
    assert gguf_metadata(again)[QUANTIZER] == "ggml + unknown"


def test_what_decides_the_bytes_of_a_file_includes_who_makes_them(lm: Files, tmp_path: Path) -> None:
    """Also where the file's own record would be the same."""
    source = done(lm(False, "f16"), tmp_path / "a.gguf", "--tensor-type", "up=q8_0", "--quantizer", "ggml")
    both = done(source, tmp_path / "b.gguf", "--tensor-type", "down=q8_0", "--quantizer", "simd")
    assert gguf_metadata(both)[QUANTIZER] == "ggml + simd"
    rules = (parse_rule("layers.0.ffn.gate=q8_0", "x"),)
    requests = {
        name: Request(model_of_file(both), [None], options_of(rules=rules, quantizer=name), "c.gguf")
        for name in ("ggml", "simd")
    }
    origins = {name: origins_of(request)[0] for name, request in requests.items()}
    assert requests["ggml"].plans[0].header == requests["simd"].plans[0].header
    assert origins["ggml"] != origins["simd"]


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
@pytest.mark.parametrize(("source", "was_fused"), [("f32", False), ("bf16", True)])
def test_a_file_is_the_one_that_mimo_convert_writes(
    lm: Files, tmp_path: Path, source: str, was_fused: bool, fused: bool, outtype: str
) -> None:
    """In the same layout, and in the other."""
    arguments = [lm(was_fused, source), tmp_path / "x.gguf", "--outtype", outtype]
    if was_fused != fused:
        arguments.append("--fuse-qkv" if fused else "--split-qkv")
    assert same_by_way_of(source, done(*arguments), lm(fused, outtype))


@pytest.mark.parametrize("outtype", TYPES)
def test_an_audio_tokenizers_file_is_the_one_that_mimo_convert_writes(
    tokenizer: Callable[[str], Path], tmp_path: Path, outtype: str
) -> None:
    assert same(done(tokenizer("f32"), tmp_path / "x", "--outtype", outtype), tokenizer(outtype))
    if outtype != "f32":  # in which convolutions are F32, and a bf16 file has them in F16
        made = done(tokenizer("bf16"), tmp_path / "y", "--outtype", outtype)
        assert same_by_way_of("bf16", made, tokenizer(outtype))


@pytest.mark.parametrize("outtype", ["f32", "bf16", "q8_0", "q6_k", "q4_k", "iq4_xs"])
def test_an_f16_file_of_weights_that_f16_holds_is_as_good_as_the_checkpoint(
    exact: list[Path], tmp_path: Path, outtype: str
) -> None:
    for checkpoint in exact:
        folder = written(checkpoint, tmp_path / checkpoint.name, "f16", outtype)
        source, expected = next(folder.glob("*-f16.gguf")), next(folder.glob(f"*-{outtype}.gguf"))
        assert same_by_way_of("f16", done(source, folder / "x.gguf", "--outtype", outtype), expected)


@pytest.mark.parametrize("outtype", TYPES)
def test_fusing_and_splitting_copy_bytes_and_undo_each_other(lm: Files, tmp_path: Path, outtype: str) -> None:
    fused = done(lm(False, outtype), tmp_path / "fused.gguf", "--fuse-qkv")
    assert same(fused, lm(True, outtype))
    split = done(fused, tmp_path / "split.gguf", "--split-qkv")
    assert same(split, lm(False, outtype))


@pytest.mark.parametrize("outtype", TYPES)
def test_a_file_of_the_type_that_it_has_already_is_a_copy(lm: Files, tmp_path: Path, outtype: str) -> None:
    separate, fused = lm(False, outtype), lm(True, outtype)
    assert same(done(separate, tmp_path / "1", "--outtype", outtype.upper()), separate)
    assert same(done(fused, tmp_path / "2"), fused)
    assert same(done(fused, tmp_path / "3", "--fuse-qkv"), fused)


def test_an_audio_tokenizer_has_nothing_to_fuse(tokenizer: Callable[[str], Path], tmp_path: Path) -> None:
    for option in ("--fuse-qkv", "--split-qkv", "--asr-only"):
        assert same(done(tokenizer("q4_k"), tmp_path / option, option), tokenizer("q4_k"))


def test_other_tools_read_what_is_written(lm: Files, tmp_path: Path) -> None:
    found = gguf_tensors(done(lm(False, "f16"), tmp_path / "x.gguf", "--outtype", "q5_k", "--fuse-qkv"))
    assert found.keys() == speech_lm_names(2, 1, 1, fused=True).keys()
    assert found == ggml_tensors(tmp_path / "x.gguf")


def check_made_of(source: Path, made: Path, outtype: str) -> None:
    """Each tensor is ggml's quantization of what `gguf` says that the source's rows stand for."""
    before, after = ggml_tensors(source), ggml_tensors(made)
    assert before.keys() == after.keys()
    for name, stored in before.items():
        type = contract_type(name, stored.shape, outtype, BLOCKS)
        expected = stored.data if type == stored.type else ggml_bytes(TYPES[type], dequantized(stored))
        assert (after[name].type, after[name].data) == (type, expected), name
    assert gguf_metadata(made)["general.file_type"] == TYPES[outtype].file_type


@pytest.mark.parametrize("outtype", TYPES)
def test_an_8_bit_file_becomes_any_other_by_way_of_its_weights(lm: Files, tmp_path: Path, outtype: str) -> None:
    check_made_of(lm(True, "q8_0"), done(lm(True, "q8_0"), tmp_path / "x.gguf", "--outtype", outtype), outtype)


@pytest.mark.parametrize("source", BELOW_8_BITS)
def test_what_has_fewer_than_8_bits_is_quantized_anew_only_on_demand(lm: Files, tmp_path: Path, source: str) -> None:
    file, out = lm(False, source), tmp_path / "out" / "x.gguf"
    for outtype in ("f32", "q4_0" if source != "q4_0" else "q4_1"):
        result = quantize(file, out, "--outtype", outtype)
        says = (
            rf"tensor \S+ is {source}: requantizing it to \w+ adds to the error of its blocks; "
            "expected 8 bits per weight or more; convert the checkpoint, or insist with --allow-requantize$"
        )
        check_one_line(result, file, says)
        assert not out.parent.exists()
        check_made_of(file, done(file, out, "--outtype", outtype, "--allow-requantize"), outtype)
        shutil.rmtree(out.parent)


def test_a_rule_may_not_requantize_either(lm: Files, tmp_path: Path) -> None:
    result = quantize(lm(False, "q4_k"), tmp_path / "x.gguf", "--tensor-type", "lm_head=q8_0")
    check_one_line(result, lm(False, "q4_k"), r"tensor llm\.lm_head\.weight is q4_k: requantizing it to q8_0 adds")
    assert names(tmp_path) == []


def test_a_quantized_weight_beyond_f16_is_kept_in_f32(lm: Files, tmp_path: Path) -> None:
    """Q8_0 reaches 127 times as far as F16; nobody else does."""
    source = shutil.copy(lm(False, "q8_0"), tmp_path)
    patch(Path(source), UP, 34 * 8 * 5, np.array([60000], np.float16))  # the scale of row 5's first block
    result = quantize(source, tmp_path / "x.gguf", "--outtype", "f16")
    assert "1 × holds weights that would become infinite: promoted to f32" in result.stdout
    made = ggml_tensors(tmp_path / "x.gguf")
    expected = dequantized(ggml_tensors(Path(source))[UP])
    assert np.abs(expected).max() > 65520
    assert (made[UP].type, made[UP].data) == ("f32", expected.tobytes())
    assert made["model.layers.0.ffn.up.weight"].type == "f16"
