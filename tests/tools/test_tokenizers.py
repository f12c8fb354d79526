"""The trainers' text tokenizers: their scripts give the committed files, byte for byte."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_families.mimo_audio.system import TINY as TINY_MIMO
from mimo_families.qwen3_asr.system import TINY as TINY_QWEN3
from runtime_check.audio.jfk import JFK_TEXT
from tools.train_tiny import text as mimo
from tools.train_tiny_qwen3 import text as qwen3
from tools.train_tiny_qwen3.speech import GERMAN_SENTENCES


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def of_mimo(folder: Path) -> Path:
    lines = [f" {text}" for text in (*lines_of(mimo.SENTENCES), *[JFK_TEXT] * 3)]
    written = mimo.WRITTEN_TEXT.read_text(encoding="utf-8").splitlines(keepends=True)
    mimo.save_text_tokenizer(mimo.train_text_tokenizer(lines + written), folder)
    return TINY_MIMO / "asr"


def of_qwen3(folder: Path) -> Path:
    lines = [JFK_TEXT] * 3 + sorted({*lines_of(mimo.SENTENCES), *lines_of(GERMAN_SENTENCES)})
    qwen3.save_text_tokenizer(qwen3.train_text_tokenizer(lines), folder)
    return TINY_QWEN3 / "model"


@pytest.mark.parametrize("made", [of_mimo, of_qwen3])
def test_the_script_gives_the_committed_files(made: Callable[[Path], Path], tmp_path: Path) -> None:
    committed = made(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"vocab.json", "merges.txt", "tokenizer_config.json"} <= files.keys()
    assert files == {name: (committed / name).read_bytes() for name in files}
