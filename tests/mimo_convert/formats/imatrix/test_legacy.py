"""`.dat` files of llama.cpp: as they are written, read, and damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.formats.calibration import Calibration, CalibrationClip, ColumnSums
from mimo_convert.formats.imatrix import read_calibration, write_legacy
from quantize.errors import InputError

SQUARES = np.arange(4, dtype=np.float32)


def i32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def text(value: bytes) -> bytes:
    return i32(len(value)) + value


def entry(name: bytes = b"w", calls: int = 2, values: bytes = SQUARES.tobytes(), n: int | None = None) -> bytes:
    return text(name) + i32(calls, len(values) // 4 if n is None else n) + values


def test_it_is_written_as_llama_cpp_did(tmp_path: Path) -> None:
    columns = {name: ColumnSums(SQUARES, np.empty(0, np.float32), 2) for name in ("w2", "w")}
    clips = (CalibrationClip("a.wav", "a" * 64, "calibration"), CalibrationClip("b.wav", "b" * 64, "hold-out"))
    write_legacy(tmp_path / "x.dat", Calibration(Path("x"), "", "mimo_asr", columns, clips=clips))
    expected = i32(2) + entry() + entry(b"w2") + i32(2) + text(b"a" * 64 + b"  a.wav")
    assert (tmp_path / "x.dat").read_bytes() == expected
    found = read_calibration(tmp_path / "x.dat")
    assert {n: (of.squares.tolist(), of.count) for n, of in found.columns.items()} == dict.fromkeys(
        columns, ([0, 1, 2, 3], 2)
    )
    assert (found.chunks, found.datasets) == (2, ("a" * 64 + "  a.wav",))


def test_old_files_end_behind_the_entries_and_zero_calls_are_means(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(i32(1) + entry(calls=0))
    found = read_calibration(tmp_path / "x.dat")
    assert (found.columns["w"].count, found.columns["w"].squares.tolist(), found.chunks) == (1, [0, 1, 2, 3], 0)


NEITHER = "is neither a GGUF file nor a .dat importance matrix"
NAN = np.array([0, np.nan], np.float32).tobytes()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "damaged: it ends in the number of entries; expected an importance matrix"),
        (b"RIFF" + bytes(100), f"{NEITHER}; expected an importance matrix: of mimo-calibrate, "),
        (b"one, two, three", NEITHER),
        (i32(1) + i32(-5), "damaged: the length of a name is -5"),
        (i32(1) + i32(2**20), "damaged: the length of a name is 1048576"),
        (i32(1) + entry(n=2**30), "damaged: it ends in the values of w"),
        (i32(1) + entry(n=-1), "damaged: the columns of w is -1"),
        (i32(2) + entry(), "damaged: it ends in the length of a name"),
        (i32(2) + entry() + entry(), "duplicate entry w"),
        (i32(1) + entry(b"\xff"), "damaged: 'utf-8' codec"),
        (i32(1) + entry(values=NAN), "w holds nan at 1; expected a finite number from 0"),
        (i32(1) + entry() + i32(1) + text(b"wiki") + b"more", "damaged: 4 bytes behind its end"),
        (i32(1) + entry(values=bytes(8)), "holds zeros alone"),
        (i32(0), "holds no sums of a matrix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x.dat").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_calibration(tmp_path / "x.dat")
    assert str(caught.value).startswith(f"{tmp_path / 'x.dat'}: {says}")
