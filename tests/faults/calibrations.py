"""Defects of importance matrices, calibrations and recipes, the commands that refuse them, and what these say."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from click.testing import CliRunner, Result

from mimo_commands.calibrate import main as mimo_calibrate
from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, CalibrationClip, ColumnSums
from mimo_convert.formats.imatrix import read_calibration, write_calibration, write_legacy
from runtime_check.audio.jfk import JFK
from tests.mimo_convert.budget.made_up import written_calibration
from tests.mimo_convert.formats.moments import write_calibrated
from tests.opened import TINY_ASR
from tests.system.calibrations import Columns, write_imatrix

Q, UPS = "model.layers.0.attn.q.weight", [f"model.layers.{i}.ffn.up.weight" for i in (0, 1)]
CONVERT, CHECK, CALIBRATE = "mimo-convert --imatrix", "mimo-check --imatrix", "mimo-calibrate --in"
TARGET, HELD_OUT, FEEDBACK = "mimo-convert --target-size", "mimo-check --calibration", "mimo-convert --feedback"


class CalibrationDefect(NamedTuple):
    """What is wrong; the command that tells; how it is run, in a folder; and what it says. `refused`: with exit status
    2, in a line, nothing written."""

    name: str
    command: str
    run: Callable[[Path], Result]
    says: str
    refused: bool = True


def convert(folder: Path, *options: str) -> Result:
    """mimo-convert of `tiny` into `folder`/out."""
    return CliRunner().invoke(mimo_convert, ["tiny", "--out", str(folder / "out"), "--no-check", *options])


def given(make: Callable[[Path], object]) -> Callable[[Path], Result]:
    """mimo-convert with the importance matrix that `make` writes."""

    def run(folder: Path) -> Result:
        make(folder / "x.gguf")
        return convert(folder, "--outtype", "q4_k", "--imatrix", str(folder / "x.gguf"))

    return run


def changed(change: Callable[[Columns], object]) -> Callable[[Path], Result]:
    """mimo-convert with sums of `tiny` that were changed."""
    return given(lambda path: write_imatrix(TINY_ASR, path, change))


def valued(value: float) -> Callable[[Path], Result]:
    """One of the sums is another value."""

    def change(columns: Columns) -> None:
        squares = columns[Q].squares.copy()
        squares[3] = value
        columns[Q] = replace_squares(columns[Q], squares)

    return changed(change)


def replace_squares(columns: ColumnSums, squares: np.ndarray) -> ColumnSums:  # type: ignore[type-arg]
    return ColumnSums(squares, np.zeros(len(squares), np.float32), columns.count)


def of_zeros(columns: Columns) -> None:
    for name, of in columns.items():
        columns[name] = replace_squares(of, np.zeros_like(of.squares))


def exchanged(path: Path) -> None:
    """The names of two layers' sums, in the file."""
    write_imatrix(TINY_ASR, path)
    one, other = (name.encode() for name in UPS)
    data = path.read_bytes().replace(one, b"?" * len(one)).replace(other, one)
    path.write_bytes(data.replace(b"?" * len(one), other))


def swapped(columns: Columns) -> None:
    """As `exchanged`, before the file is written: its own hash is right."""
    columns[UPS[0]], columns[UPS[1]] = columns[UPS[1]], columns[UPS[0]]


def cut_legacy(path: Path) -> None:
    """A .dat file that ends within its sums."""
    write_imatrix(TINY_ASR, path)
    write_legacy(path, read_calibration(path))
    path.write_bytes(path.read_bytes()[:-1000])


def another_at_check(folder: Path) -> Result:
    """A file is checked with sums whose layers were swapped."""
    right, wrong = folder / "right.gguf", folder / "wrong.gguf"
    write_imatrix(TINY_ASR, right)
    write_imatrix(TINY_ASR, wrong, swapped)
    made = convert(folder, "--outtype", "q4_k", "--imatrix", str(right))
    assert made.exit_code == 0, made.output
    [file] = (folder / "out").glob("mimo-asr-*.gguf")
    return CliRunner().invoke(mimo_check, [str(file), "--checkpoint", "tiny", "--imatrix", str(wrong)])


