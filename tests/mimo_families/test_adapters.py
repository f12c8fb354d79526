"""Commands with adapters: a repository of a base and its adapter, --adapter, and files that are told apart."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from mimo_commands.check import main as check_main
from tests.mimo_commands.invoked import check_one_line, invoke, names
from tests.mimo_families.qwen3_asr.files import contract
from tests.qwen3_checkpoint import AUDIO, TEXT, Block, write_adapter, write_mega_asr
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors
from tests.system.once import once

Q4, F32 = "mega-asr-q4_k.gguf", "mega-asr-f32.gguf"
BLOCKED = "thinker.layers.1.mlp.up_proj"
RANKS = {"thinker.audio_tower.proj1": 7, "thinker.model.layers.0.self_attn.q_proj": 9, BLOCKED: 6}
ALPHAS = {"thinker.layers.0.self_attn.q_proj": 3.0}


def check(*arguments: Any) -> Result:
    return CliRunner().invoke(check_main, [*map(str, arguments)])


@pytest.fixture(scope="session")
def mega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository like Mega-ASR's, with patterns and blocks; beside it `files/`, which were made of it."""

    def make(folder: Path) -> None:
        blocks = {BLOCKED: [Block(0, 2, alpha=8.0), Block(2, 6, rank=2, alpha=1.0)]}
        write_mega_asr(folder / "Mega-ASR", ranks=RANKS, alphas=ALPHAS, blocks=blocks)
        types = [word for name in ("f32", "f16", "q4_k") for word in ("--outtype", name)]
        assert invoke(folder / "Mega-ASR", *types, "--out", folder / "files").exit_code == 0

    return once(tmp_path_factory, "mega-asr", make) / "Mega-ASR"


def test_a_repository_of_both_is_the_base_with_every_pair_added(mega: Path) -> None:
    found = gguf_tensors(mega.parent / "files" / F32)
    base = checkpoint_tensors(mega / "Qwen3-ASR-1.7B")
    pairs = load_file(mega / "mega-asr-merged" / "adapter_model.safetensors")
    deltas: dict[str, np.ndarray] = {}
    for name, a in pairs.items():
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        if ".lora_B." in name:
            continue
        b = pairs[name.replace("lora_A", "lora_B")].astype(np.float64)
        scale = np.full(len(a), ALPHAS.get(module, 8.0) / RANKS.get(module, 4))
        if module == BLOCKED:
            scale = np.array([8 / 2, 8 / 2, *[1 / 2] * 4])
        target = module.replace("thinker.layers.", "thinker.model.layers.") + ".weight"
        deltas[target] = deltas.get(target, 0) + (b * scale) @ a.astype(np.float64)
    assert len(deltas) == 2 * 6 + 3 + 2 * 7, "each module of the decoder once, of two spellings"
    for name, theirs in contract.names(AUDIO["encoder_layers"], TEXT["num_hidden_layers"]).items():
        expected = base[theirs].double().numpy() + deltas.get(theirs, 0.0)
        weights = np.frombuffer(found[name].data, np.float32).reshape(expected.shape)
        np.testing.assert_allclose(weights, expected, rtol=0, atol=4e-6, err_msg=name)


def test_none_is_the_base_alone(mega: Path, tmp_path: Path) -> None:
    assert invoke(mega, "--adapter", "none", "--outtype", "q4_k", "--out", tmp_path / "none").exit_code == 0
    assert invoke(mega / "Qwen3-ASR-1.7B", "--outtype", "q4_k", "--out", tmp_path / "plain").exit_code == 0
    assert names(tmp_path / "none") == names(tmp_path / "plain") == ["qwen3-asr-q4_k.gguf"]
    one, other = (tmp_path / name / "qwen3-asr-q4_k.gguf" for name in ("none", "plain"))
    assert gguf_tensors(one) == gguf_tensors(other)
    omitted = {"mimo_convert.adapter.omitted": "mega-asr-merged"}
    assert gguf_metadata(one) == gguf_metadata(other) | omitted, "which the same command must say again"


def test_a_file_of_the_base_alone_is_compared_with_it_without_being_told_again(mega: Path, tmp_path: Path) -> None:
    assert invoke(mega, "--adapter", "none", "--outtype", "f16", "--out", tmp_path).exit_code == 0
    file = tmp_path / "qwen3-asr-f16.gguf"
    assert check(file, "--checkpoint", mega).exit_code == 0
    assert check(file, "--checkpoint", mega, "--adapter", mega / "mega-asr-merged").exit_code == 2


