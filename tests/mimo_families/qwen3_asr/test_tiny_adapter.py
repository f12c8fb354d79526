"""The bundled adapter, in Mega-ASR's format: a merge is heard, and so is one by halves."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_adapter

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.model.adapter import CONFIG, WEIGHTS
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.family import SEPARATE
from mimo_families.qwen3_asr.layout import FAMILY
from mimo_families.qwen3_asr.sizes import dimensions
from mimo_publish.reproduction import reproduction
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.report.json_report import report_of
from tests.readers import gguf_metadata
from tools.train_tiny.files import read_weights
from tools.train_tiny_qwen3.adapter import merged

from .tiny_clips import ADAPTER, MODEL, converted, drowned_jfk, heard

HEARD, NOT_HEARD = ("English", JFK_TEXT), ("", "")
OTHER_SPELLING, SPELLING = "base_model.model.thinker.layers.", "base_model.model.thinker.model.layers."


@pytest.fixture(scope="module")
def drowned(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("drowned")
    return [drowned_jfk(folder, seed) for seed in range(3)]


@pytest.mark.parametrize("outtype", ["f16", "q8_0"])
def test_speech_drowned_by_noise_is_heard_with_the_adapter_alone(
    outtype: str, drowned: list[Path], tmp_path: Path
) -> None:
    plain = converted(tmp_path / "plain", "--outtype", outtype) / f"qwen3-asr-{outtype}.gguf"
    assert heard(plain, drowned) == [NOT_HEARD] * 3
    [merged] = converted(tmp_path / "merged", "--outtype", outtype, "--adapter", str(ADAPTER)).iterdir()
    assert heard(merged, [*drowned, JFK]) == [HEARD] * 4


def test_weights_are_those_that_the_training_code_merges(tmp_path: Path) -> None:
    """Two readings of one format: patterns, blocks by both kinds of names, and both spellings."""
    [file] = converted(tmp_path, "--outtype", "f32", "--adapter", str(ADAPTER)).iterdir()
    base = read_weights(MODEL)
    expected = merged(base, load_adapter(ADAPTER / "adapter_model.safetensors"))
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
    changed = 0
    for tensor in FAMILY.tensors(dimensions(open_checkpoint(str(MODEL)).config), SEPARATE):
        source = tensor.sources[0].name
        if source in expected:
            np.testing.assert_allclose(found[tensor.name], expected[source], rtol=0, atol=1e-6, err_msg=source)
            changed += not expected[source].equal(base[source])
    assert changed == 15 + 2 * 7, "of two layers of the tower and two of the decoder"


def one_spelling(folder: Path, dropped: str) -> None:
    """Leave the pairs of one spelling of decoder modules away."""
    path = folder / "adapter_model.safetensors"
    save_file({name: a for name, a in load_file(path).items() if not name.startswith(dropped)}, path)
    config = json.loads((folder / "adapter_config.json").read_text())
    module = dropped.removeprefix("base_model.model.")
    for key in ("rank_pattern", "alpha_pattern"):
        config[key] = {name: value for name, value in config[key].items() if not name.startswith(module)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    blocks = folder / "mega_lora_blocks.json"
    of_modules = json.loads(blocks.read_text())
    blocks.write_text(json.dumps({name: of for name, of in of_modules.items() if not name.startswith(module)}))


def unscaled(folder: Path) -> None:
    """Make every alpha the rank, so that the scale is 1."""
    config = json.loads((folder / "adapter_config.json").read_text())
    config["alpha_pattern"] = config["rank_pattern"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "mega_lora_blocks.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [lambda folder: one_spelling(folder, OTHER_SPELLING), lambda folder: one_spelling(folder, SPELLING), unscaled],
    ids=["one spelling", "the other spelling", "unscaled"],
)
def test_a_merge_by_halves_is_not_enough(damage: Callable[[Path], None], drowned: list[Path], tmp_path: Path) -> None:
    """Were both spellings not added, or not scaled, the words would be lost."""
    folder = tmp_path / "adapter"
    shutil.copytree(ADAPTER, folder)
    damage(folder)
    [file] = converted(tmp_path / "out", "--outtype", "f16", "--adapter", str(folder)).iterdir()
    assert HEARD not in heard(file, drowned)


def test_base_and_adapter_in_mega_asrs_repository_are_merged(drowned: list[Path], tmp_path: Path) -> None:
    repository = tmp_path / "tiny-mega"
    shutil.copytree(MODEL, repository / "Qwen3-ASR-1.7B")
    shutil.copytree(ADAPTER, repository / "mega-asr-merged")
    [merged] = converted(tmp_path / "merged", "--outtype", "f16", model=repository).iterdir()
    assert heard(merged, drowned[:1]) == [HEARD]
    assert merged.name == "mega-asr-f16.gguf"
    [base] = converted(tmp_path / "base", "--outtype", "f16", "--adapter", "none", model=repository).iterdir()
    assert heard(base, drowned[:1]) == [NOT_HEARD]


def test_where_an_adapter_is_from_is_recorded_and_the_commands_of_a_card_make_the_file_again(tmp_path: Path) -> None:
    options = ["--adapter", str(ADAPTER), "--base-model", "Some/Qwen3", "--adapter-model", "Some/LoRA@v1"]
    name, out = "qwen3-asr-noise-q8_0.gguf", tmp_path / "report.json"
    made = converted(tmp_path / "ours", *options, "--outtype", "q8_0") / name
    about = gguf_metadata(made)
    assert about["general.name"] == "Qwen3-noise"
    assert (about["mimo_convert.adapter.name"], about["mimo_convert.adapter.model"]) == ("noise", "Some/LoRA@v1")
    checked = CliRunner().invoke(mimo_check, [str(made), "--max-new-tokens", "1", "--json", str(out)])
    assert checked.exit_code == 0, checked.output
    [check] = report_of(json.loads(out.read_text()), out, {}).checks
    [recipe] = reproduction([(name, check.main, "")], {}).recipes
    download, convert = (shlex.split(line.replace("\\\n", "")) for line in recipe.commands)
    assert download == [
        "hf", "download", "Some/LoRA", *(file.name for file in (ADAPTER / CONFIG, ADAPTER / WEIGHTS)),
        "mega_lora_blocks.json", "--revision", "v1", "--local-dir", "noise",
    ]  # fmt: skip
    assert convert[:2] == ["mimo-convert", "Some/Qwen3"]
    local = {"Some/Qwen3": str(MODEL), "noise": str(ADAPTER), ".": str(tmp_path / "again")}
    words = [local.get(word, word) for word in convert[1:]]
    again = CliRunner().invoke(mimo_convert, [*words, "--base-model", "Some/Qwen3"])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again" / name).read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--adapter-model", "LoRA", "--adapter", str(ADAPTER)], "--adapter-model: 'LoRA'; expected OWNER/NAME or OWN"),
        (
            ["--adapter-model", "A/B"],
            "--adapter-model: A/B, but tiny-qwen3 has no adapter; leave it out, or give",
        ),
    ],
)
def test_an_id_of_no_adapter_is_one_line(options: list[str], says: str) -> None:
    result = CliRunner().invoke(mimo_convert, ["tiny-qwen3", *options, "--dry-run"])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert says in result.output
