"""What a user names as a model: what a value is taken for, and what is said of one that is not accepted."""

import os
from pathlib import Path

import pytest

from mimo_families.sources import (
    BUNDLED,
    CHECKPOINT,
    COMPARED,
    FOLDER,
    GGUF,
    HUB,
    REFERENCE,
    STORED,
    Kind,
    Kinds,
    find_source,
    resolve,
    written_as,
)
from quantize.errors import InputError

TAKEN = "was taken for a path, and there is no such"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a source of every kind."""
    for name in ("asr", "owner/asr", "refs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "asr" / "config.json").write_text("{}")
    (tmp_path / "asr" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "x.gguf").write_bytes(b"GGUF....")
    (tmp_path / "renamed").write_bytes(b"GGUF....")
    (tmp_path / "not.gguf").write_bytes(b"<html>")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("tiny", BUNDLED),
        ("tiny-qwen3", BUNDLED),
        ("asr", FOLDER),
        ("./asr/", FOLDER),
        ("owner/asr", FOLDER),
        ("owner/other", HUB),
        ("owner/other@refs/pr/1", HUB),
        ("XiaomiMiMo/MiMo-V2.5-ASR", HUB),
        ("x.gguf", GGUF),
        ("renamed", GGUF),
        ("not.gguf", STORED),
        ("asr/model.safetensors", STORED),
        ("pipe", STORED),
        ("refs/none.safetensors", None),
        ("owner/none.gguf", None),
        ("./owner/other", None),
        ("owner/asr/none", None),
        ("none", None),
        ("", None),
        ("a\0b", None),
    ],
)
def test_a_value_is_of_one_kind(here: Path, value: str, kind: Kind | None) -> None:
    source = find_source(value)
    assert (source and source.kind) == kind
    if source and kind in (FOLDER, STORED, GGUF):
        assert source.path == Path(value)


def test_a_folder_called_as_a_bundled_model_is_named_by_a_path(here: Path) -> None:
    (here / "tiny").mkdir()
    (here / "tiny" / "config.json").touch()
    assert resolve("tiny", CHECKPOINT).kind is BUNDLED
    assert resolve("./tiny", CHECKPOINT).kind is FOLDER


CKPT = "a checkpoint folder, a Hub id OWNER/NAME[@REVISION], tiny or tiny-qwen3"


@pytest.mark.parametrize(
    ("value", "accepted", "says"),
    [
        ("none", CHECKPOINT, f"none: {TAKEN} folder; expected {CKPT}"),
        ("./none", REFERENCE, f"./none: {TAKEN} file or folder; expected a file of `mimo-check reference`, {CKPT}"),
        ("Tiny", CHECKPOINT, f"Tiny: {TAKEN} folder; expected {CKPT}"),
        ("tinny", CHECKPOINT, f"tinny: {TAKEN} folder; expected {CKPT}; did you mean tiny?"),
        ("asrr", CHECKPOINT, f"asrr: {TAKEN} folder; expected {CKPT}; did you mean asr?"),
        ("./owner/as", CHECKPOINT, f"./owner/as: {TAKEN} folder; expected {CKPT}; did you mean ./owner/asr?"),
        ("refs/x.safetensors", COMPARED, f"refs/x.safetensors: {TAKEN} file or folder; expected a file of `mimo-che"),
        ("x.gguf", CHECKPOINT, f"x.gguf: is a GGUF file; expected {CKPT}; `mimo-quantize` makes another type of it, "),
        ("not.gguf", CHECKPOINT, f"not.gguf: is a file; expected {CKPT}"),
        (
            "asr/model.safetensors",
            CHECKPOINT,
            f"asr/model.safetensors: is a file; expected {CKPT}; give the folder asr",
        ),
        ("asr", [GGUF], "asr: is a folder; expected a GGUF file"),
        ("owner/other", [GGUF], "owner/other: was taken for a Hub id; expected a GGUF file"),
        ("x" * 300, CHECKPOINT, "was taken for a path, and File name too long; expected"),
        ("a\0b", CHECKPOINT, "was taken for a path, and embedded null byte; expected"),
    ],
)
def test_an_error_says_what_the_value_was_taken_for_and_what_is_accepted(
    here: Path, value: str, accepted: Kinds, says: str
) -> None:
    with pytest.raises(InputError) as error:
        resolve(value, accepted)
    assert says in str(error.value)


def test_a_value_of_a_config_stays_what_it_is_wherever_it_is_read(here: Path, tmp_path: Path) -> None:
    folder = here / "owner"
    assert written_as("asr", folder) == str(folder / "asr")
    assert written_as("owner/asr", folder) == "owner/asr", "there is none beside the config, so it is a Hub id"
    assert written_as("none", folder) == str(folder / "none")
    assert written_as("tiny", folder) == "tiny"
