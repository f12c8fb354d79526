"""mimo-convert as its users meet it: what it writes, what it prints, and its one line for each kind of bad input."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from mimo_convert.cli import main
from quantize.types import TYPES

from ..damage import add_tensor, cut, edit_header, edit_json, edit_tensor, set_weight, shard_of
from ..readers import gguf_metadata, gguf_tensors

INDEX, SHARD_1, SHARD_2 = (
    "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
)  # fmt: skip
UP, EMBED = "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--no-check"])


@pytest.fixture
def lm(small_lm: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_lm, tmp_path / "lm")


@pytest.fixture
def tokenizer(small_tokenizer: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_tokenizer, tmp_path / "tokenizer")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# Right input.


def test_a_pair_of_checkpoints_becomes_a_pair_of_files(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--fuse-qkv", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(tmp_path / "out") == ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"]
    lines = result.stdout.splitlines()
    for line, name in zip(lines, ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"], strict=True):
        file = tmp_path / "out" / name
        assert line.startswith(f"{file}: {len(gguf_tensors(file))} tensors (")
        assert f"; {file.stat().st_size:,} bytes;" in line
    assert "rows of 48 are not a multiple of 256: f16" in lines[0]
    assert "left out 1 tensors: speech synthesis" in lines[1]
    assert "left out 6 tensors: training buffers" in lines[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["mimo-asr-f16.gguf", "mimo-tokenizer-f16.gguf"]),
        (["--outtype", "Q4_K"], ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"]),
        (["--outtype", "IQ4_NL", "--tokenizer-outtype", "F32"], ["mimo-asr-iq4_nl.gguf", "mimo-tokenizer-f32.gguf"]),
        (
            ["--outtype", "bf16", "--outtype", "q8_0", "--outtype", "BF16"],
            ["mimo-asr-bf16.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-bf16.gguf"],
        ),
    ],
)
def test_types_name_the_files_in_the_default_folder(
    lm: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(lm, "--tokenizer", tokenizer, *options).exit_code == 0
    assert names(tmp_path / "lm-GGUF") == expected


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv", None])
def test_qkv_is_separate_unless_asked_for(lm: Path, tokenizer: Path, tmp_path: Path, fuse: str | None) -> None:
    invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / "out", *([fuse] if fuse else []))
    found = gguf_tensors(tmp_path / "out" / "mimo-asr-f16.gguf")
    assert ("model.layers.0.attn.qkv.weight" in found) == (fuse == "--fuse-qkv")
    assert ("model.layers.0.attn.q.weight" in found) == (fuse != "--fuse-qkv")


QUANTIZER = "mimo_convert.quantizer"


def test_either_quantizer_writes_the_same_weights_and_the_file_says_which(
    lm: Path, tokenizer: Path, tmp_path: Path
) -> None:
    made = {}
    for quantizer in ("ggml", "simd"):
        options = ["--outtype", "q5_k", "--outtype", "q2_k", "--tokenizer-outtype", "q8_0", "--quantizer", quantizer]
        result = invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / quantizer, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        for line in result.stdout.splitlines():
            assert f"; quantized by {quantizer};" in line
        for name in names(tmp_path / quantizer):
            file = tmp_path / quantizer / name
            assert gguf_metadata(file)[QUANTIZER] == quantizer
            made[quantizer, name] = {tensor: found.data for tensor, found in gguf_tensors(file).items()}
    for (quantizer, name), tensors in made.items():
        for tensor, data in tensors.items():  # ggml built with contraction may round a level otherwise
            theirs = made["ggml", name][tensor]
            same = sum(a == b for a, b in zip(data, theirs, strict=True))
            assert same >= 0.99 * len(theirs), f"{quantizer} {name} {tensor}"


def test_what_is_not_quantized_has_no_quantizer(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / "out", "--outtype", "f16", "--quantizer", "simd")
    assert result.exit_code == 0
    assert "quantized by" not in result.stdout
    for file in (tmp_path / "out").iterdir():
        assert QUANTIZER not in gguf_metadata(file)


def test_a_dry_run_tells_the_quantizer(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", tmp_path / "out", "--dry-run"]
    plans = {name: invoke(*arguments, "--quantizer", name).stdout for name in ("ggml", "simd")}
    for name, plan in plans.items():
        assert plan.count(f"quantized by {name}") == 2


def test_an_audio_tokenizer_as_model_is_converted_alone(tokenizer: Path, tmp_path: Path) -> None:
    assert invoke(tokenizer, "--outtype", "f32", "--outtype", "q8_0", "--out", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["mimo-tokenizer-f32.gguf", "mimo-tokenizer-q8_0.gguf"]


def test_a_folder_whose_name_is_not_utf_8_is_converted(small_tokenizer: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/odd\xff"))
    shutil.copytree(small_tokenizer, odd)
    assert invoke(odd, "--out", tmp_path / "out").exit_code == 0
    assert gguf_metadata(tmp_path / "out" / "mimo-tokenizer-f16.gguf")["general.name"] == "odd?"


def test_a_dry_run_writes_nothing_and_tells_what_a_run_will_write(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--outtype", "f32", "--out", tmp_path / "out"]
    plan = invoke(*arguments, "--dry-run")
    assert (plan.exit_code, plan.stderr) == (0, "")
    assert not (tmp_path / "out").exists()

    assert invoke(*arguments).exit_code == 0
    blocks = dict(block.split("\n", 1) for block in plan.stdout.split("\n\n")[:-1])
    assert sorted(blocks) == names(tmp_path / "out")
    for name, block in blocks.items():
        file = tmp_path / "out" / name
        *rows, totals = block.splitlines()
        listed = {line.split()[0]: (line.split()[1], line.split()[2], line.split()[3]) for line in rows}
        stored = gguf_tensors(file)
        assert listed == {n: (t.type, "×".join(map(str, t.shape)), f"{len(t.data):,}") for n, t in stored.items()}
        assert f"; {file.stat().st_size:,} bytes; " in totals
        weights = sum(torch.Size(t.shape).numel() for t in stored.values())
        bits = sum(len(t.data) for t in stored.values()) * 8 / weights
        assert f"{weights:,} weights" in totals
        assert f"{bits:.2f} bits per weight" in totals
    total = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert plan.stdout.splitlines()[-1].startswith(f"{total:,} bytes to write to {tmp_path / 'out'}; ")


def test_a_weight_beyond_f16_is_told_by_the_dry_run_and_after(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    edit_tensor(lm, UP, lambda tensor: tensor.float())
    set_weight(lm, UP, 3, 1e6)
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "f16", "--outtype", "bf16", "--out", tmp_path / "out"]
    note = "holds weights that would become infinite: kept in f32"
    plan, run = invoke(*arguments, "--dry-run").stdout, invoke(*arguments).stdout
    (line,) = [line for line in plan.splitlines() if line.endswith(note) and ";" not in line]
    assert line.split()[:2] == ["model.layers.1.ffn.up.weight", "f32"]
    told = {name: f"1 × {note}" in line for line in run.splitlines() for name in [Path(line.split(":")[0]).name]}
    assert told == {"mimo-asr-f16.gguf": True, "mimo-asr-bf16.gguf": False, "mimo-tokenizer-f16.gguf": False}
    sizes = re.findall(r"([\d,]+) bytes;", run)
    assert re.findall(r"([\d,]+) bytes;", plan.rpartition("\n\n")[0]) == sizes


def test_a_file_that_is_there_is_kept_without_force(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    there = tmp_path / "out" / "mimo-tokenizer-f16.gguf"
    there.parent.mkdir()
    there.write_bytes(b"precious")
    arguments = [lm, "--tokenizer", tokenizer, "--out", tmp_path / "out"]
    result = invoke(*arguments)
    check_one_line(result, there, "is already there and was kept; --force replaces it")
    assert names(tmp_path / "out") == [there.name], "the speech LM is not begun in vain"
    assert there.read_bytes() == b"precious"
    assert invoke(*arguments, "--force").exit_code == 0
    assert gguf_metadata(there)["general.architecture"] == "mimo_tokenizer"


def test_a_hub_checkpoint_is_converted_under_its_own_name(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    """From the Hub's local cache, in its own layout, without a network."""
    commits = {"Some/Speech-LM": "1" * 40, "Some/Audio-Tokenizer": "2" * 40}
    for (repo, commit), folder in zip(commits.items(), (lm, tokenizer), strict=True):
        cached = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / commit)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("mimo-convert")), *arguments, "--no-check"]
        return subprocess.run(command, env=offline, cwd=tmp_path, capture_output=True, text=True, check=False)

    result = run("Some/Speech-LM", "--tokenizer", "Some/Audio-Tokenizer")
    assert (result.returncode, result.stderr) == (0, ""), "no progress bar where there is no terminal"
    assert names(tmp_path / "Speech-LM-GGUF") == ["mimo-asr-f16.gguf", "mimo-tokenizer-f16.gguf"]
    about = gguf_metadata(tmp_path / "Speech-LM-GGUF" / "mimo-asr-f16.gguf")
    assert about["general.name"] == about["general.base_model.0.name"] == "Speech-LM"
    assert about["general.base_model.0.organization"] == "Some"
    assert about["general.base_model.0.repo_url"] == "https://huggingface.co/Some/Speech-LM"
    assert about["general.base_model.0.version"] == "1" * 40

    absent = run("Some/Absent", "--tokenizer", str(tokenizer))
    assert absent.returncode == 2
    assert re.fullmatch(
        r"error: Some/Absent: cannot be downloaded: .*; check the name and the network.*\n", absent.stderr
    )


