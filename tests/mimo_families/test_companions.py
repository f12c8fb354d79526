"""An audio tokenizer that was not named: the folder beside MODEL that holds one is offered."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from mimo_convert.sources import hub_cache
from mimo_families.companions import sibling_of
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.opening import OpenCheckpoints, open_companions
from mimo_families.sources import CHECKPOINT, ModelSource, resolve
from quantize.errors import InputError
from tests.opened import TINY_ASR, TINY_TOKENIZER

TOKENIZER = SYSTEM.companions[0]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of checkpoints, and no network."""
    shutil.copytree(TINY_ASR, tmp_path / "models" / "asr")
    shutil.copytree(TINY_TOKENIZER, tmp_path / "models" / "MiMo-Audio-Tokenizer")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path / "models")
    return tmp_path / "models"


def refused(model: str, option: str = "--tokenizer") -> str:
    with pytest.raises(InputError) as error:
        open_companions(SYSTEM, model, {}, OpenCheckpoints(), option)
    return str(error.value)


@pytest.mark.parametrize(
    ("model", "sibling"),
    [
        ("asr", "MiMo-Audio-Tokenizer"),
        ("./asr/", "MiMo-Audio-Tokenizer"),
        ("{}/asr", "{}/MiMo-Audio-Tokenizer"),
        ("../models/asr", "../models/MiMo-Audio-Tokenizer"),
    ],
)
def test_the_folder_beside_the_model_is_offered_as_the_option_to_add(models: Path, model: str, sibling: str) -> None:
    line = refused(model.format(models), "--reference-tokenizer")
    assert line.startswith("XiaomiMiMo/MiMo-Audio-Tokenizer: the network is switched off by ")
    assert line.endswith(f"; give --reference-tokenizer {sibling.format(models)}, beside it")


def test_from_within_the_model_its_neighbour_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models / "asr")
    assert sibling_of(resolve(".", CHECKPOINT), TOKENIZER) == Path("../MiMo-Audio-Tokenizer")


def test_none_or_several_are_not_offered(models: Path) -> None:
    shutil.copytree(models / "MiMo-Audio-Tokenizer", models / "another")
    assert refused("asr").endswith("; unset TRANSFORMERS_OFFLINE")
    shutil.rmtree(models / "another")
    shutil.rmtree(models / "MiMo-Audio-Tokenizer")
    (models / "broken").mkdir()
    (models / "broken" / "config.json").write_text("{")
    (models / "file").write_text("")
    assert refused("asr").endswith("; unset TRANSFORMERS_OFFLINE")


def test_where_the_published_one_is_taken_a_line_says_so(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = "1" * 40
    cached = hub_cache.snapshot_of("XiaomiMiMo/MiMo-Audio-Tokenizer", commit)
    shutil.copytree(TINY_TOKENIZER, cached)
    (cached.parents[1] / "refs").mkdir()
    (cached.parents[1] / "refs" / "main").write_text(commit)
    beside = open_companions(SYSTEM, "asr", {}, OpenCheckpoints())
    assert beside["audio_tokenizer"].folder == cached
    line = "the audio tokenizer is XiaomiMiMo/MiMo-Audio-Tokenizer; --tokenizer MiMo-Audio-Tokenizer takes the one"
    assert capsys.readouterr().err == f"{line} beside asr\n"


def test_one_that_was_named_is_taken_without_a_word(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("MiMo-Audio-Tokenizer", "tiny"):
        open_companions(SYSTEM, "asr", {"audio_tokenizer": given}, OpenCheckpoints())
    open_companions(SYSTEM, "tiny", {}, OpenCheckpoints())
    assert capsys.readouterr().err == ""


def test_a_name_that_may_be_a_path_or_a_hub_id_is_told_as_both(models: Path) -> None:
    with pytest.raises(InputError) as error:
        OpenCheckpoints().open(resolve("models/asr", CHECKPOINT))
    assert str(error.value).startswith("models/asr: there is no such folder, and as a Hub id: the network is switched ")
    (models / "models" / "asr1").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        OpenCheckpoints().open(resolve("models/asr", CHECKPOINT))
    assert str(error.value).endswith("holds nothing of it; did you mean models/asr1?")
    assert isinstance(resolve("XiaomiMiMo/MiMo-V2.5-ASR", CHECKPOINT), ModelSource)
    assert not resolve("XiaomiMiMo/MiMo-V2.5-ASR@v1", CHECKPOINT).is_guess
