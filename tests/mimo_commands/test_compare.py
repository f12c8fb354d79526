"""mimo-check FILE --reference: one word for what a file is compared with, and the older ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from tests.damage import edit_json
from tests.opened import TINY_ASR

SmallFiles = Callable[[bool, str], Path]


def check(*arguments: object) -> Result:
    return CliRunner().invoke(mimo_check, [str(argument) for argument in arguments])


def report(path: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit status, and the report without what differs from run to run."""
    result = check(*arguments, "--json", path)
    assert result.exit_code in (0, 1), result.output
    values = json.loads(path.read_bytes())
    for part in (*values["tensors"], *values["lint"]):
        part.pop("seconds", None)
    for part in values["checks"]:
        part.pop("timings")
        part.pop("memory")
    return result.exit_code, {**values, "memory": None}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pair")
    arguments = ["tiny", "--outtype", "q8_0", "--outtype", "f16", "--no-check", "--out", str(out)]
    assert CliRunner().invoke(mimo_convert, arguments).exit_code == 0
    return out


@pytest.mark.parametrize("damaged", [False, True])
def test_rows_of_a_checkpoint(pair: Path, tmp_path: Path, damaged: bool) -> None:
    file, checkpoint = pair / "mimo-asr-q8_0.gguf", shutil.copytree(TINY_ASR, tmp_path / "asr")
    if damaged:
        edit_json(checkpoint / "config.json", lambda values: values.update(rope_theta=1.0))
    old = report(tmp_path / "r.json", file, "--checkpoint", checkpoint)
    new = report(tmp_path / "r.json", file, "--reference", checkpoint, "--compare", "rows")
    assert old == new
    assert (old[0], len(old[1]["lint"]), len(old[1]["tensors"]), old[1]["checks"]) == (int(damaged), 1, 1, [])


def test_another_file(pair: Path, tmp_path: Path) -> None:
    file, other, few = pair / "mimo-asr-q8_0.gguf", pair / "mimo-asr-f16.gguf", ("--max-new-tokens", 1)
    old = report(tmp_path / "r.json", file, "--against", other, *few)
    new = report(tmp_path / "r.json", file, "--reference", other, *few)
    assert old == new
    assert [len(new[1][part]) for part in ("lint", "tensors", "checks")] == [0, 1, 1]
    status, rows = report(tmp_path / "r.json", file, "--reference", other, "--compare", "rows")
    assert (status, [len(rows[part]) for part in ("lint", "tensors", "checks")]) == (0, [1, 1, 0])


def test_the_audio_tokenizer_of_another_file_can_be_named(pair: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(pair / "mimo-asr-f16.gguf", tmp_path))
    arguments = [pair / "mimo-asr-q8_0.gguf", "--reference", other, "--max-new-tokens", 1]
    alone = check(*arguments)
    assert alone.exit_code == 2
    assert f"error: {other}: audio tokenizer files beside it: none; expected one; name it: --reference" in alone.stderr
    named = check(*arguments, "--reference-tokenizer", pair / "mimo-tokenizer-q8_0.gguf")
    assert named.exit_code == 0, named.output
    wrong = check(*arguments, "--reference-tokenizer", "tiny")
    assert wrong.stderr == "error: tiny: is a bundled model; expected a GGUF file\n"


@pytest.mark.parametrize("how", ["--checkpoint", "--reference", "--against"])
def test_another_model_is_named_before_anything_is_compared(
    pair: Path, small_lm: Path, small_lm_files: SmallFiles, how: str
) -> None:
    other = small_lm_files(False, "f16") if how == "--against" else small_lm
    more = ["--reference-tokenizer", "tiny"] if how == "--reference" else []
    result = check(pair / "mimo-asr-f16.gguf", how, other, *more)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert f"{other}: is another model: small-lm, with num_heads 4" in line
    assert f"tiny as it is in {pair / 'mimo-asr-f16.gguf'}" in line
    assert "transcript" not in result.stdout


def test_a_folder_called_tiny_is_not_what_tiny_reads(pair: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Else the second of two equal commands would be refused: an output of the first one lies in that folder."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        arguments = ["tiny", "--no-check", "--out", "tiny", "--force", "--json", "tiny/r.json"]
        (tmp_path / "tiny").mkdir(exist_ok=True)
        result = CliRunner().invoke(mimo_convert, arguments)
        assert result.exit_code == 0, result.output
