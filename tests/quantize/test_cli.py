"""mimo-quantize as its users meet it: from file to file, with what mimo-convert would have written as the measure."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGUFValueType as V
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mimo_convert.convert import convert
from mimo_convert.plan import Options
from mimo_convert.request import Request, make_request, origin_of
from mimo_convert.stored_model import model_of_file
from quantize.cli import main
from quantize.recipes import parse_rule
from quantize.types import TYPES
from runtime_check import bundled

from ..contract import contract_type, is_speech_generation, speech_lm_names
from ..damage import edit_tensor, set_weight
from ..gguf_edit import Key, add_empty_arrays, array_by_ggml, patch, rewrite
from ..mimo_convert.test_cli import check_one_line, names
from ..readers import Stored, ggml_tensors, gguf_metadata, gguf_tensors
from .test_kernels import ggml_bytes

BLOCKS = {type.name: type.block for type in TYPES.values()}
TYPE_NAMES = {type.file_type: name for name, type in TYPES.items()}
BELOW_8_BITS = [name for name, type in TYPES.items() if type.bits_per_weight < 8]
UP_SOURCE, UP = "model.layers.1.mlp.up_proj.weight", "model.layers.1.ffn.up.weight"
QKV = "model.layers.0.attn.qkv.weight"  # rows of Q (128), K (64) and V (64)


def quantize(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def done(*arguments: Any) -> Path:
    """Run it; the file it wrote."""
    result = quantize(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return Path(arguments[1])


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def same_by_way_of(through: str, made: Path, other: Path) -> bool:
    """Whether a file is `other`, and says besides that it was made of a file of that type, where that may lose."""
    before, after = gguf_metadata(other), gguf_metadata(made)
    way = {key: after.pop(key) for key in list(after) if key.startswith(FROM)}
    assert way == (way_of(through) if through not in ("f32", TYPE_NAMES[before["general.file_type"]]) else {})
    tensors = ({n: (t.type, t.shape, t.data) for n, t in gguf_tensors(path).items()} for path in (made, other))
    return before == after and next(tensors) == next(tensors)


def way_of(through: str) -> dict[str, str]:
    """What a file says that was made of one of floats."""
    return {FROM: through, f"{FROM}.0.version": version("mimo-convert")}


def written(checkpoint: Path, out: Path, *types: str, **options: Any) -> Path:
    """What mimo-convert makes of a checkpoint: the folder."""
    request = make_request(bundled.open_model(str(checkpoint)), [TYPES[name] for name in types], Options(**options))
    convert([request], out, threads=2)
    return out


Files = Callable[[bool, str], Path]


@pytest.fixture(scope="module")
def lm(small_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The small speech LM as mimo-convert writes it, by layout and type."""
    made = {fused: written(small_lm, tmp_path_factory.mktemp("lm"), *TYPES, fuse_qkv=fused) for fused in (False, True)}
    return lambda fused, name: made[fused] / f"mimo-asr-{name}.gguf"