def test_help_tells_every_type_and_exit_status() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).stdout.split())
    assert " ".join(TYPES) in text
    assert "0 converted, and every gate reached; 1 a gate failed; 2 bad input or usage" in text


# Bad input. Each row: what is done to the speech LM's folder, and what the one line says behind it.

Damage = Callable[[Path], Any]


def on_config(**values: Any) -> Damage:
    return lambda lm: edit_json(lm / "config.json", lambda config: config.update(values))


def write(name: str, content: str) -> Damage:
    return lambda lm: (lm / name).write_text(content)


def remove(name: str) -> Damage:
    return lambda lm: (lm / name).unlink()


def on_entry(name: str, **values: Any) -> Damage:
    """Change a tensor's entry in its shard's header."""
    return lambda lm: edit_header(shard_of(lm, name), lambda header: header[name].update(values))


def shift(name: str, by: int) -> Damage:
    """Move where a tensor's data is said to lie."""

    def change(header: Any) -> None:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]

    return lambda lm: edit_header(shard_of(lm, name), change)


def shift_last(by: int) -> Damage:
    """Move the tensor whose data ends the first shard."""

    def change(header: Any) -> None:
        last = max((entry for entry in header.values() if "dtype" in entry), key=lambda entry: entry["data_offsets"][1])
        last["data_offsets"] = [offset + by for offset in last["data_offsets"]]

    return lambda lm: edit_header(lm / SHARD_1, change)


