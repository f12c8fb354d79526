"""Every file says what it was made of, and by what; equal input gives equal files."""

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from gguf import GGUFValueType

from mimo_commands.convert import main as mimo_convert
from mimo_convert.formats.gguf import read_gguf
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.provenance import Intermediate, Provenance, provenance_of
from mimo_convert.plan.request import Request
from mimo_convert.write.convert import convert
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.gguf_edit import Key, rewrite
from tests.opened import make_request, model_of_file, options_of
from tests.readers import gguf_metadata


def converted(source: Path, out: Path, *types: str) -> list[Path]:
    plans = convert([make_request(open_checkpoint(str(source)), [TYPES[type] for type in types])], out, threads=2)
    return [out / plan.file_name for plan in plans]


def quantized(source: Path, target: Path, type: str) -> Path:
    request = Request(model_of_file(source), [TYPES[type]], options_of(allow_requantize=True), file_name=target.name)
    convert([request], target.parent, threads=2)
    return target


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_records_the_hash_of_every_shard_as_sha256sum_lists_it(small_lm: Path, tmp_path: Path) -> None:
    for file in converted(small_lm, tmp_path, "q8_0", "f16"):
        shards = {path.name: sha256(path) for path in sorted(small_lm.glob("*.safetensors"))}
        assert len(shards) == 2
        expected = "".join(f"{digest}  {name}\n" for name, digest in shards.items())
        assert gguf_metadata(file)["mimo_convert.shards"] == expected
        assert provenance_of(read_gguf(file)) == Provenance(
            name="small-lm", shards=shards, version=version("mimo-convert")
        )


def test_tensors_that_are_left_out_are_hashed_with_the_others(small_tokenizer: Path, tmp_path: Path) -> None:
    """Much of the audio tokenizer's file is in no GGUF: its hash is that of the file all the same."""
    [file] = converted(small_tokenizer, tmp_path, "f16")
    [shard] = small_tokenizer.glob("*.safetensors")
    assert provenance_of(read_gguf(file)).shards == {shard.name: sha256(shard)}


def test_equal_input_gives_equal_files_wherever_it_lies(small_lm: Path, tmp_path: Path) -> None:
    [one] = converted(small_lm, tmp_path / "a", "q4_k")
    [other] = converted(small_lm, tmp_path / "b" / "c", "q4_k")
    assert one.read_bytes() == other.read_bytes()


def test_a_file_says_which_files_it_was_made_of_but_for_those_that_lose_nothing(small_lm: Path, tmp_path: Path) -> None:
    f32, f16 = converted(small_lm, tmp_path, "f32", "f16")
    exact = quantized(f32, tmp_path / "exact.gguf", "q8_0")
    q8_0 = quantized(f16, tmp_path / "q8_0.gguf", "q8_0")
    same = quantized(q8_0, tmp_path / "same.gguf", "q8_0")
    q6_k = quantized(same, tmp_path / "q6_k.gguf", "q6_k")
    again = quantized(quantized(q6_k, tmp_path / "f32.gguf", "f32"), tmp_path / "again.gguf", "q4_k")
    made = (f32, f16, exact, q8_0, same, q6_k, again)
    assert {path.stem: provenance_of(read_gguf(path)).quantized_from for path in made} == {
        "mimo-asr-f32": (), "mimo-asr-f16": (), "exact": (), "q8_0": ("f16",), "same": ("f16",),
        "q6_k": ("f16", "q8_0"), "again": ("f16", "q8_0", "q6_k", "f32"),
    }  # fmt: skip
    assert provenance_of(read_gguf(again)).shards == provenance_of(read_gguf(f16)).shards


def test_it_says_who_made_them_and_what_does_not_follow_from_their_type(small_lm: Path, tmp_path: Path) -> None:
    """By the names of a file with Q, K and V apart."""
    rules = (parse_rule("layers.1.attn.qkv=q8_0", "x"), parse_rule("lm_head=q6_k", "x"))
    checkpoint = open_checkpoint(str(small_lm))
    convert(
        [make_request(checkpoint, [TYPES["f16"]], options_of(True, rules=rules, quantizer="ggml"))], tmp_path, threads=2
    )
    q4_k = quantized(tmp_path / "mimo-asr-f16-mix.gguf", tmp_path / "q4_k.gguf", "q4_k")
    q2_k = quantized(q4_k, tmp_path / "q2_k.gguf", "q2_k")
    qkv = {f"model.layers.1.attn.{name}.weight": "q8_0" for name in "qkv"}
    ours = version("mimo-convert")
    assert provenance_of(read_gguf(q2_k)).intermediates == (
        Intermediate("f16", {"llm.lm_head.weight": "q6_k"} | qkv, "ggml", ours),
        Intermediate("q4_k", {}, "simd", ours),
    )


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("q8_0", ("q8_0",)), ("q8_0, bf16", ("q8_0", "bf16")), ("q8_0,bf16", ()), ("q8_0, q9", ()), ("q8_0, ", ()),
        (", ".join(["f16"] * 16), ("f16",) * 16), (", ".join(["f16"] * 17), ()), (", ".join(["f16"] * 10**6), ()),
    ],
)  # fmt: skip
def test_files_between_are_of_known_types_and_not_too_many(
    small_tokenizer: Path, tmp_path: Path, types: str, expected: tuple[str, ...]
) -> None:
    [file] = converted(small_tokenizer, tmp_path, "f16")
    made = rewrite(file, tmp_path / "x.gguf", add=[Key("mimo_convert.quantized_from", types, GGUFValueType.STRING)])
    assert provenance_of(read_gguf(made)).quantized_from == expected