def test_an_adapter_by_itself_gives_the_same_rows_and_is_in_names(mega: Path, tmp_path: Path) -> None:
    lora = shutil.copytree(mega / "mega-asr-merged", tmp_path / "my lora")
    result = invoke(mega / "Qwen3-ASR-1.7B", "--adapter", lora, "--outtype", "q4_k", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == ["qwen3-asr-my-lora-q4_k.gguf"]
    ours, theirs = tmp_path / "out" / "qwen3-asr-my-lora-q4_k.gguf", mega.parent / "files" / Q4
    assert gguf_tensors(ours) == gguf_tensors(theirs)
    assert gguf_metadata(ours)["mimo_convert.adapter.name"] == "my lora"
    assert gguf_metadata(theirs)["general.name"] == "Mega-ASR"


def test_what_a_file_was_made_with_is_recorded_by_its_hashes(mega: Path) -> None:
    from hashlib import sha256

    recorded = gguf_metadata(mega.parent / "files" / Q4)["mimo_convert.adapter"]
    files = ("adapter_config.json", "adapter_model.safetensors", "mega_lora_blocks.json")
    lines = [
        f"{sha256((mega / 'mega-asr-merged' / name).read_bytes()).hexdigest()}  mega-asr-merged/{name}\n"
        for name in files
    ]
    assert recorded == "".join(lines)


def test_the_same_command_makes_nothing_again_and_another_adapter_is_told(mega: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mega, tmp_path / "Mega-ASR")
    out = shutil.copytree(mega.parent / "files", tmp_path / "out")
    result = invoke(folder, "--outtype", "q4_k", "--out", out)
    assert result.exit_code == 0
    assert "already made by this command" in result.stderr
    config = folder / "mega-asr-merged" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"alpha_pattern": {}}))
    result = invoke(folder, "--outtype", "q4_k", "--out", out)
    check_one_line(result, out / Q4, "already exists, with the adapter's files ")


@pytest.mark.parametrize("name", [Q4, "mega-asr-f16.gguf", F32])
def test_a_file_is_compared_row_by_row_with_base_and_adapter(mega: Path, name: str) -> None:
    file = mega.parent / "files" / name
    assert check(file, "--checkpoint", mega).exit_code == 0
    adapter = ("--adapter", mega / "mega-asr-merged")
    assert check(file, "--checkpoint", mega / "Qwen3-ASR-1.7B", *adapter).exit_code == 0


def test_a_wrong_row_is_found_in_an_adapted_tensor(mega: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(mega.parent / "files" / Q4, tmp_path))
    data = gguf_tensors(file)["blk.1.ffn_up.weight"].data
    whole = file.read_bytes()
    at = whole.index(data) + 5000
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    result = check(file, "--checkpoint", mega)
    assert result.exit_code == 1
    assert "blk.1.ffn_up.weight" in result.stdout


@pytest.mark.parametrize("adapter", ["none", "other"])
def test_another_adapter_or_none_is_another_model(mega: Path, tmp_path: Path, adapter: str) -> None:
    other = write_adapter(tmp_path / "other", seed=9)
    chosen = ("--adapter", other if adapter == "other" else adapter)
    result = check(mega.parent / "files" / Q4, "--checkpoint", mega, *chosen)
    assert result.exit_code == 2
    found = "the adapter other" if adapter == "other" else "no adapter"
    assert f"has {found}" in result.stderr
    assert "expected the adapter mega-asr-merged (adapter_model.safetensors " in result.stderr


def test_a_quantized_file_keeps_the_record_and_gives_the_same_rows(mega: Path, tmp_path: Path) -> None:
    from mimo_commands.quantize import main as quantize_main

    made = tmp_path / "again.gguf"
    arguments = [str(mega.parent / "files" / F32), str(made), "--outtype", "q4_k"]
    assert CliRunner().invoke(quantize_main, arguments).exit_code == 0
    assert made.read_bytes() == (mega.parent / "files" / Q4).read_bytes()
    assert check(made, "--checkpoint", mega).exit_code == 0


def test_a_weight_that_is_not_a_number_names_both_files(mega: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mega, tmp_path / "Mega-ASR")
    weights = folder / "mega-asr-merged" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2:] = b"\xff\x7f"  # of the last half, a NaN
    weights.write_bytes(data)
    result = invoke(folder, "--out", tmp_path / "out")
    shard = folder / "Qwen3-ASR-1.7B" / "model.safetensors"
    check_one_line(result, f"{shard} with {weights}", r"tensor thinker\..* holds NaN in row \d+; the file is damaged")
    assert not names(tmp_path / "out")


def test_a_repository_without_its_adapter_is_named(mega: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mega, tmp_path / "Mega-ASR")
    (folder / "mega-asr-merged" / "adapter_config.json").unlink()
    result = invoke(folder, "--out", tmp_path / "out")
    check_one_line(result, folder, "holds Qwen3-ASR-1.7B and no mega-asr-merged/adapter_config.json")


def test_a_family_that_takes_no_adapter_says_so(small_lm: Path, mega: Path, tmp_path: Path) -> None:
    result = invoke(small_lm, "--adapter", mega / "mega-asr-merged", "--out", tmp_path / "out")
    check_one_line(result, "--adapter", f"{mega / 'mega-asr-merged'}, but mimo_asr takes no adapter; leave it out")
