"""The Python interface, as a program uses it."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mimo_api
from mimo_api import (
    CheckOptions,
    ConvertOptions,
    InputError,
    Progress,
    QuantizeOptions,
    TranscribeOptions,
    check,
    convert,
    quantize,
    transcribe,
)
from runtime_check.audio.jfk import JFK

FUNCTIONS = ("convert", "quantize", "check", "make_reference", "transcribe", "publish", "measure_agreement")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny as Q8_0."""
    out = tmp_path_factory.mktemp("api")
    convert(ConvertOptions("tiny", types=["q8_0"], out=out, checked=False))
    return out


def test_converting_returns_what_was_written_and_checked_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Progress] = []
    converted = convert(ConvertOptions("tiny", types=["q4_k"], fuse_qkv=True, out=tmp_path), progress=heard.append)
    assert converted.passed
    assert [one.file for one in converted.report.conversions] == ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]
    assert next(check.transcript for check in converted.report.checks).startswith("And so, my fellow Americans")
    assert {"converting", "prefill", "decode", "tokenize"} <= {now.phase for now in heard}
    assert capfd.readouterr() == ("", "")


def test_a_file_is_quantized_checked_and_transcribed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written = quantize(QuantizeOptions(folder / "mimo-asr-q8_0.gguf", folder / "small.gguf", outtype="q4_0",
                                       allow_requantize=True))  # fmt: skip
    assert (written.type, written.bytes) == ("q4_0", (folder / "small.gguf").stat().st_size)
    report = check(CheckOptions(folder / "mimo-asr-q8_0.gguf", reference="tiny"))
    assert report.passed
    heard: list[Progress] = []
    [transcript] = transcribe(TranscribeOptions(folder / "mimo-asr-q8_0.gguf", [JFK]), progress=heard.append)
    assert not any(now.phase == "decode" for now in heard)  # nothing is run before it is asked for
    assert transcript.text.startswith("And so, my fellow Americans")
    assert any(now.phase == "decode" for now in heard)
    assert capfd.readouterr() == ("", "")


def test_bad_input_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check(CheckOptions(tmp_path / "none.gguf"))
    with pytest.raises(InputError, match=r"q4_k_m: is no type; expected one of f32 .*did you mean q4_k\?"):
        convert(ConvertOptions("tiny", types=["q4_k_m"], out=tmp_path))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_typed_options_and_callbacks(name: str) -> None:
    function = getattr(mimo_api, name)
    options, *more = inspect.signature(function).parameters.values()
    assert options.name == "options"
    assert {"progress", "message"} <= {one.name for one in more}
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in more)
    assert "InputError" in function.__doc__
    kind = inspect.get_annotations(function, eval_str=True)["options"]
    assert dataclasses.is_dataclass(kind)
    assert kind.__name__ in mimo_api.__all__


def test_all_that_is_public_can_be_imported() -> None:
    assert set(mimo_api.__all__) == set(mimo_api.HOME)
    for name in mimo_api.__all__:
        assert getattr(mimo_api, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        mimo_api.sing  # noqa: B018


def test_importing_it_imports_neither_ggml_nor_torch_nor_the_hub() -> None:
    program = "import sys, mimo_api; print(sorted({'ggml', 'torch', 'huggingface_hub', 'jinja2'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_paths_may_be_texts(folder: Path) -> None:
    options = CheckOptions(str(folder / "mimo-asr-q8_0.gguf"), [str(JFK)], reference="tiny")  # type: ignore[arg-type, list-item]
    assert (options.file, options.audio) == (folder / "mimo-asr-q8_0.gguf", (JFK,))
    assert check(options).passed