def on_model(change: Callable[[Any], Any]) -> Damage:
    return lambda lm: edit_json(lm / "tokenizer.json", lambda values: change(values["model"]) and None)


def without_hash_lines(lm: Path) -> None:
    (lm / "tokenizer.json").unlink()
    lines = (lm / "merges.txt").read_text(encoding="utf-8").splitlines()
    (lm / "merges.txt").write_text("\n".join(line for line in lines if not line.startswith("#")), encoding="utf-8")


BAD_CHECKPOINTS: dict[str, tuple[Damage, str, str]] = {
    "no folder": (shutil.rmtree, "", "no such folder; expected a checkpoint folder, a Hub id OWNER/NAME, or tiny"),
    "no config": (remove("config.json"), "config.json", "no such file"),
    "config no JSON": (write("config.json", "{'a': 1}"), "config.json", "not JSON (Expecting property name"),
    "config no object": (write("config.json", "[]"), "config.json", "holds a list; expected a JSON object"),
    "config incomplete": (on_config(hidden_size=None), "config.json", "hidden_size is missing"),
    "unknown architecture": (
        on_config(architectures=["LlamaForCausalLM"], model_type="llama"), "config.json",
        "names the architecture LlamaForCausalLM, llama; expected one of MiMoV2ASRForCausalLM",
    ),
    "no shards": (lambda lm: [p.unlink() for p in lm.glob("model*")], "", "0 safetensors files and no model.safetens"),
    "no index": (remove(INDEX), "", f"2 safetensors files and no {INDEX}"),
    "missing shard": (remove(SHARD_2), SHARD_2, f"missing shard, named by {INDEX}"),
    "shard cut in its data": (lambda lm: cut(lm / SHARD_2, -100), SHARD_2, "truncated: tensors reach to "),
    "shard cut in its header": (lambda lm: cut(lm / SHARD_2, 200), SHARD_2, "truncated: 200 bytes, header says "),
    "shard empty": (lambda lm: cut(lm / SHARD_2, 0), SHARD_2, "truncated: 0 bytes"),
    "header no JSON": (
        lambda lm: (lm / SHARD_1).write_bytes(b"\4" + bytes(7) + b"nope" + bytes(9)), SHARD_1, "header is not JSON"
    ),
    "offsets overlap": (shift_last(-2), SHARD_1, r"tensor \S+ overlaps the one before: begins at \d+; expected \d+"),
    "offsets leave a gap": (shift_last(2), SHARD_1, r"tensor \S+ leaves a gap before it: begins at \d+; expected \d+"),
    "offsets reach past the end": (
        lambda lm: cut(lm / SHARD_1, -1), SHARD_1, r"truncated: tensors reach to \d+ of \d+ bytes"
    ),
    "bytes of no tensor": (
        lambda lm: (lm / SHARD_1).open("ab").write(b"12"), SHARD_1, "2 bytes that belong to no tensor"
    ),
    "missing tensor": (
        lambda lm: edit_tensor(lm, UP, lambda _: None), "", f"missing tensor {UP}; expected shape 512×256"
    ),
    "extra tensor": (
        lambda lm: add_tensor(lm, "model.layers.0.new", UP), SHARD_2,
        "extra tensor model.layers.0.new, unknown to mimo_asr",
    ),
    "misshapen tensor": (
        lambda lm: edit_tensor(lm, UP, lambda t: t[:-1].clone()), SHARD_2,
        f"tensor {UP} has shape 511×256; expected 512×256, by config.json",
    ),
    "transposed tensor": (
        lambda lm: edit_tensor(lm, UP, lambda t: t.T.contiguous()), SHARD_2, f"tensor {UP} has shape 256×512"
    ),
    "config of another size": (
        on_config(num_hidden_layers=3), "", r"missing tensor model.layers.2.input_layernorm.weight; expected shape 256"
    ),
    "config of fewer layers": (on_config(num_hidden_layers=1), SHARD_2, r"extra tensor model\.layers\.1\.\S+, unknown"),
    "integer weights": (
        lambda lm: edit_tensor(lm, UP, lambda t: t.to(torch.int16)), SHARD_2,
        f"tensor {UP} has unsupported dtype I16; expected F32 or F16 or BF16",
    ),
    "unknown dtype": (on_entry(UP, dtype="F4"), SHARD_2, f"tensor {UP} has unsupported dtype F4; expected F32 or"),
    "NaN": (lambda lm: set_weight(lm, UP, 300, float("nan")), SHARD_2, f"tensor {UP} holds NaN in row 300; "),
    "infinity": (
        lambda lm: set_weight(lm, EMBED, 511, float("-inf")), SHARD_2, f"tensor {EMBED} holds infinity in row 511; "
    ),
    "index outside the folder": (
        lambda lm: edit_json(lm / INDEX, lambda v: v["weight_map"].update({UP: "../other/x.safetensors"})), INDEX,
        "names '../other/x.safetensors', outside the checkpoint folder",
    ),
    "index with an absolute path": (
        lambda lm: edit_json(lm / INDEX, lambda v: v["weight_map"].update({UP: "/etc/passwd"})), INDEX,
        "names '/etc/passwd', outside the checkpoint folder",
    ),
    "index without weight_map": (
        lambda lm: edit_json(lm / INDEX, lambda v: v.pop("weight_map") and None), INDEX,
        "weight_map is missing or malformed; expected tensor name → file name",
    ),
    "index no JSON": (write(INDEX, ""), INDEX, "not JSON"),
    "index promises too much": (
        lambda lm: edit_json(lm / INDEX, lambda v: v["weight_map"].update({"x": SHARD_1})), SHARD_1,
        f"missing tensor x, which {INDEX} promises",
    ),
    "index names the other shard": (
        lambda lm: edit_json(lm / INDEX, lambda v: v["weight_map"].update({UP: SHARD_1})), SHARD_2,
        f"holds tensor {UP}, for which {INDEX} names {SHARD_1}",
    ),
    "no vocabulary": (
        lambda lm: [remove(name)(lm) for name in ("tokenizer.json", "vocab.json")], "",
        "no tokenizer files; expected tokenizer.json, or vocab.json and merges.txt",
    ),
    "vocabulary too large": (
        on_model(lambda m: m["vocab"].update(zz=512)), "tokenizer.json",
        "token 'zz' has id 512; expected below vocab_size 512 of config.json",
    ),
    "vocab_size too small": (on_config(vocab_size=500), "tokenizer.json", r"token '\S+' has id 500; expected below"),
    "merge of unknown parts": (
        on_model(lambda m: m["merges"].append("Ġ zz")), "tokenizer.json", "merge 219 ('Ġ zz') needs 'zz', which is"
    ),
    "merges lost": (
        on_model(lambda m: m["merges"].pop() and None), "tokenizer.json",
        "1 tokens are the result of no merge, '.*' first; expected 219 merges, found 218",
    ),
    "merges that begin with # lost": (
        without_hash_lines, "merges.txt",
        "96 tokens are the result of no merge, '#.' first; expected 219 merges, found 123",
    ),
    "gap in the ids": (on_model(lambda m: m["vocab"].update({"!": 511})), "tokenizer.json", "no token has id 0; "),
}  # fmt: skip


