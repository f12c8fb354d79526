"""Clips to measure on: those that a calibration holds out, and none that it was made with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, SELECTION, Calibration, CalibrationClip
from quantize.errors import InputError
from runtime_check.audio.manifests import AudioFile
from runtime_check.calibrate.held_out import held_out_of

PARTS = {"a": CALIBRATION, "b": SELECTION, "c": HOLD_OUT, "d": CALIBRATION, "e": HOLD_OUT}


def calibration(is_synthetic: bool = False) -> Calibration:
    clips = tuple(CalibrationClip(f"{name}.wav", f"sha of {name}", part) for name, part in PARTS.items())
    return Calibration(Path("/out/calibration.gguf"), "ab" * 32, "", {}, clips=clips, is_synthetic=is_synthetic)


def clips(names: str) -> list[AudioFile]:
    return [AudioFile(Path(f"/other/names/{name}{i}.wav"), 1.0, f"sha of {name}", None) for i, name in enumerate(names)]


def chosen(found: Sequence[AudioFile]) -> str:
    return "".join(clip.sha256[-1] for clip in found)


def test_clips_are_chosen_by_their_hash_whatever_they_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    found, held_out = held_out_of(clips("abcdexy"), calibration(is_synthetic=True))
    assert chosen(found) == "ce"
    assert (held_out.calibration, held_out.is_held_out, held_out.is_synthetic) == ("calibration.gguf", True, True)
    said = "2 clips that calibration.gguf holds out; 5 left out, of which it was made with 3"
    assert said in capsys.readouterr().err
    assert chosen(held_out_of(clips("ec"), calibration())[0]) == "ec"
    assert capsys.readouterr().err == ""


def test_other_clips_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    found, held_out = held_out_of(clips("xy"), calibration())
    assert (chosen(found), held_out.is_held_out) == ("xy", False)
    assert "2 clips are other ones than calibration.gguf holds out: c.wav, e.wav" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("a", "a0.wav: is one of the calibration clips of calibration.gguf; expected c.wav, e.wav"),
        ("xbad", "b1.wav: is one of the selection clips of calibration.gguf, and 2 more were used, too"),
    ],
)
def test_clips_that_were_calibrated_with_are_refused_by_name(names: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        held_out_of(clips(names), calibration())
    assert str(raised.value).startswith(f"/other/names/{says}")


def test_a_clip_of_a_calibration_that_holds_none_out_is_refused_with_what_to_give() -> None:
    alone = replace(calibration(), clips=(CalibrationClip("a.wav", "sha of a", CALIBRATION),))
    with pytest.raises(InputError) as raised:
        held_out_of(clips("a"), alone)
    says = "expected other clips: calibration.gguf holds none out; give clips that it was not made with"
    assert raised.value.message == f"is one of the calibration clips of calibration.gguf; {says}"


def test_a_file_that_records_no_clips_holds_none_out(capsys: pytest.CaptureFixture[str]) -> None:
    other = Calibration(Path("imatrix.dat"), "cd" * 32, "", {})
    assert chosen(held_out_of(clips("ab"), other)[0]) == "ab"
    assert "holds out: it records none" in capsys.readouterr().err
