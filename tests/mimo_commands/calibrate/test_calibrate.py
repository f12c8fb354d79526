"""mimo-calibrate from clips to a file: texts and answers, the split, resuming, merging, what is told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGUFReader

from mimo_api import CalibrateOptions, Progress, calibrate
from mimo_commands.calibrate import main
from mimo_commands.quantize import main as mimo_quantize
from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, SELECTION, Calibration
from mimo_convert.formats.imatrix import read_calibration
from mimo_families.qwen3_asr.system import TINY
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK
from tests.mimo_api.calibrating.spoken import write_clips

from ...mimo_families.qwen3_asr.tiny_clips import FOLDER, converted, known_clips
from ..invoked import check_one_line

MODEL = "tiny-qwen3"
SOUND, CLUSTER = ["--audio", JFK, "-o", "c.gguf"], ["--cluster", "127.0.0.1:9"]
RATE = 16_000


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--threads", "1"])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English clips that the model knows, each from three speakers' mouths: at three levels."""
    return write_clips(tmp_path_factory.mktemp("clips"), n=3, seconds=4)


@pytest.fixture(scope="module")
def calibrated(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a calibration. Shared: copy it before changing it."""
    path = tmp_path_factory.mktemp("calibrated") / "calibration.gguf"
    dat = path.with_suffix(".dat")
    result = run(MODEL, "--audio", manifest, "-o", path, "--dat", dat, "--language", "english", "--show")
    assert result.exit_code == 0, result.output
    assert (path.parent / "said").write_text(result.output)
    return path


def test_a_file_holds_sums_of_every_matrix_and_every_clip(calibrated: Path, manifest: Path) -> None:
    found = read_calibration(calibrated)
    assert sorted(path.name for path in calibrated.parent.iterdir()) == ["calibration.dat", "calibration.gguf", "said"]
    assert (found.architecture, found.model, found.is_synthetic) == ("qwen3asr", MODEL, False)
    names = {tensor.name for tensor in GGUFReader(calibrated).tensors}
    for name in ("blk.0.attn_q.weight", "audio.conv_out.weight", "token_embd.weight", "output.weight"):
        assert {name, f"{name}.in_sum2", f"{name}.counts"} <= names
        assert found.columns[name].count > 0
        assert (found.columns[name].squares > 0).all()
    assert {clip.part for clip in found.clips} == {CALIBRATION, SELECTION, HOLD_OUT}
    assert len(found.clips) == len(manifest.read_text().splitlines())
    assert found.columns["output.weight"].count == found.tokens
    dat = read_calibration(calibrated.with_suffix(".dat"))
    np.testing.assert_array_equal(dat.columns["blk.0.attn_q.weight"].squares > 0, True)


def test_the_table_tells_tensors_coverage_and_the_split(calibrated: Path) -> None:
    said = (calibrated.parent / "said").read_text()
    found = read_calibration(calibrated)
    [row] = [line for line in said.splitlines() if line.startswith("blk.0.ffn_down.weight ")]
    assert f"{found.columns['blk.0.ffn_down.weight'].count:,}" in row.split()
    assert {"calibration", "selection", "hold-out"} <= {line.partition(":")[0] for line in said.splitlines()}
    [coverage] = [line for line in said.splitlines() if line.endswith("matrices were reached")]
    assert coverage.split()[0] == coverage.split()[2]


def test_the_order_of_the_clips_does_not_matter(calibrated: Path, manifest: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in reversed(manifest.read_text().splitlines())]
    lines = [{**line, "audio": str(manifest.parent / line["audio"])} for line in lines]
    (tmp_path / "reversed.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    result = run(MODEL, "--audio", tmp_path / "reversed.jsonl", "-o", tmp_path / "c.gguf", "--language", "english")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "c.gguf").read_bytes() == calibrated.read_bytes()


def interrupted_at(step: int) -> Callable[[Progress], None]:
    def progress(now: Progress) -> None:
        if now.phase == "calibrating" and now.done >= step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("step", [1, 4])
def test_an_interrupted_calibration_is_resumed(calibrated: Path, manifest: Path, tmp_path: Path, step: int) -> None:
    options = CalibrateOptions(MODEL, tmp_path / "c.gguf", [manifest], 1, language="english")
    with pytest.raises(KeyboardInterrupt):
        calibrate(options, progress=interrupted_at(step))
    assert [path.name for path in tmp_path.iterdir()] == ["c.gguf.part"]
    assert [path.name for path in tmp_path.glob("*/step-*")] == [f"step-{step:03d}.npz"]
    steps, said = list[float](), list[str]()

    def progress(now: Progress) -> None:
        if now.phase == "calibrating":
            steps.append(now.done)

    calibrate(options, progress=progress, message=said.append)
    assert steps[0] == step
    assert any(line.endswith("c.gguf.part: resumed") for line in said)
    assert (tmp_path / "c.gguf").read_bytes() == calibrated.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["c.gguf"]


def test_another_run_begins_anew_and_another_folder_is_left_alone(manifest: Path, tmp_path: Path) -> None:
    options = CalibrateOptions(MODEL, tmp_path / "c.gguf", [manifest], 1, language="english")
    with pytest.raises(KeyboardInterrupt):
        calibrate(options, progress=interrupted_at(3))
    said = list[str]()
    with pytest.raises(KeyboardInterrupt):
        calibrate(replace(options, seed=1), progress=interrupted_at(1), message=said.append)
    assert any(line.endswith("c.gguf.part: of another run; begun anew") for line in said)
    shutil.rmtree(tmp_path / "c.gguf.part")
    (tmp_path / "c.gguf.part").mkdir()
    (tmp_path / "c.gguf.part" / "mine").touch()
    result = run(MODEL, "--audio", manifest, "-o", tmp_path / "c.gguf", "--language", "english")
    assert result.stderr.endswith("c.gguf.part: is in the way; expected nothing, or the folder of an interrupted run\n")
    assert (tmp_path / "c.gguf.part" / "mine").exists()


def test_a_file_of_the_model_answers_for_clips_without_a_text(tmp_path: Path) -> None:
    """The same sums as with the text, where that is what it hears."""
    clip = next(clip for clip in known_clips() if clip.path.name == "english.ogg")
    shutil.copy(clip.path, tmp_path / "a.ogg")
    result = run(MODEL, "--audio", tmp_path / "a.ogg", "-o", tmp_path / "c.gguf", "--language", "english")
    check_one_line(
        result, tmp_path / "a.ogg", "has no text that the model could be calibrated with; expected the manif"
    )
    [file] = converted(tmp_path / "files", "--outtype", "q8_0").glob("*.gguf")
    result = run(
        MODEL, "--audio", tmp_path / "a.ogg", "--answers", file, "-o", tmp_path / "c.gguf", "--language", "english"
    )
    assert result.exit_code == 0, result.output
    assert "warning: 1 source of audio: nothing is held out" in result.stderr
    (tmp_path / "c.jsonl").write_text(json.dumps({"audio": "a.ogg", "text": clip.text}) + "\n")
    assert (
        run(MODEL, "--audio", tmp_path / "c.jsonl", "-o", tmp_path / "t.gguf", "--language", "english").exit_code == 0
    )
    heard, known = (read_calibration(tmp_path / name) for name in ("c.gguf", "t.gguf"))
    for name, of in known.columns.items():
        np.testing.assert_array_equal(heard.columns[name].squares, of.squares)
    assert CliRunner().invoke(mimo_quantize, [str(file), str(tmp_path / "q4.gguf"), "--outtype", "q4_k"]).exit_code == 0
    result = run(MODEL, "--audio", tmp_path / "a.ogg", "--answers", tmp_path / "q4.gguf", "-o", tmp_path / "d.gguf")
    check_one_line(result, tmp_path / "q4.gguf", "tensor .* is .*; expected q8_0 or more: its answers stand")


def test_calibrations_are_added_up(calibrated: Path, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(
        json.dumps({"audio": str(FOLDER / "german_short.ogg"), "text": "Aller guten Dinge sind drei."}) + "\n"
    )
    arguments = [MODEL, "--audio", tmp_path / "other.jsonl", "--language", "german"]
    assert run(*arguments, "-o", tmp_path / "g.gguf").exit_code == 0
    assert run(*arguments, "--in", calibrated, "-o", tmp_path / "both.gguf").exit_code == 0
    assert run(MODEL, "--in", calibrated, "--in", tmp_path / "g.gguf", "-o", tmp_path / "sum.gguf").exit_code == 0
    first, second, both, added = (
        read_calibration(path)
        for path in (calibrated, tmp_path / "g.gguf", tmp_path / "both.gguf", tmp_path / "sum.gguf")
    )
    for name, of in added.columns.items():
        one, other = first.columns[name], second.columns[name]
        assert of.count == one.count + other.count
        np.testing.assert_allclose(of.squares, one.squares.astype(float) + other.squares, rtol=1e-6)
        np.testing.assert_allclose(of.sums, one.sums.astype(float) + other.sums, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(both.columns[name].squares, of.squares)
    assert len(added.clips) == len(first.clips) + 1
    result = run(MODEL, "--in", calibrated, "--in", calibrated, "-o", tmp_path / "twice.gguf")
    check_one_line(result, calibrated, "was calibrated with the clip .*, as .* was; expected other clips; leave it out")
    result = run("tiny", "--in", calibrated, "--show")
    check_one_line(result, calibrated, "has sums of .*, which no file of this model has; expected the same model's")


@pytest.mark.parametrize(
    ("arguments", "where", "says"),
    [
        (["--audio", JFK], "--output", "is not given; expected the calibration file to write: -o calibration.gguf"),
        (
            ["--audio", JFK, "-o", "c.gguf"],
            "--audio",
            "names no clip but the one that validates files; give other clips",
        ),
        (["--audio", JFK, "-o", "c.gguf", "--language", "klingon"], "--language", "'klingon'; expected "),
        (["--in", TINY / "model" / "vocab.json", "--show"], TINY / "model" / "vocab.json", ""),
        ([*SOUND, "--insecure-cluster"], "--insecure-cluster", "there is no --cluster"),
        ([*SOUND, "--cluster", "far:1"], "--cluster", "far:1 is not encrypted, and not on this machine; use tls://"),
        ([*SOUND, *CLUSTER, "--hessian"], "--cluster", "collects Σx² and Σx alone, and --hessian asks for more; leave"),
        ([*SOUND, *CLUSTER, "--sensitivity"], "--cluster", "collects Σx² and Σx alone, and --sensitivity asks for "),
        ([*CLUSTER, "--in", "a.gguf", "-o", "c.gguf"], "--cluster", "there is no --audio to run, only --in to add; le"),
        ([*SOUND, *CLUSTER, "--adapter", TINY / "noise"], "--cluster", "tiny-qwen3-noise has the adapter noise, which"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    arguments: list[Any], where: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(MODEL, *arguments)
    assert result.exit_code == 2
    assert f"error: {where}: {says}" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["-o", "--dat"])
def test_a_file_that_is_there_is_replaced_only_if_forced(
    calibrated: Path, manifest: Path, tmp_path: Path, option: str
) -> None:
    there = tmp_path / "notes.txt"
    there.write_text("mine")
    for what in (["--in", calibrated], ["--audio", manifest, *(["-o", tmp_path / "c.gguf"] if option != "-o" else [])]):
        result = run(MODEL, *what, option, there)
        assert result.exit_code == 2
        check_one_line(result, there, "already exists; --force replaces it")
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        assert there.read_text() == "mine"
    assert run(MODEL, "--in", calibrated, option, there, "--force").exit_code == 0
    assert read_calibration(there).columns.keys() == read_calibration(calibrated).columns.keys()


def test_a_file_that_appears_meanwhile_is_kept(calibrated: Path, manifest: Path, tmp_path: Path) -> None:
    """What was computed is kept, too: the same command with `force` resumes."""
    options = CalibrateOptions(MODEL, tmp_path / "c.gguf", [manifest], 1, language="english")

    def progress(now: Progress) -> None:
        if now.phase == "calibrating" and now.ended:
            (tmp_path / "c.gguf").write_text("mine")

    with pytest.raises(InputError, match=r"c\.gguf: already exists; --force replaces it"):
        calibrate(options, progress=progress)
    assert (tmp_path / "c.gguf").read_text() == "mine"
    said = list[str]()
    calibrate(replace(options, force=True), message=said.append)
    assert any(line.endswith("c.gguf.part: resumed") for line in said)
    assert (tmp_path / "c.gguf").read_bytes() == calibrated.read_bytes()


def test_the_interface_gives_the_record(calibrated: Path, manifest: Path) -> None:
    found = calibrate(CalibrateOptions(MODEL, others=[calibrated]))
    assert isinstance(found, Calibration)
    assert found.columns.keys() == read_calibration(calibrated).columns.keys()


def test_every_matrix_is_quantized_with_it(calibrated: Path, tmp_path: Path) -> None:
    """The file says which calibration, and no matrix was named that no clip reached."""
    out = converted(tmp_path / "out", "--outtype", "q4_k", "--imatrix", str(calibrated))
    [file] = out.glob("*.gguf")
    metadata = GGUFReader(file).fields
    assert metadata["mimo_convert.imatrix"].contents() == read_calibration(calibrated).sha256
    assert metadata["mimo_convert.quantizer"].contents() == "simd + imatrix"