@pytest.fixture(scope="module")
def tokenizer(small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small audio tokenizer as mimo-convert writes it, by type."""
    folder = written(small_tokenizer, tmp_path_factory.mktemp("tokenizer"), *TYPES)
    return lambda name: folder / f"mimo-tokenizer-{name}.gguf"


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


QUANTIZER, RECIPE, FROM = "mimo_convert.quantizer", "mimo_convert.recipe", "mimo_convert.quantized_from"


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
        name: Request(model_of_file(both), [None], Options(rules=rules, quantizer=name), "c.gguf")
        for name in ("ggml", "simd")
    }
    origins = {name: origin_of(request, request.plans[0]) for name, request in requests.items()}
    assert requests["ggml"].plans[0].header == requests["simd"].plans[0].header
    assert origins["ggml"] != origins["simd"]


# What mimo-convert would have written.


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


@pytest.fixture(scope="module")
def exact(small_lm: Path, small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both checkpoints with weights that F16 holds exactly: steps of 1/64, up to 2."""
    folders = []
    for folder in (small_lm, small_tokenizer):
        folders.append(shutil.copytree(folder, tmp_path_factory.mktemp("exact") / folder.name))
        for shard in folders[-1].glob("*.safetensors"):
            rounded = {n: (t.float().clamp(-2, 2) * 64).round() / 64 for n, t in load_file(shard).items()}
            save_file({name: tensor.bfloat16() for name, tensor in rounded.items()}, shard)
    return folders


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
    by_ggml = ggml_tensors(tmp_path / "x.gguf")
    assert by_ggml == {name: (t.type, t.offset, len(t.data)) for name, t in found.items()}


# From quantized files.


def dequantized(stored: Stored) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a tensor stands for, by the `gguf` library: (rows, row)."""
    rows = np.frombuffer(stored.data, np.uint8).reshape(len(stored.data) // row_bytes(stored), -1)
    if stored.type in ("f32", "f16"):
        return rows.view(f"f{4 if stored.type == 'f32' else 2}").astype(np.float32)
    return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[stored.type.upper()])


def row_bytes(stored: Stored) -> int:
    return TYPES[stored.type].nbytes(int(np.prod(stored.shape[1:])) if len(stored.shape) > 1 else stored.shape[0])


def check_made_of(source: Path, made: Path, outtype: str) -> None:
    """Each tensor is ggml's quantization of what `gguf` says that the source's rows stand for."""
    before, after = gguf_tensors(source), gguf_tensors(made)
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
            rf"tensor \S+ is {source}, and \w+ made of that would be worse than one made of the checkpoint; "
            "expected 8 bits a weight or more; convert the checkpoint, or insist with --allow-requantize$"
        )
        check_one_line(result, file, says)
        assert not out.parent.exists()
        check_made_of(file, done(file, out, "--outtype", outtype, "--allow-requantize"), outtype)
        shutil.rmtree(out.parent)


def test_a_rule_may_not_requantize_either(lm: Files, tmp_path: Path) -> None:
    result = quantize(lm(False, "q4_k"), tmp_path / "x.gguf", "--tensor-type", "lm_head=q8_0")
    check_one_line(result, lm(False, "q4_k"), r"tensor llm\.lm_head\.weight is q4_k, and q8_0 made of that")
    assert names(tmp_path) == []


def test_a_quantized_weight_beyond_f16_is_kept_in_f32(lm: Files, tmp_path: Path) -> None:
    """Q8_0 reaches 127 times as far as F16; nobody else does."""
    source = shutil.copy(lm(False, "q8_0"), tmp_path)
    patch(Path(source), UP, 34 * 8 * 5, np.array([60000], np.float16))  # the scale of row 5's first block
    result = quantize(source, tmp_path / "x.gguf", "--outtype", "f16")
    assert "1 × holds weights that would become infinite: kept in f32" in result.stdout
    made = gguf_tensors(tmp_path / "x.gguf")
    expected = dequantized(gguf_tensors(Path(source))[UP])
    assert np.abs(expected).max() > 65520
    assert (made[UP].type, made[UP].data) == ("f32", expected.tobytes())
    assert made["model.layers.0.ffn.up.weight"].type == "f16"


# Weights that are too large, or none.


@pytest.mark.parametrize("source", ["f32", "bf16"])
@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q4_k", "bf16"])
def test_a_weight_beyond_f16_survives_and_the_run_says_so(
    small_lm: Path, tmp_path: Path, source: str, outtype: str
) -> None:
    checkpoint = shutil.copytree(small_lm, tmp_path / "small-lm")
    edit_tensor(checkpoint, UP_SOURCE, lambda tensor: tensor.float())
    set_weight(checkpoint, UP_SOURCE, 3, 2.0**30)
    written(checkpoint, tmp_path, *dict.fromkeys([source, outtype]))
    file, expected = tmp_path / f"mimo-asr-{source}.gguf", tmp_path / f"mimo-asr-{outtype}.gguf"
    result = quantize(file, tmp_path / "x.gguf", "--outtype", outtype)
    note = "1 × holds weights that would become infinite: kept in f32"
    assert (result.exit_code, note in result.stdout) == (0, outtype != "bf16")
    assert same_by_way_of(source, tmp_path / "x.gguf", expected)

    dry = quantize(file, tmp_path / "y.gguf", "--outtype", outtype, "--dry-run").stdout
    [line] = [line for line in dry.splitlines() if line.startswith(f"  {UP} ")]
    assert line.split()[1] == gguf_tensors(expected)[UP].type

    for again in (["--outtype", outtype], []):
        made = done(tmp_path / "x.gguf", tmp_path / "y.gguf", "--force", *again)
        assert same(made, tmp_path / "x.gguf"), "kept once more"


@pytest.mark.parametrize(
    ("fused", "tensor", "row", "named", "named_row"),
    [
        (False, UP, 300, UP, 300),
        (False, "llm.final_norm.weight", 0, "llm.final_norm.weight", 0),
        (True, QKV, 127, f"{QKV}[0:128]", 127),
        (True, QKV, 131, f"{QKV}[128:192]", 3),
        (True, QKV, 255, f"{QKV}[192:256]", 63),
    ],
)
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (-np.inf, "infinity")])
@pytest.mark.parametrize("options", [["--outtype", "q4_k"], [], ["--split-qkv"]], ids=" ".join)
def test_what_is_no_number_stops_the_run_and_is_named_with_its_row(
    lm: Files, tmp_path: Path, fused: bool, tensor: str, row: int, named: str, named_row: int, value: float,
    what: str, options: list[str],
) -> None:  # fmt: skip
    source = Path(shutil.copy(lm(fused, "f32"), tmp_path / "in.gguf"))
    patch(source, tensor, 4 * (256 * row + 1), np.array([value], np.float32))
    result = quantize(source, tmp_path / "out" / "x.gguf", *options)
    check_one_line(result, source, re.escape(f"tensor {named} holds {what} in row {named_row}; "))
    assert names(tmp_path) == ["in.gguf"]


def test_a_scale_that_is_no_number_is_found_too(lm: Files, tmp_path: Path) -> None:
    source = Path(shutil.copy(lm(False, "q8_0"), tmp_path / "in.gguf"))
    patch(source, UP, 34 * 8 * 5, np.array([np.nan], np.float16))
    result = quantize(source, tmp_path / "x.gguf", "--outtype", "q4_k")
    check_one_line(result, source, re.escape(f"tensor {UP} holds NaN in row 5; "))
    assert names(tmp_path) == ["in.gguf"]


# Rules.


def test_a_rule_changes_its_tensors_and_copies_the_others(lm: Files, tmp_path: Path) -> None:
    source = gguf_tensors(lm(False, "f16"))
    rules = ["--tensor-type", r"layers\.0\..*(up|down)=q8_0", "--tensor-type", "down|embed=Q4_K"]
    made = gguf_tensors(done(lm(False, "f16"), tmp_path / "x.gguf", *rules))
    changed = {name: tensor.type for name, tensor in made.items() if tensor.type != source[name].type}
    assert changed == {
        "model.layers.0.ffn.up.weight": "q8_0", "model.layers.0.ffn.down.weight": "q8_0",
        "model.layers.1.ffn.down.weight": "q4_k", "llm.embed.weight": "q4_k", "llm.blk.0.ffn.down.weight": "q4_k",
        "audio.blk.0.ffn.down.weight": "q4_0",
    }  # fmt: skip
    for name, tensor in made.items():
        if name in changed:
            assert tensor.data == ggml_bytes(TYPES[tensor.type], dequantized(source[name]))
        else:
            assert tensor.data == source[name].data
    before, after = gguf_metadata(lm(False, "f16")), gguf_metadata(tmp_path / "x.gguf")
    assert after.pop(QUANTIZER)
    assert {key: after.pop(key) for key in list(after) if key.startswith(FROM)} == way_of("f16")
    assert after.pop(RECIPE) == "layers\\.0\\..*(up|down)=q8_0\ndown|embed=q4_k"
    assert before == after, "general.file_type, too: what most tensors are"


def test_rules_and_a_type_give_what_they_give_mimo_convert(lm: Files, small_lm: Path, tmp_path: Path) -> None:
    from mimo_convert.cli import main as mimo_convert

    (tmp_path / "r.txt").write_text("# heads\nhead=q6_k\nup=q2_k\n")
    rules = ["--tensor-type", "up=f32", "--recipe", str(tmp_path / "r.txt"), "--outtype", "q4_k", "--asr-only"]
    model = [str(small_lm), "--tokenizer", str(bundled.TINY_TOKENIZER), "--out", str(tmp_path), "--no-check"]
    result = CliRunner().invoke(mimo_convert, [*model, *rules, "--fuse-qkv"])
    assert result.exit_code == 0, result.output
    made = done(lm(False, "f32"), tmp_path / "x.gguf", *rules, "--fuse-qkv")
    assert same(made, tmp_path / "mimo-asr-q4_k.gguf")
    types = {name: tensor.type for name, tensor in gguf_tensors(made).items()}
    assert (types[UP], types["llm.lm_head.weight"], types[QKV]) == ("f32", "q6_k", "q4_k")


def test_a_file_that_keeps_its_types_keeps_the_rules_behind_them_and_new_ones_come_first(
    lm: Files, tmp_path: Path
) -> None:
    ruled = done(lm(False, "f16"), tmp_path / "1", "--tensor-type", "ffn=q8_0", "--tensor-type", "embed=bf16")
    assert gguf_metadata(done(ruled, tmp_path / "2"))[RECIPE] == "ffn=q8_0\nembed=bf16"
    again = done(ruled, tmp_path / "3", "--tensor-type", r"1\.ffn\.up=q4_k")
    assert gguf_metadata(again)[RECIPE] == "1\\.ffn\\.up=q4_k\nffn=q8_0\nembed=bf16"
    typed = done(ruled, tmp_path / "4", "--outtype", "q8_0", "--tensor-type", "embed=bf16")
    assert gguf_metadata(typed)[RECIPE] == "embed=bf16"
    assert RECIPE not in gguf_metadata(done(ruled, tmp_path / "5", "--outtype", "q8_0"))


def test_what_goes_by_another_name_gets_a_rule_if_it_keeps_its_type_against_those_there_are(
    lm: Files, tmp_path: Path
) -> None:
    """Rules about Q, K and V say nothing of them once they are fused; one about Q alone would, once they are split."""
    wide = done(lm(False, "f16"), tmp_path / "1", "--tensor-type", r"0\.attn\.[qkv]=q8_0")
    assert gguf_metadata(done(wide, tmp_path / "2", "--fuse-qkv"))[RECIPE] == r"0\.attn\.[qkv]=q8_0"

    narrow = done(lm(False, "f16"), tmp_path / "3", "--tensor-type", r"model.*0\.attn\.[qkv]\.=q8_0")
    fused = done(narrow, tmp_path / "4", "--fuse-qkv")
    own = [rf"^model\.layers\.0\.attn\.{part}\.weight$=q8_0" for part in ("qkv", "q", "k", "v")]
    assert gguf_metadata(fused)[RECIPE] == own[0]
    assert gguf_metadata(done(fused, tmp_path / "5", "--split-qkv"))[RECIPE].split("\n") == own[1:]

    about_q = done(lm(True, "f16"), tmp_path / "6", "--tensor-type", r"attn\.q\.=q8_0")
    split = gguf_metadata(done(about_q, tmp_path / "7", "--split-qkv"))[RECIPE].split("\n")
    kept = [rf"^model\.layers\.{i}\.attn\.q\.weight$=f16" for i in range(2)]
    assert split == [*kept, r"attn\.q\.=q8_0"]


def test_parts_of_different_types_are_fused_only_when_one_is_chosen(lm: Files, tmp_path: Path) -> None:
    mixed = done(lm(False, "f16"), tmp_path / "mixed.gguf", "--tensor-type", r"layers\..*attn\.v=q8_0")
    result = quantize(mixed, tmp_path / "x.gguf", "--fuse-qkv")
    says = (
        "the parts of model.layers.0.attn.qkv.weight differ: model.layers.0.attn.q.weight is f16, "
        "model.layers.0.attn.k.weight is f16, model.layers.0.attn.v.weight is q8_0; expected one type; "
        "give --outtype, or --tensor-type for it\n"
    )
    check_one_line(result, mixed, says)
    assert names(tmp_path) == ["mixed.gguf"]

    ruled = gguf_tensors(done(mixed, tmp_path / "ruled.gguf", "--fuse-qkv", "--tensor-type", "qkv=q8_0"))
    typed = gguf_tensors(done(mixed, tmp_path / "typed.gguf", "--fuse-qkv", "--outtype", "q8_0"))
    assert ruled[QKV].data == typed[QKV].data
    separate = gguf_tensors(lm(False, "f16"))
    parts = [dequantized(separate[f"model.layers.0.attn.{c}.weight"]) for c in "qkv"]
    assert ruled[QKV].data == b"".join(ggml_bytes(TYPES["q8_0"], part) for part in parts)
    assert (ruled[UP].type, typed[UP].type) == ("f16", "q8_0")


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        (["--tensor-type", "nothing=q8_0"], "--tensor-type", "nothing=q8_0 matches no tensor; --dry-run lists"),
        (["--tensor-type", "qkv=q8_0"], "--tensor-type", "qkv=q8_0 matches no tensor"),
        (["--tensor-type", "_norm=q8_0"], "--tensor-type", r"_norm=q8_0 matches only \d tensors whose type is fixed"),
        (["--tensor-type", "up"], "--tensor-type", "'up' is no rule; expected REGEX=TYPE"),
        (["--tensor-type", "(=q8_0"], "--tensor-type", r"'\(' is no regular expression"),
        (["--recipe", "absent.txt"], "absent.txt", "no such file; expected a text file"),
        (["--recipe", "."], ".", "is a folder"),
        (["--recipe", "bad.txt"], "bad.txt:2", "'up is q8_0' is no rule"),
        (["--recipe", "idle.txt"], "idle.txt:3", "nothing=q8_0 matches no tensor"),
        (["--recipe", "binary.txt"], "binary.txt", "is not UTF-8: byte 0"),
        (["--asr-only", "--tensor-type", "codebook_head=q8_0"], "--tensor-type", "codebook_head=q8_0 matches no"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_rule_is_one_line_and_nothing_is_written(
    lm: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], where: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.txt").write_text("up=q8_0\nup is q8_0\n")
    Path("idle.txt").write_text("up=q8_0\n\nnothing=q8_0\n")
    Path("binary.txt").write_bytes(b"\xff\xfe=q8_0\n")
    before = names(tmp_path)
    check_one_line(quantize(lm(False, "f16"), "x.gguf", *options), where, says)
    assert names(tmp_path) == before


# Without the speech generator.


@pytest.mark.parametrize("outtype", ["f32", "q4_k"])
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_asr_only_leaves_out_the_speech_generator_and_stays_so(
    lm: Files, small_lm: Path, tmp_path: Path, outtype: str, fused: bool
) -> None:
    made = done(lm(fused, "f32"), tmp_path / "x.gguf", "--asr-only", "--outtype", outtype)
    kept = {name for name in speech_lm_names(2, 1, 1, fused=fused) if not is_speech_generation(name)}
    assert gguf_tensors(made).keys() == kept
    assert gguf_metadata(made) == gguf_metadata(lm(fused, outtype))
    folder = written(small_lm, tmp_path / "convert", outtype, fuse_qkv=fused, asr_only=True)
    assert same(made, folder / f"mimo-asr-{outtype}.gguf")

    assert same(done(made, tmp_path / "again.gguf"), made)
    assert same(done(made, tmp_path / "again2.gguf", "--asr-only"), made)
    other = done(made, tmp_path / "other.gguf", "--split-qkv" if fused else "--fuse-qkv")
    assert gguf_tensors(other).keys() == {
        n for n in speech_lm_names(2, 1, 1, fused=not fused) if not is_speech_generation(n)
    }


def test_asr_only_says_how_much_is_left_out(lm: Files, tmp_path: Path) -> None:
    gone = sum(is_speech_generation(name) for name in speech_lm_names(2, 1, 1, fused=False))
    result = quantize(lm(False, "f16"), tmp_path / "x.gguf", "--asr-only")
    assert f"; left out {gone} tensors: speech generation, by --asr-only\n" in result.stdout


@pytest.mark.parametrize(
    "lost", ["llm.codebook_head.7.weight", "llm.norm.weight", "audio.hidden_proj.weight", "llm.blk.0.attn.k.bias"]
)
def test_a_file_with_only_some_of_the_speech_generator_is_refused(lm: Files, tmp_path: Path, lost: str) -> None:
    source = rewrite(lm(False, "f16"), tmp_path / "in.gguf", tensors=lambda name: name != lost)
    for options in ([], ["--asr-only"]):
        check_one_line(quantize(source, tmp_path / "x.gguf", *options), source, f"missing tensor {re.escape(lost)}")
    source = rewrite(lm(False, "f16"), tmp_path / "in.gguf", tensors=lambda n: n == lost or not is_speech_generation(n))
    check_one_line(quantize(source, tmp_path / "x.gguf"), source, "missing tensor ")
    assert names(tmp_path) == ["in.gguf"]


# The dry run.


def test_a_dry_run_writes_nothing_and_lists_what_a_run_then_writes(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.gguf"
    arguments = [lm(False, "f32"), out, "--outtype", "q5_k", "--fuse-qkv", "--asr-only", "--tensor-type", "up=q8_0"]
    plan = quantize(*arguments, "--dry-run")
    assert (plan.exit_code, plan.stderr) == (0, "")
    assert names(tmp_path) == []

    done(*arguments)
    block, total = plan.stdout.split("\n\n")
    name, *rows, totals = block.splitlines()
    assert name == "x.gguf"
    listed = {line.split()[0]: tuple(line.split()[1:4]) for line in rows}
    stored = gguf_tensors(out)
    assert listed == {n: (t.type, "×".join(map(str, t.shape)), f"{len(t.data):,}") for n, t in stored.items()}
    assert f"; {out.stat().st_size:,} bytes; " in totals
    assert total.startswith(f"{out.stat().st_size:,} bytes to write to {out.parent}; ")


def test_a_dry_run_leaves_a_file_that_is_there_alone(lm: Files, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"precious")
    result = quantize(lm(False, "f16"), tmp_path / "x.gguf", "--outtype", "q8_0", "--dry-run", "--force")
    assert result.exit_code == 0
    assert (tmp_path / "x.gguf").read_bytes() == b"precious"
    assert names(tmp_path) == ["x.gguf"]


# Metadata.

STRANGE = [
    Key("x.string", "ÿ\n", V.STRING), Key("x.empty", "", V.STRING), Key("x.yes", True, V.BOOL),
    Key("x.no", False, V.BOOL), Key("x.double", 0.1, V.FLOAT64), Key("x.small", -(2**63), V.INT64),
    Key("x.large", 2**64 - 1, V.UINT64), Key("x.byte", 255, V.UINT8), Key("x.short", -32768, V.INT16),
    Key("x.strings", ["a", "", "ß"], V.ARRAY, V.STRING), Key("x.floats", [1.5, -0.25], V.ARRAY, V.FLOAT32),
    Key("x.doubles", [0.1], V.ARRAY, V.FLOAT64), Key("x.bools", [True, False], V.ARRAY, V.BOOL),
    Key("x.bytes", [0, 255], V.ARRAY, V.UINT8), Key("general.author", "somebody", V.STRING),
    Key("general.quantized_by", "else", V.STRING),
]  # fmt: skip


def typed_metadata(path: Path) -> list[tuple[str, Any, Any]]:
    """Keys in order, with values and types, by the `gguf` library."""
    fields = gguf.GGUFReader(path).fields
    return [(key, f.contents(), f.types) for key, f in fields.items() if not key.startswith("GGUF.")]


@pytest.mark.parametrize("options", [[], ["--outtype", "q4_k"], ["--fuse-qkv", "--asr-only"]], ids=" ".join)
def test_keys_that_only_other_tools_write_are_kept(lm: Files, tmp_path: Path, options: list[str]) -> None:
    source = rewrite(lm(False, "f16"), tmp_path / "in.gguf", add=STRANGE)
    made = done(source, tmp_path / "x.gguf", *options, "--quantizer", "ggml")
    quantized = "q4_k" in options
    file_type = 14 if quantized else 1
    expected = [(k, file_type if k == "general.file_type" else v, types) for k, v, types in typed_metadata(source)]
    [by] = [entry for entry in expected if entry[0] == "mimo_convert.version"]  # of this run, behind all others
    expected.remove(by)
    way = [(key, text, [V.STRING]) for key, text in (way_of("f16") | {QUANTIZER: "ggml"}).items()]
    assert typed_metadata(made) == expected + way * quantized + [by]


def test_empty_arrays_are_kept(tokenizer: Callable[[str], Path], tmp_path: Path) -> None:
    source = add_empty_arrays(tokenizer("f16"), tmp_path / "in.gguf")
    made = done(source, tmp_path / "x.gguf", "--outtype", "q8_0")
    assert array_by_ggml(made, "x.no_strings") == (0, V.STRING)
    assert array_by_ggml(made, "x.no_numbers") == (0, V.FLOAT32)
    assert {name: t.data for name, t in gguf_tensors(made).items()} == {
        name: t.data for name, t in gguf_tensors(tokenizer("q8_0")).items()
    }


def test_a_file_that_does_not_declare_its_type_gets_that_of_outtype_alone(lm: Files, tmp_path: Path) -> None:
    source = rewrite(
        lm(False, "q4_k"), tmp_path / "in.gguf", keys=lambda key: key if key.name != "general.file_type" else None
    )
    assert "general.file_type" not in gguf_metadata(done(source, tmp_path / "x.gguf", "--fuse-qkv"))
    made = done(source, tmp_path / "y.gguf", "--outtype", "q4_k")
    assert gguf_metadata(made)["general.file_type"] == 14
    assert {n: t.data for n, t in gguf_tensors(made).items()} == {n: t.data for n, t in gguf_tensors(source).items()}


@pytest.mark.parametrize(("value", "type"), [("MOSTLY_F16", V.STRING), (1, V.UINT64), (1, V.INT8), ([1], V.ARRAY)])
def test_a_type_that_is_declared_in_another_way_is_declared_in_ggmls_after(
    lm: Files, tmp_path: Path, value: Any, type: V
) -> None:
    strange = Key("general.file_type", value, type, V.UINT32 if type == V.ARRAY else None)
    source = rewrite(
        lm(False, "f16"), tmp_path / "in.gguf", keys=lambda key: strange if key.name == strange.name else key
    )
    assert same_by_way_of("f16", done(source, tmp_path / "x.gguf", "--outtype", "q6_k"), lm(False, "q6_k"))


# Bad input.


def folder(lm: Files, tmp_path: Path) -> Path:
    return tmp_path


def absent(lm: Files, tmp_path: Path) -> Path:
    return tmp_path / "absent.gguf"


def no_gguf(lm: Files, tmp_path: Path) -> Path:
    (tmp_path / "in.gguf").write_bytes(b"PK\3\4" + bytes(1000))
    return tmp_path / "in.gguf"


def empty(lm: Files, tmp_path: Path) -> Path:
    (tmp_path / "in.gguf").touch()
    return tmp_path / "in.gguf"


def other_architecture(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", architecture="llama")


def extra_tensor(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", extra="model.layers.0.attn.new.weight")


def both_layouts(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", extra="model.layers.0.attn.qkv.weight")


def missing_tensor(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(True, "f16"), tmp_path / "in.gguf", tensors=lambda name: name != UP)


def lost_merges(lm: Files, tmp_path: Path) -> Path:
    """What a reader that takes `#` for the beginning of a comment leaves of the merges."""

    def without_hashes(key: Key) -> Key:
        is_merges = key.name == "tokenizer.ggml.merges"
        return key._replace(value=[m for m in key.value if not m.startswith("#")]) if is_merges else key

    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", keys=without_hashes)


def no_tokens(lm: Files, tmp_path: Path) -> Path:
    return rewrite(
        lm(False, "f16"), tmp_path / "in.gguf", keys=lambda key: None if key.name.endswith(".tokens") else key
    )


def lying_size(lm: Files, tmp_path: Path) -> Path:
    def wider(key: Key) -> Key:
        return key._replace(value=257) if key.name == "mimo_asr.llm.hidden_size" else key

    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", keys=wider)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (folder, "is a folder"),
        (absent, "no such file"),
        (no_gguf, "not a GGUF file; expected a file that begins with the bytes GGUF"),
        (empty, "not a GGUF file"),
        (other_architecture, "key general.architecture is 'llama'; expected mimo_asr or mimo_tokenizer"),
        (extra_tensor, "extra tensor model.layers.0.attn.new.weight, unknown to mimo_asr"),
        (both_layouts, r"missing tensor model\.layers\.0\.attn\.qkv\.bias|tensor model\.layers\.0\.attn\.qkv\.weight"),
        (missing_tensor, f"missing tensor {UP}"),
        (lost_merges, "key tokenizer.ggml.merges"),
        (no_tokens, "key tokenizer.ggml.tokens is missing"),
        (lying_size, "its sizes contradict each other|tensor llm.embed.weight has shape"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("option", ["--dry-run", "--force"])
def test_a_bad_file_is_one_line_and_nothing_is_written(
    lm: Files, tmp_path: Path, make: Callable[[Files, Path], Path], says: str, option: str
) -> None:
    source = make(lm, tmp_path)
    before = names(tmp_path)
    result = quantize(source, tmp_path / "out" / "x.gguf", "--outtype", "q8_0", option)
    check_one_line(result, source, says)
    assert names(tmp_path) == before


def test_a_file_cut_anywhere_is_refused(
    tokenizer: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tokenizer("q4_k").read_bytes()

    @settings(max_examples=25)
    @given(st.integers(0, 4000) | st.integers(0, len(whole) - 32))  # the header's length about, and anywhere
    def check(keep: int) -> None:
        folder = tmp_path_factory.mktemp("cut")
        source = folder / "in.gguf"
        source.write_bytes(whole[:keep])
        check_one_line(quantize(source, folder / "out" / "x.gguf"), source, "not a GGUF file|cut short")
        assert names(folder) == ["in.gguf"]

    check()


# Where to.


def test_a_file_that_is_there_is_kept_without_force(lm: Files, tmp_path: Path) -> None:
    there = tmp_path / "x.gguf"
    there.write_bytes(b"precious")
    arguments = [lm(False, "f16"), there, "--outtype", "q8_0"]
    check_one_line(quantize(*arguments), there, "is already there and was kept; --force replaces it")
    assert (there.read_bytes(), names(tmp_path)) == (b"precious", ["x.gguf"])
    assert same_by_way_of("f16", done(*arguments, "--force"), lm(False, "q8_0"))


def itself(source: Path) -> Path:
    return source


def by_another_way(source: Path) -> Path:
    return source.parent / ".." / source.parent.name / source.name


def symlink(source: Path) -> Path:
    link = source.with_name("link.gguf")
    link.symlink_to(source.name)
    return link


def hard_link(source: Path) -> Path:
    link = source.with_name("link.gguf")
    os.link(source, link)
    return link


@pytest.mark.parametrize("target_of", [itself, by_another_way, symlink, hard_link])
@pytest.mark.parametrize("options", [[], ["--force"], ["--dry-run"]], ids=" ".join)
def test_a_file_is_never_written_over_itself(
    lm: Files, tmp_path: Path, target_of: Callable[[Path], Path], options: list[str]
) -> None:
    source = Path(shutil.copy(lm(False, "f16"), tmp_path / "in.gguf"))
    target = target_of(source)
    before = names(tmp_path)
    result = quantize(source, target, "--outtype", "q8_0", *options)
    check_one_line(result, "OUT.gguf", f"would replace {target}: IN.gguf reads it; give another name")
    assert same(source, lm(False, "f16"))
    assert names(tmp_path) == before


def test_the_file_to_read_may_not_be_the_unfinished_file_of_what_is_written(lm: Files, tmp_path: Path) -> None:
    source = Path(shutil.copy(lm(False, "f16"), tmp_path / "x.gguf.part"))
    result = quantize(source, tmp_path / "x.gguf", "--outtype", "q8_0")
    check_one_line(result, "OUT.gguf", f"would replace {source}: IN.gguf reads it; give another name")
    assert same(source, lm(False, "f16"))


@pytest.mark.parametrize("target", [".", "/", "out", "out/", ".."])
@pytest.mark.parametrize("options", [[], ["--outtype", "q8_0", "--force"]], ids=" ".join)
def test_a_folder_is_no_name_for_a_file(
    lm: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    result = quantize(lm(False, "f16"), target, *options)
    check_one_line(result, Path(target), "is a folder; expected the name of the file to write")
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], [])


def test_folders_on_the_way_are_made_and_those_that_cannot_be_are_named(lm: Files, tmp_path: Path) -> None:
    assert same(done(lm(False, "f16"), tmp_path / "new" / "er" / "x.gguf"), lm(False, "f16"))
    (tmp_path / "file").touch()
    result = quantize(lm(False, "f16"), tmp_path / "file" / "x.gguf")
    check_one_line(result, tmp_path / "file", "cannot be made a folder: ")


# The process.

SCRIPT = str(Path(sys.executable).with_name("mimo-quantize"))


def test_the_installed_command_does_it_in_one_line(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    command = [SCRIPT, lm(False, "f32"), out, "--outtype", "Q4_K", "--fuse-qkv", "--threads", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, ""), "no progress bar where there is no terminal"
    [line] = result.stdout.splitlines()
    assert line.startswith(f"{out}: {len(gguf_tensors(out))} tensors (")
    assert f"; {out.stat().st_size:,} bytes;" in line
    assert "rows of 48 are not a multiple of 256: f16" in line
    assert same(out, lm(True, "q4_k"))
    assert names(tmp_path) == ["x.gguf"]


KILLED_MIDWAY = """
import os, signal
from mimo_convert import flusher, journal
from quantize.cli import main
from quantize.recipes import parse_rule

flusher.FLUSH_BYTES = 1 << 16
add = journal.Journal.add

def add_and_die(self, chunks):
    add(self, chunks)
    if len(self.done) > 20:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.add = add_and_die
main()
"""


def test_a_run_that_was_killed_goes_on_where_it_stopped(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    arguments = [str(lm(False, "f32")), str(out), "--outtype", "q4_k"]
    killed = subprocess.run([sys.executable, "-c", KILLED_MIDWAY, *arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert names(tmp_path) == ["x.gguf.part", "x.gguf.part.journal"]
    result = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, f"{out}.part: going on where an earlier run stopped\n")
    assert same(out, lm(False, "q4_k"))
    assert names(tmp_path) == ["x.gguf"]


def test_help_tells_every_type_and_exit_status() -> None:
    text = " ".join(quantize("--help").stdout.split())
    assert " ".join(TYPES) in text
    for option in ("--fuse-qkv", "--split-qkv", "--tensor-type REGEX=TYPE", "--recipe FILE", "--asr-only", "--force"):
        assert option in text
    assert "Exit status: 0 written; 2 bad input or usage" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'IN.gguf'"),
        (["in.gguf"], "Missing argument 'OUT.gguf'"),
        (["in.gguf", "out.gguf", "--outtype", "q9_z"], "'q9_z' is not one of 'f32', 'f16', 'bf16', 'q8_0'"),
        (["in.gguf", "out.gguf", "--threads", "0"], "0 is not in the range"),
        (["in.gguf", "out.gguf", "--unfuse-qkv"], "No such option"),
    ],
)
def test_wrong_usage_is_click_s_usage_message_and_exit_2(arguments: list[str], says: str) -> None:
    result = quantize(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert says in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("recipe", "says"), [("(?!up)=f16", "'(?!up)' uses look-ahead (?!"), ("(.+)+!=q9_z", "'(.+)+!=q9_z' is no rule")]
)
def test_a_file_with_rules_that_cannot_be_read_is_converted_as_one_without_and_told_of(
    lm: Files, tmp_path: Path, recipe: str, says: str
) -> None:
    source = rewrite(lm(False, "f16"), tmp_path / "x.gguf", add=[Key("mimo_convert.recipe", recipe, V.STRING)])
    result = quantize(source, tmp_path / "y.gguf", "--outtype", "q4_k")
    [line] = result.stderr.splitlines()
    assert result.exit_code == 0
    assert line.startswith(f"warning: {source}: key mimo_convert.recipe:1: {says}")
    assert line.endswith("; read as a file without rules")
    assert same(tmp_path / "y.gguf", done(lm(False, "f16"), tmp_path / "z.gguf", "--outtype", "q4_k"))


def test_a_pattern_that_backtracks_for_years_is_matched_at_once(lm: Files, tmp_path: Path) -> None:
    recipe = Key("mimo_convert.recipe", "(.+)+!=q4_k\n(a|aa|.)*!=f16", V.STRING)
    source = rewrite(lm(False, "f16"), tmp_path / "x.gguf", add=[recipe])
    code = "from quantize.cli import main; main()"
    command = [sys.executable, "-c", code, source, tmp_path / "y.gguf"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    assert gguf_tensors(tmp_path / "y.gguf").keys() == gguf_tensors(source).keys()
