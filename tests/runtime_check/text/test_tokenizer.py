import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.model_file import ModelFile
from mimo_families.mimo_audio.layout import FAMILY
from mimo_families.mimo_audio.prompt import clean_transcript
from quantize.errors import InputError
from runtime_check.text.tokenizer import TextTokenizer
from tests.opened import model_file
from tests.runtime_check.conftest import Converter
from tests.synthetic import ASR_CONFIG

VOCAB_SIZE = ASR_CONFIG["vocab_size"]
assert FAMILY.text is not None
TEXT = FAMILY.text
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text("etaoinsh #:ab!\n 0'd", max_size=60)


@pytest.fixture(scope="module")
def file(converted: Converter) -> ModelFile:
    return model_file(converted()[0])


def with_metadata(model: ModelFile, metadata: dict[str, Any]) -> ModelFile:
    return dataclasses.replace(model, file=dataclasses.replace(model.file, metadata=metadata))


@pytest.fixture(scope="module")
def tokenizers(file: ModelFile, lm_checkpoint: Checkpoint) -> tuple[TextTokenizer, Tokenizer]:
    return TextTokenizer.from_gguf(file, TEXT), Tokenizer.from_file(str(lm_checkpoint.folder / "tokenizer.json"))


@given(text=TEXTS)
@settings(deadline=None, max_examples=300)
def test_the_files_own_vocabulary_gives_the_checkpoints_ids(
    tokenizers: tuple[TextTokenizer, Tokenizer], text: str
) -> None:
    ours, theirs = tokenizers
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_special_tokens_are_one_id(tokenizers: tuple[TextTokenizer, Tokenizer]) -> None:
    ours, theirs = tokenizers
    for token in ("<|im_start|>", "<|empty|>", "<tool_call>", "<|eot|>"):
        assert ours.encode(f"x{token}y") == theirs.encode(f"x{token}y", add_special_tokens=False).ids
        assert len(ours.encode(token)) == 1


def test_vocab_and_merges_files_give_the_same_ids(lm_checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((lm_checkpoint.folder / name).read_bytes())
    text = "## #:a the tea<|im_end|>\n<think>"
    ours, theirs = (
        TextTokenizer.from_checkpoint(checkpoint, VOCAB_SIZE, TEXT)
        for checkpoint in (replace(lm_checkpoint, folder=tmp_path, _vocabularies={}), lm_checkpoint)
    )
    assert ours.encode(text) == theirs.encode(text)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda t: t == t.strip()))
@settings(deadline=None)
def test_a_transcript_is_the_text_that_its_ids_spell(tokenizers: tuple[TextTokenizer, Tokenizer], text: str) -> None:
    ours, _ = tokenizers
    [stop] = ours.encode("<|im_end|>")
    normalized = ours.tokenizer.normalizer.normalize_str(text)
    assert clean_transcript(ours.decode([*ours.encode(text), stop])) == normalized.strip()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokenizer.ggml.model", "llama", "tokenizer.ggml.model is 'llama'"),
        ("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens is missing"),
        ("tokenizer.ggml.merges", [], "tokenizer.ggml.merges is missing"),
        ("tokenizer.ggml.tokens", ["a"] * 1279, "tokenizer.ggml.tokens has 1279; expected 1280"),
        ("tokenizer.ggml.tokens", [1] * 1280, "tokenizer.ggml.tokens holds something else than strings"),
        ("tokenizer.ggml.merges", [1] * 900, "tokenizer.ggml.merges holds something else than strings"),
        (
            "tokenizer.ggml.merges",
            ["a b c"],
            "merge 0 .* is malformed, the first of .* such findings; expected two parts",
        ),
        ("tokenizer.ggml.token_type", [1] * 1280, "is the result of no merge, the first of .* such findings"),
        ("tokenizer.ggml.merges", ["zz qq"], "tokenizer.ggml.merges: merge 0 \\('zz qq'\\) needs 'zz'"),
    ],
)
def test_a_broken_vocabulary_is_refused_by_its_key(file: ModelFile, key: str, value: Any, message: str) -> None:
    broken = with_metadata(file, {**file.file.metadata, key: value})
    with pytest.raises(InputError, match=message):
        TextTokenizer.from_gguf(broken, TEXT)


def test_a_file_without_token_types_reads_the_same(file: ModelFile) -> None:
    metadata = {key: value for key, value in file.file.metadata.items() if key != "tokenizer.ggml.token_type"}
    older = TextTokenizer.from_gguf(with_metadata(file, metadata), TEXT)
    text = "<|im_start|>user\nthe tea ## <|im_end|>"
    assert older.encode(text) == TextTokenizer.from_gguf(file, TEXT).encode(text)
