"""What mimo-quantize keeps and writes of metadata, and its dry run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf import GGUFValueType as V

from tests.gguf_edit import Key, add_empty_arrays, array_by_ggml, rewrite
from tests.mimo_commands.invoked import names
from tests.readers import ggml_tensors, gguf_metadata

from .quantized import QUANTIZER, Files, done, quantize, same_by_way_of, way_of


def test_a_dry_run_writes_nothing_and_lists_what_a_run_then_writes(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.gguf"
    arguments = [lm(False, "f32"), out, "--outtype", "q5_k", "--fuse-qkv", "--asr-only", "--tensor-type", "up=q8_0"]
    plan = quantize(*arguments, "--dry-run", "--verbose")
    assert plan.exit_code == 0
    assert names(tmp_path) == []

    done(*arguments)
    totals, block = plan.stdout.split("\n\n")
    total, described = totals.splitlines()
    name, *rows = block.splitlines()
    assert name == "x.gguf"
    assert described.startswith("x.gguf: ")
    listed = {line.split()[0]: tuple(line.split()[1:4]) for line in rows}
    stored = ggml_tensors(out)
    assert listed == {n: (t.type, "×".join(map(str, t.shape)), f"{len(t.data):,}") for n, t in stored.items()}
    assert f"; {out.stat().st_size:,} bytes; " in described
    assert total.startswith(f"{out.stat().st_size:,} bytes to write to {out.parent}; ")


def test_a_dry_run_leaves_a_file_that_is_there_alone(lm: Files, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"precious")
    result = quantize(lm(False, "f16"), tmp_path / "x.gguf", "--outtype", "q8_0", "--dry-run", "--force")
    assert result.exit_code == 0
    assert (tmp_path / "x.gguf").read_bytes() == b"precious"
    assert names(tmp_path) == ["x.gguf"]


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
    assert {name: t.data for name, t in ggml_tensors(made).items()} == {
        name: t.data for name, t in ggml_tensors(tokenizer("q8_0")).items()
    }


def test_a_file_that_does_not_declare_its_type_gets_that_of_outtype_alone(lm: Files, tmp_path: Path) -> None:
    source = rewrite(
        lm(False, "q4_k"), tmp_path / "in.gguf", keys=lambda key: key if key.name != "general.file_type" else None
    )
    assert "general.file_type" not in gguf_metadata(done(source, tmp_path / "x.gguf", "--fuse-qkv"))
    made = done(source, tmp_path / "y.gguf", "--outtype", "q4_k")
    assert gguf_metadata(made)["general.file_type"] == 14
    assert {n: t.data for n, t in ggml_tensors(made).items()} == {n: t.data for n, t in ggml_tensors(source).items()}


@pytest.mark.parametrize(("value", "type"), [("MOSTLY_F16", V.STRING), (1, V.UINT64), (1, V.INT8), ([1], V.ARRAY)])
def test_a_type_that_is_declared_in_another_way_is_declared_in_ggmls_after(
    lm: Files, tmp_path: Path, value: Any, type: V
) -> None:
    strange = Key("general.file_type", value, type, V.UINT32 if type == V.ARRAY else None)
    source = rewrite(
        lm(False, "f16"), tmp_path / "in.gguf", keys=lambda key: strange if key.name == strange.name else key
    )
    assert same_by_way_of("f16", done(source, tmp_path / "x.gguf", "--outtype", "q6_k"), lm(False, "q6_k"))
