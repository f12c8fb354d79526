"""A bad checkpoint, file or option of mimo-convert is one line and exit status 2."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.damage import add_tensor, cut, edit_header, edit_json, edit_tensor, set_weight, shard_of

from ..invoked import check_one_line, invoke, names
from .test_convert import EMBED, INDEX, SHARD_1, SHARD_2, UP

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
    "no folder": (
        shutil.rmtree, "", "was taken for a path, and there is no such folder; expected a checkpoint folder, a Hub id "
    ),
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
        f"missing tensor x, which {INDEX} lists",
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
        "token [0-9]+ .'.*'. is the result of no merge; expected one",
    ),
    "merges that begin with # lost": (
        without_hash_lines, "merges.txt",
        "token [0-9]+ .'#.'. is the result of no merge, the first of 96 such findings; expected one",
    ),
    "gap in the ids": (on_model(lambda m: m["vocab"].update({"!": 511})), "tokenizer.json", "no token has id 0; "),
}  # fmt: skip


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
    check_one_line(result, lm, "is of mimo_asr; expected mimo_tokenizer as audio tokenizer")


@pytest.mark.parametrize("option", ["--tokenizer", "--tokenizer-base-model"])
def test_an_audio_tokenizer_has_no_audio_tokenizer(small_tokenizer: Path, tmp_path: Path, option: str) -> None:
    result = invoke(small_tokenizer, option, "Some/Model", "--out", tmp_path / "out")
    check_one_line(result, option, f"Some/Model, but {small_tokenizer} is itself an audio tokenizer; leave it out")


def test_a_swapped_pair_is_told_so(small_lm: Path, small_tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(small_tokenizer, "--tokenizer", small_lm, "--out", tmp_path / "out")
    what = f"{small_lm} is a speech lm, and {small_tokenizer} its audio tokenizer: these two are swapped"
    check_one_line(result, "--tokenizer", f"{what}; give {small_lm} with --tokenizer {small_tokenizer}")


def test_nan_in_the_audio_tokenizer_leaves_neither_file(small_lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    name = "encoder.quantizer.vq.layers.0._codebook.embed"
    set_weight(tokenizer, name, 7, float("nan"))
    result = invoke(small_lm, "--tokenizer", tokenizer, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tokenizer / 'model.safetensors'}: tensor {name} holds NaN in row 7; ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["no/such/folder", "../nowhere", "nowhere", "/nowhere/at-all", "x" * 300])
def test_a_model_that_is_nowhere_is_one_line(tmp_path: Path, source: str) -> None:
    result = invoke(source, "--out", tmp_path / "out")
    reason = "File name too long" if len(source) > 255 else "there is no such folder"
    check_one_line(result, source, f"was taken for a path, and {reason}; expected a checkpoint folder, a Hub id OWNER/")


def test_a_file_is_no_checkpoint(small_lm: Path) -> None:
    result = invoke(small_lm / "config.json")
    check_one_line(result, small_lm / "config.json", "is a file; expected a checkpoint folder, a Hub id OWNER/NAME")
    assert result.stderr.endswith(f"; give the folder {small_lm}\n")


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
        (["--tokenizer-outtype", "int8"], "'iq4_nl', 'iq4_xs'; did you mean q8_0?"),
        (["--outtype", "Q4_K_M"], "did you mean q4_k? --recipe q4_k_m makes that mix"),
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