@pytest.mark.parametrize(
    ("versions", "is_complete"),
    [
        (("0.6.0",), True), (("0.5.9",), False), (("1.0rc1",), True), (("0.10.0", "0.6.0"), True),
        (("0.6.0", ""), False), (("0.6.0", "0.5.0"), False), (("",), False), (("six",), False),
        (("9" * 5000 + ".0",), False), (("٣.٣",), False),
    ],
)  # fmt: skip
def test_only_newer_versions_tell_of_all_files_between(versions: tuple[str, ...], is_complete: bool) -> None:
    [last, *before] = versions
    told = Provenance(version=last, intermediates=tuple(Intermediate("q8_0", version=each) for each in before))
    assert told.is_complete is is_complete


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.base_model.0.repo_url", "https://example.org/a/b"),
        ("general.base_model.0.repo_url", "https://huggingface.co/a/b c\n- x"),
        ("mimo_convert.shards", "abc  model.safetensors\n"),
        ("mimo_convert.quantized_from", ""),
    ],
)
def test_what_is_not_in_its_form_is_as_if_it_were_not_there(
    small_tokenizer: Path, tmp_path: Path, key: str, value: str
) -> None:
    [file] = converted(small_tokenizer, tmp_path, "f16")
    without = rewrite(file, tmp_path / "without.gguf", keys=lambda k: None if k.name == key else k)
    strange = rewrite(without, tmp_path / "strange.gguf", add=[Key(key, value, GGUFValueType.STRING)])
    assert provenance_of(read_gguf(strange)) == provenance_of(read_gguf(without))


@pytest.mark.parametrize("name", ["two\nlines.safetensors", "two\u2028lines.safetensors", "\udcff.safetensors"])
def test_a_shard_may_be_called_anything(small_tokenizer: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(small_tokenizer, folder)
    [shard] = folder.glob("*.safetensors")
    shard.rename(folder / name)
    [file] = converted(folder, tmp_path / "out", "f16")
    text = f"{sha256(folder / name)}  {name.encode(errors='replace').decode()}\n"
    assert gguf_metadata(file)["mimo_convert.shards"] == text


def test_a_folder_of_the_hubs_cache_is_known_by_its_names(small_lm: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Some--Speech-LM" / "snapshots" / ("c0ffee" * 6 + "c0ff")
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(small_lm)
    [file] = converted(snapshot, tmp_path, "f16")
    found = provenance_of(read_gguf(file))
    assert (found.name, found.repo, found.revision) == ("Speech-LM", "Some/Speech-LM", "c0ffee" * 6 + "c0ff")


def test_a_folder_may_be_said_to_hold_a_model_of_the_hub(small_lm: Path, small_tokenizer: Path, tmp_path: Path) -> None:
    options = ["--base-model", "Some/Speech-LM@c0ffee", "--tokenizer-base-model", "Some/Tokenizer", "--no-check"]
    arguments = [str(small_lm), "--tokenizer", str(small_tokenizer), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(mimo_convert, arguments)
    assert result.exit_code == 0, result.output
    lm, tokenizer = (
        provenance_of(read_gguf(tmp_path / "out" / f"mimo-{name}-f16.gguf")) for name in ("asr", "tokenizer")
    )
    assert (lm.name, lm.repo, lm.revision) == ("Speech-LM", "Some/Speech-LM", "c0ffee")
    assert (tokenizer.name, tokenizer.repo, tokenizer.revision) == ("Tokenizer", "Some/Tokenizer", "")


@pytest.mark.parametrize("value", ["", "Speech-LM", "a/b/c", "a b/c", "https://huggingface.co/a/b", "a/b@"])
def test_a_base_model_is_an_id_of_the_hub(small_lm: Path, value: str) -> None:
    result = CliRunner().invoke(mimo_convert, [str(small_lm), "--base-model", value, "--dry-run"])
    assert result.exit_code == 2
    assert "expected OWNER/NAME or OWNER/NAME@REVISION" in result.output
