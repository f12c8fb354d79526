"""Which companion belongs to a file, by names and types of what lies beside it."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.qwen3_asr.llama_cpp.system import SYSTEM as PAIR
from mimo_families.registry import families
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.run.members import companion_names, members_of

LM, TOKENIZER = (family.role for family in SYSTEM.families)
Folder = Callable[[str, Sequence[str]], Path]


@pytest.fixture
def folder(tmp_path: Path, small_lm_files: Callable[[bool, str], Path]) -> Folder:
    """A folder with a speech LM and files that are called as audio tokenizers: `NAME`, or `NAME:TYPE` of that type."""

    def make(lm: str, tokenizers: Sequence[str]) -> Path:
        for text in (lm, *tokenizers):
            name, _, of_type = text.partition(":")
            target = tmp_path / f"{name}.gguf"
            if of_type:
                shutil.copy(small_lm_files(False, of_type), target)
            else:
                target.write_bytes(b"")
        return tmp_path / f"{lm.partition(':')[0]}.gguf"

    return make


def taken(main: Path) -> str:
    found = members_of(main, SYSTEM, {}, OpenFiles(families()), "say which")
    assert found[LM] == main
    return found[TOKENIZER].stem


@pytest.mark.parametrize(
    ("lm", "beside", "expected"),
    [
        ("mimo-asr-f16:f16", ["f16", "q8_0", "q4_k"], "f16"),
        ("mimo-asr-q8_0:q8_0", ["f16", "q8_0", "q4_k"], "q8_0"),
        ("mimo-asr-q4_k:q4_k", ["f16", "q8_0", "q4_k"], "q8_0"),
        ("mimo-asr-q2_k:q2_k", ["q2_k", "f16", "q8_0"], "q8_0"),
        ("mimo-asr-q4_k:q4_k", ["q4_k", "f16"], "q4_k"),
        ("mimo-asr-q4_k:q4_k", ["f16"], "f16"),
        ("mimo-asr-q4_k", ["q8_0", "q4_k"], "q8_0"),
        ("mimo-asr-q4_k-heads:q4_k", ["q8_0", "q8_0-heads", "q8_0-mix"], "q8_0-heads"),
        ("mimo-asr-q4_k-heads:q4_k", ["q8_0", "q8_0-mix"], "q8_0"),
        ("mimo-asr-q4_k_m:q4_k", ["f16", "q8_0", "q4_k_m"], "q8_0"),
        ("mimo-asr-mixed-8-4", ["f16", "q8_0"], "q8_0"),
        ("mimo-asr-q4_k_m-heads", ["q8_0", "q8_0-heads"], "q8_0-heads"),
        ("mimo-asr-mine:q4_k", ["q8_0", "mine"], "mine"),
        ("mimo-asr-mine:q4_k", ["q8_0", "f16"], "q8_0"),
        ("other:f16", ["q8_0", "f16"], "f16"),
    ],
)
def test_the_companion_is_that_of_the_files_type(
    folder: Folder, capsys: pytest.CaptureFixture[str], lm: str, beside: list[str], expected: str
) -> None:
    assert taken(folder(lm, [f"mimo-tokenizer-{name}" for name in beside])) == f"mimo-tokenizer-{expected}"
    assert capsys.readouterr().err == ""


def test_of_several_others_the_largest_type_is_taken_and_said(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    main = folder("mimo-asr-f16:f16", ["mimo-tokenizer-a:q4_k", "mimo-tokenizer-b:q8_0", "mimo-tokenizer-c"])
    assert taken(main) == "mimo-tokenizer-b"
    names = ", ".join(f"mimo-tokenizer-{name}.gguf" for name in "abc")
    said = f"audio tokenizer files beside it: {names}; taking mimo-tokenizer-b.gguf; for another, say which"
    assert capsys.readouterr().err == f"{main}: {said}\n"


def test_without_any_the_hint_is_said(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"audio tokenizer files beside it: none; expected one; say which$"):
        taken(folder("mimo-asr-f16:f16", []))


def test_a_given_one_is_taken(folder: Folder, tmp_path: Path) -> None:
    main, given = folder("mimo-asr-f16:f16", ["mimo-tokenizer-f16"]), {TOKENIZER: tmp_path / "elsewhere"}
    assert members_of(main, SYSTEM, given, OpenFiles(families()), "say which") == {LM: main, **given}


def test_companions_are_of_the_same_type_down_to_q8_0() -> None:
    kept = {name for name, ggml_type in TYPES.items() if SYSTEM.companion_type(ggml_type) is ggml_type}
    assert kept == {"f32", "f16", "bf16", "q8_0"}
    assert {SYSTEM.companion_type(TYPES[name]).name for name in TYPES.keys() - kept} == {"q8_0"}


@pytest.mark.parametrize(
    ("main", "first"),
    [
        ("Qwen3-ASR-1.7B-F16.gguf", "mmproj-Qwen3-ASR-1.7B-F16.gguf"),
        ("Mega-ASR-1.7B-Q4_K.gguf", "mmproj-Mega-ASR-1.7B-Q8_0.gguf"),
        ("Qwen3-ASR-1.7B-Q4_K_M.gguf", "mmproj-Qwen3-ASR-1.7B-Q8_0.gguf"),
        ("Qwen3-ASR-0.6B-my-lora-Q8_0-mix.gguf", "mmproj-Qwen3-ASR-0.6B-my-lora-Q8_0-mix.gguf"),
        ("model.gguf", "mmproj-model.gguf"),
    ],
)
def test_a_companion_may_be_called_as_its_main_file_behind_a_prefix(main: str, first: str) -> None:
    [encoder] = PAIR.companions
    assert next(companion_names(main, None, PAIR, encoder)) == first