def check_one_line(result: Result, where: Path | str, says: str) -> None:
    """Exit status 2, and nothing but one line that begins with the file and `says`, literally or as a pattern."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    rest = result.stderr.removeprefix(f"error: {where}: ")
    assert rest != result.stderr, result.stderr
    assert rest.startswith(says) or re.match(says, rest), result.stderr


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_one_line_and_exit_2(lm: Path, small_tokenizer: Path, tmp_path: Path, kind: str) -> None:
    damage, where, says = BAD_CHECKPOINTS[kind]
    damage(lm)
    for mode in ([], ["--dry-run"]):
        result = invoke(lm, "--tokenizer", small_tokenizer, "--out", tmp_path / "out", *mode)
        check_one_line(result, lm / where, says)
        assert names(tmp_path / "out") == []


BAD_TOKENIZERS: dict[str, tuple[Damage, str, str]] = {
    "missing tensor": (
        lambda t: edit_tensor(t, "encoder.layer_norm.bias", lambda _: None), "",
        "missing tensor encoder.layer_norm.bias; expected shape 64",
    ),
    "extra tensor": (
        lambda t: add_tensor(t, "encoder.new", "encoder.layer_norm.bias"), "model.safetensors",
        "extra tensor encoder.new, unknown to mimo_tokenizer",
    ),
    "bias on keys": (
        lambda t: add_tensor(t, "encoder.layers.0.self_attn.k_proj.bias", ""), "model.safetensors",
        "extra tensor encoder.layers.0.self_attn.k_proj.bias",
    ),
    "shard cut": (lambda t: cut(t / "model.safetensors", 0.5), "model.safetensors", "truncated: tensors reach to"),
    "causal": (on_config(encoder_causal=True), "config.json", "encoder_causal is true; expected false"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TOKENIZERS)
def test_a_bad_audio_tokenizer_is_found_before_anything_is_written(
    small_lm: Path, tokenizer: Path, tmp_path: Path, kind: str
) -> None:
    damage, where, says = BAD_TOKENIZERS[kind]
    damage(tokenizer)
    result = invoke(small_lm, "--tokenizer", tokenizer, "--out", tmp_path / "out")
    check_one_line(result, tokenizer / where, says)
    assert not (tmp_path / "out").exists()


def test_a_speech_lm_is_no_audio_tokenizer(small_lm: Path, lm: Path, tmp_path: Path) -> None:
    result = invoke(small_lm, "--tokenizer", lm, "--out", tmp_path / "out")
    check_one_line(result, lm, "is a speech LM; expected an audio tokenizer as --tokenizer")


def test_nan_in_the_audio_tokenizer_leaves_neither_file(small_lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    name = "encoder.quantizer.vq.layers.0._codebook.embed"
    set_weight(tokenizer, name, 7, float("nan"))
    result = invoke(small_lm, "--tokenizer", tokenizer, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tokenizer / 'model.safetensors'}: tensor {name} holds NaN in row 7; ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["no/such/folder", "../nowhere", "nowhere", "/nowhere/at-all", "x" * 300])
def test_a_model_that_is_nowhere_is_one_line(tmp_path: Path, source: str) -> None:
    check_one_line(invoke(source, "--out", tmp_path / "out"), source, "no such folder")


def test_a_file_is_no_checkpoint(small_lm: Path) -> None:
    check_one_line(invoke(small_lm / "config.json"), small_lm / "config.json", "not a folder")


def test_a_name_with_a_line_break_still_makes_one_line(lm: Path, small_tokenizer: Path, tmp_path: Path) -> None:
    add_tensor(lm, "two\nlines", UP)
    result = invoke(lm, "--tokenizer", small_tokenizer, "--out", tmp_path / "out")
    check_one_line(result, lm / SHARD_2, "extra tensor two lines, unknown to mimo_asr")


def test_an_output_folder_below_a_file_is_one_line(small_lm: Path, small_tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke(small_lm, "--tokenizer", small_tokenizer, "--out", tmp_path / "file" / "out")
    check_one_line(result, tmp_path / "file" / "out", "cannot be made a folder: Not a directory; choose another folder")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--outtype", "q9_z"], "'q9_z' is not one of 'f32', 'f16', 'bf16', 'q8_0'"),
        (["--tokenizer-outtype", "int8"], "'int8' is not one of 'f32', 'f16', 'bf16', 'q8_0'"),
        (["--threads", "0"], "0 is not in the range"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_wrong_usage_is_click_s_usage_message_and_exit_2(
    small_lm: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    result = invoke(small_lm, "--out", tmp_path / "out", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert says in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
