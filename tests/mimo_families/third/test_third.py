"""A third family, registered by its own package, goes through every command of an installed wheel."""

import ast
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from mimo_convert.formats.config import Config
from mimo_families.sources import bundled_names
from tests import murmur as example
from tests.murmur.layout import FAMILY, dimensions
from tests.murmur.stages import STAGES

from .checkpoint import CONFIG, SAID
from .conftest import TYPES
from .installed import ROOT, Environment, json_of

Arguments = Callable[[Path, Path], list[object]]  # of the checkpoint and the files
STAGE_NAMES = ("ear_frames", "tokens", "ear_out", "mix", "stone_00", "stone_01", "final", "scores")
LARGEST_ERROR = {
    "f32": 1e-7,
    "f16": 3e-4,
    "bf16": 3e-3,
    "q8_0": 0.01,
    "q6_k": 0.03,
    "q3_k": 0.2,
    "q2_k": 0.4,
}  # relative
VALIDATED = ("f16", "q8_0", "q4_k")


@pytest.mark.parametrize("layout", ["separate", "fused"])
def test_every_layout_and_type_holds_the_checkpoint(files: Path, checkpoint: Path, layout: str) -> None:
    source = load_file(checkpoint / "model.safetensors")
    for outtype in TYPES:
        reader = gguf.GGUFReader(files / layout / f"murmur-{outtype}.gguf")
        assert reader.get_field("general.architecture").contents() == "murmur"
        names = [tensor.name for tensor in reader.tensors]
        expected = FAMILY.tensors(dimensions(Config(checkpoint, CONFIG)), FAMILY.layout(layout == "fused"))
        for tensor, found in zip(expected, reader.tensors, strict=True):
            rows = np.concatenate([source[part.name] for part in tensor.sources])
            values = gguf.dequantize(found.data, found.tensor_type).reshape(rows.shape)
            relative_error = np.linalg.norm(values - rows) / max(np.linalg.norm(rows), 1e-9)
            assert found.name == tensor.name
            assert relative_error < (LARGEST_ERROR.get(outtype, 0.1) if rows.ndim > 1 else 1e-7), (outtype, found.name)
        assert ("blk.0.attn.qkv.weight" in names) == (layout == "fused")
        assert not any(name.startswith("output") for name in names)  # the head is the embedding


def test_a_named_recipe_speaks_of_its_uses(murmur: Environment, checkpoint: Path) -> None:
    assert murmur.run("convert", checkpoint, "--recipe", "q4_k_m", "--no-check", "--out", murmur.folder).status == 0
    file = murmur.folder / "murmur-q4_k_m.gguf"
    assert murmur.run("check", file, "--static").status == 0
    found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    ruled = {name: one for name, one in found.items() if one not in ("F32", "Q4_K")}
    sensitive = {f"blk.1.{name}.weight": "Q6_K" for name in ("attn.v", "ffn.down")}  # of two layers the last
    assert ruled == {"embed.weight": "Q6_K", "ear.weight": "Q8_0", **sensitive}


@pytest.mark.parametrize("layout", ["separate", "fused"])
def test_lint_passes_and_names_a_broken_key(murmur: Environment, files: Path, layout: str) -> None:
    file = files / layout / "murmur-q4_k.gguf"
    assert murmur.run("check", file, "--static").status == 0
    whole = file.read_bytes()
    broken = murmur.folder / file.name
    broken.write_bytes(whole.replace(b"murmur.n_bands", b"murmur.n_bandz", 1))
    ended = murmur.run("check", broken, "--static")
    assert (ended.status, "key murmur.n_bands is missing" in ended.stdout) == (1, True), ended


def test_rows_are_compared_with_the_checkpoint(murmur: Environment, files: Path, checkpoint: Path) -> None:
    for layout in ("separate", "fused"):
        ended = murmur.run("check", files / layout / "murmur-q4_k.gguf", "--checkpoint", checkpoint)
        assert ended.status == 0, ended
        assert "compared by bytes" in ended.stdout


def test_a_file_is_compared_with_another(murmur: Environment, files: Path) -> None:
    ended = murmur.run("check", files / "fused/murmur-q4_k.gguf", "--against", files / "separate/murmur-f16.gguf")
    assert ended.status == 0, ended


def test_two_sounds_are_answered_differently(murmur: Environment, files: Path, checkpoint: Path) -> None:
    for sound, said in SAID.items():
        audio, report = checkpoint / f"{sound}.wav", murmur.folder / f"{sound}.json"
        ended = murmur.run(
            "check", files / "fused/murmur-q4_k.gguf", "--audio", audio, "--text", said, "--json", report
        )
        assert ended.status == 0, ended
        [check] = json_of(report)["checks"]
        assert check["transcript"] == said


@pytest.fixture(scope="module")
def validated(installed: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Environment, str]:
    """A folder with files that were converted and validated on the hum, with every form of the report."""
    folder = tmp_path_factory.mktemp("validated")
    environment = Environment(installed / "with/bin/python", folder)
    types = [word for name in VALIDATED for word in ("--outtype", name)]
    reports = ["--json", "report.json", "--junit", "junit.xml", "--html", "page.html"]
    arguments = [checkpoint, *types, "--out", "files", "--audio", checkpoint / "hum.wav", "--base-model", "me/murmur"]
    ended = environment.run("convert", *arguments, *reports)
    assert ended.status == 0, ended
    return environment, ended.stdout


