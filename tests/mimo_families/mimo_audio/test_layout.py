"""Base and Instruct of MiMo-Audio-7B: flat config, names of files, what a file says of itself; attention within a
group; a tensor that only some checkpoints have."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mimo_convert.formats.config import Config
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_audio import layout
from mimo_families.opening import OpenCheckpoints, open_companions
from mimo_families.registry import families
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.run.facts import file_facts
from tests.contract import speech_lm_names
from tests.mimo_commands.invoked import invoke, names
from tests.opened import SYSTEM, check_against, lint, make_request, model_file, model_of_checkpoint
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors
from tests.synthetic import MIMO_AUDIO_CONFIG

PROJECTION = "speech_embeddings_to_local.weight"


def checkpoint(small_lm: Path, folder: Path, **changes: Any) -> Path:
    """A checkpoint of MiMo-Audio with the weights of the small speech LM."""
    shutil.copytree(small_lm, folder)
    config = json.loads((folder / "config.json").read_text()) | MIMO_AUDIO_CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "stem", "finetune"),
    [
        ("MiMo-Audio-7B-Base", "mimo-audio-base", "Base"),
        ("MiMo-Audio-7B-Instruct", "mimo-audio-instruct", "Instruct"),
        ("mimo_audio_instruct", "mimo-audio-instruct", "Instruct"),
        ("database", "mimo-audio", None),
    ],
)
def test_a_file_is_called_and_says_what_it_is(
    small_lm: Path, tmp_path: Path, name: str, stem: str, finetune: str | None
) -> None:
    folder = checkpoint(small_lm, tmp_path / name)
    plan = make_request(open_checkpoint(folder), [TYPES["q8_0"]]).plans[0]
    assert plan.file_name == f"{stem}-q8_0.gguf"
    assert {entry.key: entry.value for entry in plan.metadata}.get("general.finetune") == finetune


@pytest.fixture
def instruct(small_lm: Path, small_tokenizer: Path, tmp_path: Path) -> Path:
    """The folder of a conversion of Instruct, in a folder of another name, as the user says."""
    folder = checkpoint(small_lm, tmp_path / "checkpoint", input_full_attention=True)
    options = ["--base-model", "XiaomiMiMo/MiMo-Audio-7B-Instruct", "--outtype", "q8_0", "--out", tmp_path / "out"]
    said = invoke(folder, "--tokenizer", small_tokenizer, *options)
    assert (said.exit_code, said.stderr) == (0, "")
    return tmp_path / "out"


def test_instruct_is_as_the_contract_says_and_knows_itself(instruct: Path) -> None:
    assert names(instruct) == ["mimo-audio-instruct-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"]
    path = instruct / "mimo-audio-instruct-q8_0.gguf"
    found = gguf_metadata(path)
    assert (found["general.architecture"], found["general.finetune"]) == ("mimo_asr", "Instruct")
    assert "text-to-speech" in found["general.tags"]
    assert "mimo_asr.audio.input_causal" not in found
    assert gguf_tensors(path).keys() == speech_lm_names(2, 1, 1, fused=False).keys()
    assert lint(path).passed
    facts = file_facts("speech_lm", model_file(path), OpenFiles(families()))
    assert facts.stem == "mimo-audio-instruct"


def test_its_audio_tokenizer_is_found_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published one, as MiMo-V2.5-ASR's is."""
    asked: list[str] = []

    def refuse(checkpoints: OpenCheckpoints, source: Any, name: str = "") -> Any:
        asked.append(source.value)
        raise InputError(source.value, "is out of reach")

    monkeypatch.setattr(OpenCheckpoints, "open", refuse)
    with pytest.raises(InputError):
        open_companions(SYSTEM, "XiaomiMiMo/MiMo-Audio-7B-Instruct", {}, OpenCheckpoints())
    assert asked == ["XiaomiMiMo/MiMo-Audio-Tokenizer"]


@pytest.mark.parametrize(
    ("values", "causal"),
    [
        ({}, 1), ({"input_full_attention": False}, 1), ({"input_full_attention": True}, 0),
        ({"audio_config": {"input_full_attention": True}}, 0),
    ],
    ids=str,
)  # fmt: skip
def test_attention_within_a_group_is_causal_unless_the_config_says_full(
    small_lm: Path, tmp_path: Path, values: dict[str, Any], causal: int
) -> None:
    folder = checkpoint(small_lm, tmp_path / "x", **values)
    assert layout.dimensions(Config(folder, json.loads((folder / "config.json").read_text()))).input_causal == causal
    request = make_request(open_checkpoint(folder), [TYPES["f16"]])
    written = {entry.key: entry.value for entry in request.plans[0].metadata}
    assert written.get("mimo_asr.audio.input_causal", 0) == causal


def test_a_projection_is_in_the_file_if_it_is_in_the_checkpoint(
    small_lm: Path, small_tokenizer: Path, tmp_path: Path
) -> None:
    """Unless the file is for recognition alone."""
    folder, out = checkpoint(small_lm, tmp_path / "x-instruct"), tmp_path / "out"
    shard = folder / "model-00001-of-00002.safetensors"
    weight = torch.from_numpy(np.random.default_rng(3).standard_normal((128, 48), np.float32))
    save_file(load_file(shard) | {PROJECTION: weight}, shard)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"][PROJECTION] = shard.name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for options, is_there in ([], True), (["--asr-only"], False):
        said = invoke(folder, "--tokenizer", small_tokenizer, "--outtype", "f32", "--out", out, "--force", *options)
        assert (said.exit_code, said.stderr) == (0, "")
        path = out / "mimo-audio-instruct-f32.gguf"
        found = gguf_tensors(path)
        assert ("audio.local_proj.weight" in found) is is_there
        if is_there:
            assert found["audio.local_proj.weight"].data == checkpoint_tensors(folder)[PROJECTION].numpy().tobytes()
        assert lint(path).passed
        assert check_against(path, model_of_checkpoint(open_checkpoint(folder))).passed
