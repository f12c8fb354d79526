"""mimo-quantize with rules, without the speech generator, and with weights beyond a type."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFValueType as V

from quantize.types import TYPES
from tests.contract import is_speech_generation, speech_lm_names
from tests.damage import edit_tensor, set_weight
from tests.gguf_edit import Key, patch, rewrite
from tests.mimo_commands.invoked import check_one_line, names
from tests.opened import TINY_TOKENIZER
from tests.quantize.test_kernels import ggml_bytes
from tests.readers import ggml_tensors, gguf_metadata

from .quantized import (
    FROM,
    QKV,
    QUANTIZER,
    RECIPE,
    UP,
    UP_SOURCE,
    Files,
    dequantized,
    done,
    quantize,
    same,
    same_by_way_of,
    way_of,
    written,
)


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
    note = "1 × holds weights that would become infinite: promoted to f32"
    assert (result.exit_code, note in result.stdout) == (0, outtype != "bf16")
    assert same_by_way_of(source, tmp_path / "x.gguf", expected)

    dry = quantize(file, tmp_path / "y.gguf", "--outtype", outtype, "--dry-run", "-v").stdout
    [line] = [line for line in dry.splitlines() if line.startswith(f"  {UP} ")]
    assert line.split()[1] == ggml_tensors(expected)[UP].type

    for again in (["--outtype", outtype], []):
        result = quantize(tmp_path / "x.gguf", tmp_path / "y.gguf", "--force", *again)
        assert result.exit_code == 0
        told = f"tensor {UP} holds a weight that would become infinite in {outtype}: reading all weights"
        assert result.stderr.startswith(told) == bool(again and outtype != "bf16")
        assert same(tmp_path / "y.gguf", tmp_path / "x.gguf"), "promoted once more"


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


def test_a_rule_changes_its_tensors_and_copies_the_others(lm: Files, tmp_path: Path) -> None:
    source = ggml_tensors(lm(False, "f16"))
    rules = ["--tensor-type", r"layers\.0\..*(up|down)=q8_0", "--tensor-type", "down|embed=Q4_K"]
    made = ggml_tensors(done(lm(False, "f16"), tmp_path / "x.gguf", *rules))
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
    from mimo_commands.convert import main as mimo_convert

    (tmp_path / "r.txt").write_text("# heads\nhead=q6_k\nup=q2_k\n")
    rules = ["--tensor-type", "up=f32", "--recipe", str(tmp_path / "r.txt"), "--outtype", "q4_k", "--asr-only"]
    model = [str(small_lm), "--tokenizer", str(TINY_TOKENIZER), "--out", str(tmp_path), "--no-check"]
    result = CliRunner().invoke(mimo_convert, [*model, *rules, "--fuse-qkv"])
    assert result.exit_code == 0, result.output
    made = done(lm(False, "f32"), tmp_path / "x.gguf", *rules, "--fuse-qkv")
    assert same(made, tmp_path / "mimo-asr-q4_k-r.gguf")
    types = {name: tensor.type for name, tensor in ggml_tensors(made).items()}
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

    ruled = ggml_tensors(done(mixed, tmp_path / "ruled.gguf", "--fuse-qkv", "--tensor-type", "qkv=q8_0"))
    typed = ggml_tensors(done(mixed, tmp_path / "typed.gguf", "--fuse-qkv", "--outtype", "q8_0"))
    assert ruled[QKV].data == typed[QKV].data
    separate = ggml_tensors(lm(False, "f16"))
    parts = [dequantized(separate[f"model.layers.0.attn.{c}.weight"]) for c in "qkv"]
    assert ruled[QKV].data == b"".join(ggml_bytes(TYPES["q8_0"], part) for part in parts)
    assert (ruled[UP].type, typed[UP].type) == ("f16", "q8_0")


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        (["--tensor-type", "nothing=q8_0"], "--tensor-type", "nothing=q8_0 matches no tensor; --dry-run lists"),
        (["--tensor-type", "qkv=q8_0"], "--tensor-type", "qkv=q8_0 matches no tensor"),
        (["--tensor-type", "_norm=q8_0"], "--tensor-type", r"_norm=q8_0 matches only \d tensors whose type is fixed"),
        (["--tensor-type", "up"], "--tensor-type", "'up' is not a rule; expected REGEX=TYPE"),
        (["--tensor-type", "(=q8_0"], "--tensor-type", r"'\(' is not a regular expression"),
        (["--recipe", "absent.txt"], "absent.txt", "no such file; expected a text file"),
        (["--recipe", "."], ".", "is a folder"),
        (["--recipe", "bad.txt"], "bad.txt:2", "'up is q8_0' is not a rule"),
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


@pytest.mark.parametrize("outtype", ["f32", "q4_k"])
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_asr_only_leaves_out_the_speech_generator_and_stays_so(
    lm: Files, small_lm: Path, tmp_path: Path, outtype: str, fused: bool
) -> None:
    made = done(lm(fused, "f32"), tmp_path / "x.gguf", "--asr-only", "--outtype", outtype)
    kept = {name for name in speech_lm_names(2, 1, 1, fused=fused) if not is_speech_generation(name)}
    assert ggml_tensors(made).keys() == kept
    assert gguf_metadata(made) == gguf_metadata(lm(fused, outtype))
    folder = written(small_lm, tmp_path / "convert", outtype, fuse_qkv=fused, asr_only=True)
    assert same(made, folder / f"mimo-asr-{outtype}.gguf")

    assert same(done(made, tmp_path / "again.gguf"), made)
    assert same(done(made, tmp_path / "again2.gguf", "--asr-only"), made)
    other = done(made, tmp_path / "other.gguf", "--split-qkv" if fused else "--fuse-qkv")
    assert ggml_tensors(other).keys() == {
        n for n in speech_lm_names(2, 1, 1, fused=not fused) if not is_speech_generation(n)
    }


def test_asr_only_says_how_much_is_left_out(lm: Files, tmp_path: Path) -> None:
    gone = sum(is_speech_generation(name) for name in speech_lm_names(2, 1, 1, fused=False))
    result = quantize(lm(False, "f16"), tmp_path / "x.gguf", "--asr-only")
    assert f"; skipped {gone} tensors: speech generation, by --asr-only\n" in result.stdout


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


@pytest.mark.parametrize(
    ("recipe", "says"), [("(?!up)=f16", "'(?!up)' uses look-ahead (?!"), ("(.+)+!=q9_z", "'(.+)+!=q9_z' is not a rule")]
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
    code = "from mimo_commands.quantize import main; main()"
    command = [sys.executable, "-c", code, source, tmp_path / "y.gguf"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    assert ggml_tensors(tmp_path / "y.gguf").keys() == ggml_tensors(source).keys()
