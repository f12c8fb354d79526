"""Files side by side on several clips, as a user runs them."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, Calibration, CalibrationClip, ColumnSums
from mimo_convert.formats.imatrix.gguf_form import write_calibration
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.report.json_report import read_report
from tests.runtime_check.conftest import Converter


def run(*arguments: object) -> Result:
    return CliRunner().invoke(mimo_check, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of JFK with noise, twice."""
    folder, wave = tmp_path_factory.mktemp("clips"), read_clip(JFK).wave
    lines = []
    for i in range(2):
        noise = np.random.default_rng(i).standard_normal(len(wave)) * 0.003
        soundfile.write(folder / f"{i}.wav", wave + noise, 16_000)
        lines.append(json.dumps({"audio": f"{i}.wav", "text": JFK_TEXT}))
    (folder / "clips.jsonl").write_text("\n".join(lines))
    return folder / "clips.jsonl"


@pytest.fixture(scope="module")
def report(clips: Path, converted: Converter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """The report of two files on both clips, and what was printed."""
    (q8, _), (q4, _), (f16, tokenizer) = map(converted, ("q8_0", "q4_k", "f16"))
    beside = "--tokenizer", tokenizer, "--reference-tokenizer", tokenizer, "--max-new-tokens", 1
    path = tmp_path_factory.mktemp("report") / "r.json"
    result = run(q8, q4, *beside, "--against", f16, "--compare", "stages", "--audio", clips, "--json", path)
    assert result.exit_code in (0, 1), result.output
    return read_report(path, {}), result.stdout


def test_files_stand_side_by_side_with_their_intervals(report: tuple[Any, str]) -> None:
    found, said = report
    fidelity = found.fidelity
    assert [Path(file.file).name for file in fidelity.files] == ["mimo-asr-q8_0.gguf", "mimo-asr-q4_k.gguf"]
    for file in fidelity.files:
        own = [check for check in found.checks if check.main.file == file.file]
        kls = [step.kl for check in own for step in check.steps.steps]
        assert file.kl_mean.value == pytest.approx(np.mean(kls))
        assert file.kl_mean.low <= file.kl_mean.value <= file.kl_mean.high
        assert [clip.kl_mean for clip in file.clips] == [check.steps.kl_mean for check in own]
    q8, q4 = fidelity.files
    assert q4.of_first.value == pytest.approx(q4.kl_mean.value / q8.kl_mean.value)
    assert q4.of_first.low > 1
    *_, title, head, _, row = said.splitlines()
    assert title.startswith(f"2 clips, {fidelity.tokens} tokens: KL divergence")
    assert head.split()[:5] == ["file", "bytes", "bits", "KL", "mean"]
    assert row.split()[:4] == ["mimo-asr-q4_k.gguf", f"{q4.bytes:,}", "4.54", f"{q4.kl_mean.value:.2g}"]


def test_one_wave_and_one_dump_are_of_one_file(clips: Path, converted: Converter, tmp_path: Path) -> None:
    (q8, _), (q4, _) = map(converted, ("q8_0", "q4_k"))
    result = run(q8, q4, "--audio", clips, "--dump", tmp_path / "stages")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: --dump: is of one file, found 2; run them one by one\n"
    assert not (tmp_path / "stages").exists()


def test_a_file_of_another_model_is_refused(converted: Converter) -> None:
    lm, tokenizer = converted("q8_0")
    result = run(lm, tokenizer)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {tokenizer}: is of mimo_tokenizer; expected mimo_asr\n"


def calibration(path: Path, clips: Path, parts: Sequence[str]) -> Path:
    """A calibration file that was made with these parts of the clips."""
    sums = ColumnSums(np.ones(256, np.float32), np.ones(256, np.float32), 1)
    files = sorted(clips.parent.glob("*.wav"))
    known = tuple(
        CalibrationClip(file.name, sha256(file.read_bytes()).hexdigest(), part)
        for file, part in zip(files, parts, strict=False)
    )
    write_calibration(path, Calibration(path, "", "mimo_asr", {"llm.embed.weight": sums}, clips=known))
    return path


def test_a_clip_that_was_calibrated_with_is_refused_by_name(clips: Path, converted: Converter, tmp_path: Path) -> None:
    made = calibration(tmp_path / "made.gguf", clips, [CALIBRATION, CALIBRATION])
    result = run(converted("q8_0")[0], "--audio", clips, "--calibration", made)
    assert (result.exit_code, result.stdout) == (2, "")
    says = "is one of the calibration clips of made.gguf, and 1 more were used, too; expected other clips: "
    says += "made.gguf holds none out; give clips that it was not made with"
    assert result.stderr == f"error: {clips.parent / '0.wav'}: {says}\n"


def test_only_clips_that_are_held_out_are_run(clips: Path, converted: Converter, tmp_path: Path) -> None:
    made = calibration(tmp_path / "made.gguf", clips, [CALIBRATION, HOLD_OUT])
    result = run(converted("q8_0")[0], "--audio", clips, "--calibration", made, "--max-new-tokens", 1)
    assert result.exit_code == 0, result.output
    assert "1.wav" in result.stdout
    assert "0.wav" not in result.stdout
    assert "1 clips that made.gguf holds out; 1 left out, of which it was made with 1" in result.stderr