def beyond_budget(folder: Path) -> Result:
    """A rule that leaves no room for the rest."""
    calibration = written_calibration("tiny", folder / "x.gguf")
    options = ("--target-size", "3.2MB", "--calibration", str(calibration), "--tensor-type", r"ffn\.down=f16")
    return convert(folder, *options)


def calibrated_with(path: Path, part: str) -> Path:
    """A calibration of `tiny` in which the JFK clip has that part."""
    found = read_calibration(write_imatrix(TINY_ASR, path))
    clip = CalibrationClip(JFK.name, sha256(JFK.read_bytes()).hexdigest(), part)
    write_calibration(path, replace(found, clips=(clip,)))
    return path


def judged_by_its_own(folder: Path) -> Result:
    """A file is judged by a clip that it was calibrated with."""
    made = convert(folder, "--outtype", "q8_0")
    assert made.exit_code == 0, made.output
    [file] = (folder / "out").glob("mimo-asr-*.gguf")
    calibration = calibrated_with(folder / "x.gguf", CALIBRATION)
    options = ("--reference", "tiny", "--audio", str(JFK), "--calibration", str(calibration))
    return CliRunner().invoke(mimo_check, [str(file), *options])


def added_up(folder: Path) -> Result:
    """A calibration holds out a clip that another one was made with."""
    others = [calibrated_with(folder / f"{part}.gguf", part) for part in (HOLD_OUT, CALIBRATION)]
    arguments = [word for other in others for word in ("--in", str(other))]
    return CliRunner().invoke(mimo_calibrate, ["tiny", *arguments, "-o", str(folder / "out.gguf")])


def of_noise(folder: Path) -> Result:
    """Second moments of noise alone."""
    noise = write_calibrated(TINY_ASR, folder / "x.gguf", noise=True)
    return convert(folder, "--outtype", "q4_k", "--imatrix", str(noise), "--feedback")


CALIBRATIONS = [
    CalibrationDefect("of another model", CONVERT, given(lambda path: written_calibration("tiny-qwen3", path)),
        "is of another model (qwen3asr):"),
    CalibrationDefect("of another layout: other columns", CONVERT,
        changed(lambda columns: columns.update({Q: replace_squares(columns[Q], np.ones(128, np.float32))})),
        f"is of another model (mimo_asr): {Q} has 128 columns; expected 256"),
    CalibrationDefect("of another layout: more layers", CONVERT,
        changed(lambda columns: columns.update({Q.replace("0", "9"): columns[Q]})),
        f"has an entry of {Q.replace('0', '9')}, which is no tensor of the model"),
    CalibrationDefect("of zeros", CONVERT, changed(of_zeros), "holds zeros alone"),
    CalibrationDefect("with NaN", CONVERT, valued(np.nan), f"{Q} holds nan at 3; expected a finite number from 0"),
    CalibrationDefect("with a negative sum of squares", CONVERT, valued(-1),
        f"{Q} holds -1 at 3; expected a finite number from 0"),
    CalibrationDefect("of the wrong length, as `.dat`", CONVERT, given(cut_legacy),
        f"damaged: it ends in the values of {UPS[1]}"),
    CalibrationDefect("with layers swapped in the file", CONVERT, given(exchanged),
        "its tensors are not those that mimo-calibrate wrote: some were altered, or exchanged"),
    CalibrationDefect("with layers swapped, the file's hash made anew", CHECK, another_at_check, "has the sha256"),
    CalibrationDefect("a recipe that exceeds its budget", TARGET, beyond_budget,
        "--target-size 3.2MB: cannot be met:"),
    CalibrationDefect("a clip that was calibrated with, as if held out", HELD_OUT, judged_by_its_own,
        "is one of the calibration clips of x.gguf"),
    CalibrationDefect("held out here, calibrated with there", CALIBRATE, added_up,
        "has the clip jfk.wav as calibration; expected hold-out"),
    CalibrationDefect("a corpus of noise alone", FEEDBACK, of_noise,
        "matrices by how they are rounded: 46 × plain", refused=False),
]  # fmt: skip


def calibration_table() -> list[str]:
    """The table of docs/defects.md."""
    rows = (f"| {defect.name} | `{defect.command}` | `` {defect.says} `` |" for defect in CALIBRATIONS)
    return ["| defect | found by | message |", "| --- | --- | --- |", *rows]
