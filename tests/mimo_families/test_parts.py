"""Options about parts that a model does not have: one line, and nothing is written."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_api import ConvertOptions, convert
from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from mimo_families.parts import check_parts
from mimo_families.registry import systems
from quantize.errors import InputError
from tests.mimo_families.qwen3_asr.tiny_clips import converted
from tests.opened import TINY_TOKENIZER

NO_SPEECH = "--asr-only: is not for {}, which has no speech generation; leave it out"
NO_COPY = "--no-output-copy: is not for {}, which has no copy of the embedding as head; leave it out"


@pytest.mark.parametrize(
    ("model", "option", "says"),
    [
        ("tiny-qwen3", "--asr-only", NO_SPEECH.format("qwen3asr")),
        ("tiny", "--no-output-copy", NO_COPY.format("mimo_asr")),
        (str(TINY_TOKENIZER), "--no-output-copy", NO_COPY.format("mimo_tokenizer")),
    ],
)
def test_a_part_that_the_model_does_not_have_is_one_line(tmp_path: Path, model: str, option: str, says: str) -> None:
    result = CliRunner().invoke(mimo_convert, [model, option, "--no-check", "--out", str(tmp_path / "out")])
    assert (result.exit_code, result.output.strip()) == (2, f"error: {says}")
    assert not (tmp_path / "out").exists()


def test_a_file_of_such_a_model_is_refused_too(tmp_path: Path) -> None:
    [made] = converted(tmp_path / "made", "--outtype", "q8_0").iterdir()
    result = CliRunner().invoke(mimo_quantize, [str(made), str(tmp_path / "less.gguf"), "--asr-only"])
    assert (result.exit_code, result.output.strip()) == (2, f"error: {NO_SPEECH.format('qwen3asr')}")
    assert not (tmp_path / "less.gguf").exists()


def test_each_part_is_for_every_system_with_a_family_that_has_it() -> None:
    """Of one of its members is enough: the audio tokenizer beside a speech LM has no speech generation."""
    for system in systems():
        for family in system.families:
            check_parts(family.parts.keys(), system.families)


def test_a_part_that_no_model_has_is_named(tmp_path: Path) -> None:
    options = ConvertOptions("tiny", without=frozenset({"head"}), out=tmp_path, checked=False)
    known = "expected one of decoder, output-copy, speech-generation"
    with pytest.raises(InputError, match=f"--without: 'head' is not a part of any model; {known}"):
        convert(options)