def test_every_stage_agrees_with_pytorch(validated: tuple[Environment, str]) -> None:
    environment, table = validated
    report = json_of(environment.folder / "report.json")
    assert report["schema"] == "mimo-check report 2"
    assert len(report["checks"]) == len(VALIDATED)
    for check in report["checks"]:
        assert [stage["name"] for stage in check["stages"]] == [x for x in STAGE_NAMES if x != "tokens"]
        assert check["transcript"] == SAID["hum"]
        assert all(gate["passed"] for gate in check["gates"])
        assert {gate["stage"] for gate in check["gates"]} >= set(STAGE_NAMES)
    for name in STAGE_NAMES:
        assert re.search(rf"^{name} .* ok$", table, re.M), table


def test_reports_show_the_stages(validated: tuple[Environment, str]) -> None:
    folder = validated[0].folder
    junit = ET.parse(folder / "junit.xml").getroot()
    names = {case.get("name", "") for case in junit.iter("testcase")}
    page = (folder / "page.html").read_text(encoding="utf-8")
    for stage in STAGE_NAMES:
        assert any(stage in name for name in names)
        assert stage in page
    assert not list(junit.iter("failure"))


def test_a_card_is_written(validated: tuple[Environment, str]) -> None:
    environment, _ = validated
    options = ["--report", "report.json", "--dry-run", "--verbose"]
    ended = environment.run("publish", "files", "--to", "me/murmur-gguf", *options)
    assert ended.status == 0, ended
    card = ended.stdout
    assert "base_model" in card
    assert all(f"murmur-{name}.gguf" in card for name in VALIDATED)


def test_a_nightly_run_passes_and_finds_a_damaged_file(murmur: Environment, files: Path, checkpoint: Path) -> None:
    file = murmur.folder / "murmur.gguf"
    file.write_bytes((files / "fused/murmur-q8_0.gguf").read_bytes())
    config = murmur.folder / "nightly.toml"
    audio = checkpoint / "hiss.wav"
    config.write_text(f"[[target]]\nname = 'murmur'\nfile = '{file}'\ncheckpoint = '{checkpoint}'\naudio = '{audio}'\n")
    assert murmur.run("check", "nightly", config).status == 0
    data = bytearray(file.read_bytes())
    tensor = next(x for x in gguf.GGUFReader(file).tensors if x.name == "blk.1.ffn.down.weight")
    data[tensor.data_offset : tensor.data_offset + tensor.n_bytes // 2] = bytes(int(tensor.n_bytes) // 2)
    file.write_bytes(data)
    ended = murmur.run("check", "nightly", config)
    assert ended.status == 1, ended
    assert "stone_01" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        lambda checkpoint, files: ["convert", checkpoint, "--outtype", "q4_k"],
        lambda checkpoint, files: ["quantize", files / "fused/murmur-f16.gguf", "x.gguf", "--outtype", "q4_k"],
        lambda checkpoint, files: ["check", files / "fused/murmur-q4_k.gguf", "--static"],
        lambda checkpoint, files: ["check", files / "fused/murmur-q4_k.gguf", "--audio", checkpoint / "hum.wav"],
        lambda checkpoint, files: ["publish", files / "fused", "--to", "me/x", "--dry-run"],
    ],
    ids=["convert", "quantize", "lint", "run", "publish"],
)
def test_without_its_registry_line_nothing_knows_it(
    nothing: Environment, checkpoint: Path, files: Path, arguments: Arguments
) -> None:
    command, *rest = arguments(checkpoint, files)
    ended = nothing.run(str(command), *rest)
    assert ended.status == (1 if "--static" in rest else 2), ended  # the lint fails: the architecture is a finding
    [line] = (ended.stdout if "--static" in rest else ended.stderr).splitlines()[-1:]
    assert re.search("murmur.*expected", line, re.I)


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_models_come_with_the_package(nothing: Environment, name: str) -> None:
    ended = nothing.run("convert", name, "--dry-run", "--no-check")
    assert ended.status == 0, ended.stderr
    assert "weights" in ended.stdout


def test_what_the_family_imports_is_documented() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (`.*`) \|$", (ROOT / "docs/families.md").read_text(), re.M)
    documented = {(module, name) for module, names in rows for name in re.findall(r"`(\w+)`", names)}
    for file in Path(str(example.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not [x.name for x in node.names if x.name.split(".")[0] in ("mimo_convert", "runtime_check")]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                module = str(node.module)
                if module.split(".")[0].startswith(("mimo_", "runtime_check", "quantize")):
                    assert not {(module, x.name) for x in node.names} - documented, file


def test_stages_of_the_example_are_those_of_its_run() -> None:
    assert [stage.name for stage in STAGES if not stage.numbered] == [x for x in STAGE_NAMES if x[:6] != "stone_"]
