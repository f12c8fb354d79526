"""The commands of a card, run by a shell: its words are those that were meant, its files the same byte for byte."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mimo_commands.check import main as mimo_check
from mimo_convert.model.provenance import Intermediate
from mimo_convert.plan.mix import ChosenTypes
from mimo_publish.reproduction import Reproduction, make_reference, reproduction
from mimo_publish.shell import command, path
from runtime_check.report.json_report import report_of
from runtime_check.run.records import FileFacts
from tests import reports
from tests.mimo_convert.budget.made_up import written_calibration
from tests.opened import NO_SPEECH, TINY_ASR, TINY_TOKENIZER

LM, TOKENIZER = "mimo-asr-q4_k.gguf", "mimo-tokenizer-q4_k.gguf"
MIX = "mimo-asr-q4_k-mix.gguf"


def shell(lines: list[str], folder: Path) -> None:
    """Run commands as a reader would, with the programs of this environment."""
    programs = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)], cwd=folder, env=os.environ | programs, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)


@given(
    st.lists(st.one_of(WORDS, st.sampled_from(["--audio", "-f", "a b", "$HOME", "`id`", "'", "\\", "\n", "x" * 90])))
)
def test_a_shell_takes_every_word_as_it_is(words: list[str]) -> None:
    line = command("printf", "%s\\0", *words, "end")
    found = subprocess.check_output(["bash", "-c", line]).decode()
    assert found.split("\0")[:-1] == [*words, "end"]


def test_a_long_command_breaks_before_options_and_a_name_is_never_one() -> None:
    line = command("mimo-check", path("-rf.gguf"), "--tokenizer", "a" * 58, "--audio", "clip.wav")
    assert line == f"mimo-check ./-rf.gguf \\\n    --tokenizer {'a' * 58} --audio clip.wav"
    assert command("mimo-check", "a.gguf", "--static") == "mimo-check a.gguf --static"


# ── what files say of themselves ─────────────────────────────────────────────────────────────────────────────────


def lm(provenance: dict[str, Any] | None = None, **facts: Any) -> FileFacts:
    file = reports.file(LM, 1)
    told = replace(file.provenance, **{"repo": "O/LM", "revision": "c0"} | (provenance or {}))
    return replace(file, provenance=told, **facts)


def tokenizer(provenance: dict[str, Any] | None = None, **facts: Any) -> FileFacts:
    file = reports.file(TOKENIZER, 1)
    told = replace(file.provenance, **{"repo": "O/TOK", "revision": ""} | (provenance or {}))
    return replace(file, provenance=told, **facts)


def lines(found: Reproduction) -> list[str]:
    return [line.replace("\\\n    ", "") for recipe in found.recipes for line in recipe.commands]


def of(*lms: FileFacts, beside: FileFacts | None = None) -> list[str]:
    """Commands for speech LMs under their usual names, and an audio tokenizer."""
    beside = beside or tokenizer()
    named = [(f"mimo-asr-{facts.outtype}.gguf", facts, TOKENIZER) for facts in lms]
    return lines(reproduction(named, {TOKENIZER: beside}))


def test_types_that_share_all_else_are_made_by_one_command() -> None:
    assert of(lm(), lm(outtype="q8_0"), lm(outtype="f16", quantizer="")) == [
        "mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --outtype q8_0 --outtype f16 --fuse-qkv --out . "
        "--no-check"
    ]
    assert of(lm(outtype="q8_0")) == [
        "mimo-convert O/LM@c0 --tokenizer O/TOK --tokenizer-outtype q4_k --outtype q8_0 --fuse-qkv --out . --no-check"
    ]


def test_every_option_that_a_file_tells_of_is_given() -> None:
    made: dict[str, Any] = {"recipe": ("lm_head|embed=q6_k", "it's=f16"), "quantizer": "ggml"}
    [line] = of(lm(layout="separate", without=tuple(NO_SPEECH), **made), beside=tokenizer(**made))
    assert line == (
        "mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --asr-only --tensor-type 'lm_head|embed=q6_k' "
        """--tensor-type 'it'"'"'s=f16' --quantizer ggml --out . --no-check"""
    )


@pytest.mark.parametrize(
    ("stem", "of_lm", "of_tokenizer", "options"),
    [
        ("mimo-asr", (), ("decoder",), ""),
        ("mimo-asr", (), (), "--with decoder "),
        ("mimo-asr", ("speech_generation",), ("decoder",), "--without speech-generation "),
        ("mimo-audio-instruct", (), (), ""),
        ("mimo-audio-instruct", (), ("decoder",), "--without decoder "),
        ("mimo-audio-base", ("speech_generation",), (), "--without speech-generation "),
    ],
)
def test_a_part_is_named_where_the_models_files_have_it_otherwise(
    stem: str, of_lm: tuple[str, ...], of_tokenizer: tuple[str, ...], options: str
) -> None:
    told = {"version": "0.8.0"}
    speech_lm = lm(told, stem=stem, without=of_lm)
    name = f"{stem}-q4_k.gguf"
    found = reproduction(
        [(name, speech_lm, TOKENIZER)], {TOKENIZER: tokenizer(told, without=of_tokenizer, outtype="q8_0")}
    )
    [line, *_] = lines(found)
    assert line == (f"mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --fuse-qkv {options}--out . --no-check")


def test_a_named_recipe_is_named_with_the_rules_beside_it_alone() -> None:
    facts = lm(recipe_name="q4_k_m", recipe=("lm_head=f16", "^llm=q6_k"), own_rules=("lm_head=f16",))
    assert of(facts)[0] == (
        "mimo-convert O/LM@c0 --tokenizer O/TOK --recipe q4_k_m --fuse-qkv --tensor-type lm_head=f16 --out . --no-check"
    )
    named = [("mimo-asr-q4_k_m.gguf", lm(recipe_name="q4_k_m", recipe=("^llm=q6_k",)), TOKENIZER)]
    [line] = lines(reproduction(named, {TOKENIZER: tokenizer()}))
    assert "--recipe q4_k_m --fuse-qkv --out . --no-check" in line, "one command, and nothing is renamed"


def test_a_file_of_a_size_is_asked_for_by_its_size() -> None:
    chosen = ChosenTypes("4.5bpw", 0.02, floors=("embed=q6_k",))
    rules = ("lm_head=f16", r"^model\.layers\.\d+\.attn\.v\.weight$=q6_k")
    told = {"imatrix": "a" * 64, "imatrix_file": "calibration.gguf"}
    made: dict[str, Any] = {"recipe": rules, "own_rules": rules[:1], "quantizer": "simd + imatrix"}
    assert of(lm(told, chosen=chosen, variant="4.5bpw", **made))[1] == (
        "mimo-convert O/LM@c0 --tokenizer O/TOK --target-bpw 4.5 --floor embed=q6_k --fuse-qkv "
        "--tensor-type lm_head=f16 --calibration calibration.gguf --name 4.5bpw --out . --no-check"
    )


@pytest.mark.parametrize(
    ("quantizer", "is_asked_for"),
    [("ggml", True), ("ggml-contracted", True), ("ggml + unknown", True), ("ggml + simd", False), ("", False)],
)
def test_ggml_is_asked_for_where_it_made_all_that_is_known(quantizer: str, is_asked_for: bool) -> None:
    made = {"quantizer": quantizer}
    [line] = of(lm(**made), beside=tokenizer(**made))
    assert ("--quantizer ggml " in line) is is_asked_for


def test_files_between_are_made_first_as_they_were() -> None:
    f16 = Intermediate("f16", {"model.layers.0.attn.q.weight": "q6_k"}, "ggml", "0.6.0")
    told = {"intermediates": (f16, Intermediate("q8_0", quantizer="simd", version="0.6.0"))}
    assert of(lm(told, recipe=("embed=q6_k",)))[:3] == [
        r"mimo-convert O/LM@c0 --tokenizer O/TOK --tokenizer-outtype q4_k --outtype f16 "
        r"--tensor-type '^model\.layers\.0\.attn\.q\.weight$=q6_k' --quantizer ggml --out between --no-check --force",
        "mimo-quantize between/mimo-asr-f16.gguf between/mimo-asr-2-q8_0.gguf --outtype q8_0 --allow-requantize",
        f"mimo-quantize between/mimo-asr-2-q8_0.gguf {LM} --outtype q4_k --fuse-qkv --tensor-type embed=q6_k",
    ]
    old = of(lm({"intermediates": (Intermediate("q8_0"),)}))  # in reports of earlier versions
    assert old[1] == f"mimo-quantize between/mimo-asr-q8_0.gguf {LM} --outtype q4_k --fuse-qkv"


def test_what_was_made_otherwise_has_a_command_of_its_own() -> None:
    assert of(lm(), lm(outtype="q8_0", layout="separate")) == [
        "mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --fuse-qkv --out . --no-check",
        "mimo-convert O/LM@c0 --tokenizer O/TOK --tokenizer-outtype q4_k --outtype q8_0 --out . --no-check --force",
    ]
    assert of(lm(recipe=("embed=q6_k",))) == [
        "mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --fuse-qkv --tensor-type embed=q6_k --out . --no-check",
        "mimo-convert O/TOK --outtype q4_k --out . --no-check --force",
    ]


def test_an_adapter_is_downloaded_from_where_it_is() -> None:
    hashes = {"adapter_config.json": "0" * 64, "adapter_model.safetensors": "1" * 64}
    told = {"adapter": hashes, "adapter_name": "my lora", "adapter_model": "O/LORA@v1"}
    assert of(lm(told), lm(told, outtype="q8_0", layout="separate"))[:2] == [
        "hf download O/LORA adapter_config.json adapter_model.safetensors --revision v1 --local-dir 'my lora'",
        "mimo-convert O/LM@c0 --tokenizer O/TOK --adapter 'my lora' --adapter-model O/LORA@v1 --outtype q4_k "
        "--fuse-qkv --out . --no-check",
    ]
    assert sum("hf download" in line for line in of(lm(told), lm(told, outtype="q8_0", layout="separate"))) == 1
    [pinned] = reproduction([(LM, lm(told), "")], {}).recipes
    [loose] = reproduction([(LM, lm(told | {"adapter_model": "O/LORA"}), "")], {}).recipes
    assert (pinned.pinned, loose.pinned) == (True, False)
    of_repository = {"adapter": {f"merged/{name}": sha256 for name, sha256 in hashes.items()}, "adapter_name": "merged"}
    assert of(lm(of_repository)) == of(lm()), "one that lies beside its base comes with it"


def test_an_adapter_that_was_left_out_is_left_out_again() -> None:
    omitted = {"adapter_omitted": "merged"}
    assert of(lm(omitted))[0].startswith("mimo-convert O/LM@c0 --tokenizer O/TOK --adapter none --outtype q4_k")
    told = lm(omitted).provenance
    assert make_reference("O/LM@c0", "", "ref.safetensors", told) == [
        "mimo-check reference O/LM@c0 --adapter none -o ref.safetensors"
    ]


def test_a_reference_is_made_with_the_adapter_of_the_file() -> None:
    told = lm({"adapter": {"a.json": "0" * 64}, "adapter_name": "lora", "adapter_model": "O/LORA"}).provenance
    assert make_reference("O/LM", "", "ref.safetensors", told) == [
        "hf download O/LORA a.json --local-dir lora",
        "mimo-check reference O/LM --adapter lora -o ref.safetensors",
    ]


@pytest.mark.parametrize("told", [{}, {"adapter_model": "O/LORA", "adapter_name": "../x"}, {"adapter_name": "lora"}])
def test_an_adapter_of_unknown_origin_is_a_gap(told: dict[str, Any]) -> None:
    found = reproduction([(LM, lm({"adapter": {"adapter_config.json": "0" * 64}} | told), "")], {})
    assert found.gaps == [(LM, "where its adapter is from")]


def test_a_file_is_renamed_from_the_stem_of_its_model() -> None:
    facts = lm(stem="lm-1.7b-lora")
    assert of(facts)[1:] == [f"mv lm-1.7b-lora-q4_k.gguf {LM}"]
    assert not reproduction([("lm-1.7b-lora-q4_k.gguf", facts, "")], {}).recipes[0].commands[1:]


def test_versions_are_kept_apart() -> None:
    found = reproduction([(LM, lm({"version": "0.4.0"}), TOKENIZER)], {TOKENIZER: tokenizer()})
    assert [(recipe.version, recipe.files) for recipe in found.recipes] == [("0.4.0", [LM]), ("0.5.0", [TOKENIZER])]
    assert [recipe.lines[0] for recipe in found.recipes] == [
        "pip install /path/to/mimo-convert  # a checkout of mimo-convert 0.4.0",
        "pip install /path/to/mimo-convert  # a checkout of mimo-convert 0.5.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "gap"),
    [
        (lm({"repo": ""}), "which checkpoint it was made from"),
        (lm({"repo": "", "revision": "", "shards": {}, "version": ""}), "which checkpoint"),
        (lm(architecture="other"), "which model it is of"),
        (lm(outtype=""), "which type it was converted to"),
    ],
)
def test_a_file_that_does_not_say_enough_is_a_gap_and_not_a_guess(facts: FileFacts, gap: str) -> None:
    found = reproduction([(LM, facts, TOKENIZER)], {TOKENIZER: tokenizer()})
    assert [name for name, _ in found.gaps] == [LM]
    assert found.gaps[0][1].startswith(gap)
    assert lines(found) == ["mimo-convert O/TOK --outtype q4_k --out . --no-check"]


# ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def facts_of(folder: Path, name: str, beside: str) -> tuple[FileFacts, FileFacts]:
    """What a report says of two files, with the folders that they are made of for ids on the Hub."""
    out = folder / "report.json"
    files = [str(folder / name), "--tokenizer", str(folder / beside)]
    assert CliRunner().invoke(mimo_check, [*files, "--max-new-tokens", "1", "--json", str(out)]).exit_code == 0
    [check] = report_of(json.loads(out.read_text()), out, {}).checks
    first, second = (
        replace(file, provenance=replace(file.provenance, repo=str(source)))
        for file, source in zip(check.files, (TINY_ASR, TINY_TOKENIZER), strict=True)
    )
    return first, second


TINY = command("mimo-convert", str(TINY_ASR), "--tokenizer", str(TINY_TOKENIZER), "--out", ".", "--no-check")


@pytest.mark.parametrize(
    ("made_by", "names"),
    [
        ([f"{TINY} --fuse-qkv --outtype q4_k --outtype q8_0"], [LM, "mimo-asr-q8_0.gguf"]),
        ([f"{TINY} --outtype q4_k --asr-only --tensor-type lm_head=q6_k --quantizer ggml"], [MIX]),
        (
            [f"{TINY} --outtype q4_k --outtype q6_k --outtype f16 --tensor-type lm_head=q8_0 --name heads"],
            ["mimo-asr-q4_k-heads.gguf", "mimo-asr-q6_k-heads.gguf"],
        ),
        ([f"{TINY} --outtype q4_k", f"mv {LM} 'my own.gguf'"], ["my own.gguf"]),
        ([f"{TINY} --recipe q4_k_m"], ["mimo-asr-q4_k_m.gguf"]),
        (
            [f"{TINY} --target-size 2.5MB --calibration calibration.gguf --tensor-type codebook_head.0=f16 "
             "--floor lm_head=q6_k"],
            ["mimo-asr-q8_0-2.5MB.gguf"],
        ),
        (
            [f"{TINY} --outtype f16 --tokenizer-outtype q8_0",
             "mimo-quantize mimo-asr-f16.gguf 'my own.gguf' --recipe q5_k_m --tensor-type lm_head=q8_0"],
            ["my own.gguf"],
        ),
        (
            [f"{TINY} --outtype f16 --tokenizer-outtype q4_k", "mimo-quantize mimo-asr-f16.gguf q5.gguf --outtype q5_k",
             f"mimo-quantize q5.gguf {LM} --outtype q4_k --fuse-qkv --allow-requantize"],
            [LM],
        ),
        (
            [f"{TINY} --outtype f16 --fuse-qkv --tensor-type 'layers.0.attn.qkv=q8_0' --tensor-type lm_head=q6_k "
             "--tokenizer-outtype q4_k --quantizer ggml",
             f"mimo-quantize mimo-asr-f16-mix.gguf {LM} --outtype q4_k --allow-requantize"],
            [LM],
        ),
    ],
)  # fmt: skip
def test_the_commands_make_the_same_files_again(tmp_path: Path, made_by: list[str], names: list[str]) -> None:
    ours, again = tmp_path / "ours", tmp_path / "again"
    for folder in (ours, again):
        folder.mkdir()
        if "--calibration" in made_by[0]:
            written_calibration("tiny", folder / "calibration.gguf")
    shell(made_by, ours)
    beside = sorted(file.name for file in ours.glob("mimo-tokenizer-*.gguf"))[-1]
    facts = [facts_of(ours, name, beside) for name in names]
    named = [(name, of_lm, beside) for name, (of_lm, _) in zip(names, facts, strict=True)]
    found = reproduction(named, {beside: facts[0][1]})
    assert not found.gaps
    shell([line for recipe in found.recipes for line in recipe.commands], again)
    for name in (*names, beside):
        assert (again / name).read_bytes() == (ours / name).read_bytes(), name


def test_the_importance_matrix_is_named_and_its_hash_checked() -> None:
    told = {"imatrix": "a" * 64, "imatrix_file": "my imatrix.gguf"}
    made = lm(told, quantizer="simd + imatrix")
    found = reproduction([(LM, made, TOKENIZER)], {TOKENIZER: tokenizer()})
    assert lines(found) == [
        f"echo '{'a' * 64}  my imatrix.gguf' | sha256sum --check",
        "mimo-convert O/LM@c0 --tokenizer O/TOK --outtype q4_k --fuse-qkv --imatrix 'my imatrix.gguf' --out . "
        "--no-check",
    ]
    assert [recipe.imatrices for recipe in found.recipes] == [["my imatrix.gguf"]]
    fed_back = lm(told | {"feedback": "x=feedback-0.1\n"}, quantizer="simd + imatrix + feedback")
    assert "--imatrix 'my imatrix.gguf' --feedback --out" in of(fed_back)[1]
    odd = lm(told | {"imatrix_file": "it's\n"}, quantizer="simd + imatrix")
    assert "--imatrix imatrix.gguf" in of(odd)[1]


@pytest.mark.parametrize(
    ("told", "gap"),
    [
        ({}, "with which importance matrix it was quantized"),
        (
            {"intermediates": (Intermediate("q8_0", quantizer="simd + imatrix"),)},
            "with which importance matrix the file was quantized that it was made from",
        ),
    ],
)
def test_a_file_whose_importance_matrix_is_not_known_has_a_gap(told: dict[str, Any], gap: str) -> None:
    found = reproduction([(LM, lm(told, quantizer="simd + imatrix"), "")], {})
    assert found.gaps == [(LM, gap)]
