"""A command opens each file once: headers, vocabularies, clips and checkpoints are read where they are first needed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from mimo_convert.model import checkpoint, model_file
from mimo_families import opening
from runtime_check.audio import decode
from runtime_check.audio.jfk import JFK
from tests.opened import TINY_ASR, TINY_TOKENIZER

HEADER, FILE_VOCABULARY, VOCABULARY = "header", "vocabulary of a file", "vocabulary of a checkpoint"
CLIP, CHECKPOINT, HASH = "clip", "checkpoint", "hash"
# What is counted: the function by which something is opened, and what in its arguments names it.
OPENED: dict[str, tuple[Any, str, Callable[..., object]]] = {
    HEADER: (model_file, "read_gguf", lambda path: path),
    FILE_VOCABULARY: (model_file, "vocabulary_of_file", lambda file, *more: file.path),
    HASH: (model_file, "sha256_of", lambda path: path),
    VOCABULARY: (checkpoint, "read_vocabulary", lambda folder, *more: folder),
    CLIP: (decode, "decode", lambda file, path: path),
    CHECKPOINT: (opening, "open_checkpoint", lambda source, *more, **options: Path(source)),
}
Counts = Callable[..., dict[tuple[str, str], int]]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Runs a command, and tells how often it opened what: (kind, last part of the name) → times."""
    found: Counter[tuple[str, str]] = Counter()

    def counting(kind: str, function: Callable[..., Any], name_of: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            found[kind, name_of(*arguments, **options).name] += 1
            return function(*arguments, **options)

        return count

    for kind, (module, name, name_of) in OPENED.items():
        monkeypatch.setattr(module, name, counting(kind, getattr(module, name), name_of))

    def run(command: Any, *arguments: object) -> dict[tuple[str, str], int]:
        found.clear()
        result = CliRunner().invoke(command, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return dict(found)

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    result = CliRunner().invoke(mimo_convert, ["tiny", "--outtype", "q8_0", "--no-check", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def once(*opened: tuple[str, str]) -> dict[tuple[str, str], int]:
    return dict.fromkeys(opened, 1)


LM, TOKENIZER = "mimo-asr-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"
RUN = once((HEADER, LM), (HEADER, TOKENIZER), (FILE_VOCABULARY, LM), (CLIP, JFK.name))


def test_a_check_by_every_means(made: Path, counts: Counts) -> None:
    """The hash of the file itself comes with the lint, which reads it whole."""
    found = counts(mimo_check, made / LM, "--static", "--checkpoint", "tiny", "--reference", "tiny")
    assert found == RUN | once((VOCABULARY, "asr"), (CHECKPOINT, "asr"), (HASH, TOKENIZER))


def test_a_check_against_checkpoints_in_pytorch(made: Path, counts: Counts) -> None:
    sources = ["--checkpoint", TINY_ASR, "--reference", TINY_ASR, "--reference-tokenizer", TINY_TOKENIZER]
    found = counts(mimo_check, made / LM, "--static", *sources)
    opened = [(VOCABULARY, "asr"), (CHECKPOINT, "asr"), (CHECKPOINT, "tokenizer"), (HASH, TOKENIZER)]
    assert found == RUN | once(*opened)


def test_a_check_against_another_file(made: Path, counts: Counts, tmp_path: Path) -> None:
    arguments = ["tiny", "--outtype", "f16", "--no-check", "--out", tmp_path]
    assert CliRunner().invoke(mimo_convert, list(map(str, arguments))).exit_code == 0
    other, beside = tmp_path / "mimo-asr-f16.gguf", "mimo-tokenizer-f16.gguf"
    found = counts(mimo_check, made / LM, "--static", "--against", other, "--max-new-tokens", 2)
    of_other = once((HEADER, other.name), (HEADER, beside), (FILE_VOCABULARY, other.name))
    assert found == RUN | of_other | once((HASH, TOKENIZER))


def test_a_conversion_with_its_check(counts: Counts, tmp_path: Path) -> None:
    found = counts(mimo_convert, "tiny", "--outtype", "q8_0", "--out", tmp_path)
    assert found == RUN | once((VOCABULARY, "asr"), (CHECKPOINT, "asr"), (CHECKPOINT, "tokenizer"))


def test_a_conversion_with_its_check_in_pytorch(counts: Counts, tmp_path: Path) -> None:
    """The checkpoints that were converted are what the files are compared with."""
    arguments = [TINY_ASR, "--tokenizer", TINY_TOKENIZER, "--outtype", "q8_0", "--out", tmp_path]
    found = counts(mimo_convert, *arguments)
    assert found == RUN | once((VOCABULARY, "asr"), (CHECKPOINT, "asr"), (CHECKPOINT, "tokenizer"))


def test_mimo_quantize(made: Path, counts: Counts, tmp_path: Path) -> None:
    found = counts(mimo_quantize, made / LM, tmp_path / "x.gguf", "--outtype", "q5_k")
    assert found == once((HEADER, LM), (FILE_VOCABULARY, LM))
