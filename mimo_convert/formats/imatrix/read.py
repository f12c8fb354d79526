"""Read a calibration file of any form."""

import os
from pathlib import Path

from mimo_convert.files import MB, input_errors, open_regular, read_bytes
from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.gguf import read_gguf
from quantize.errors import InputError

from . import gguf_form, legacy

MAGIC = b"GGUF"
MAX_BYTES = 1024 * MB  # the largest of a speech model has 60 MB
EXPECTED = "an importance matrix: of mimo-calibrate, llama-imatrix or CrispASR"


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file, or an importance matrix of llama.cpp, in either of its forms, or of CrispASR.

    Raises InputError for another kind of file, a damaged one, sums that are negative or not finite, and a file of zeros
    alone.
    """
    check_large(path)
    data = read_bytes(path, MAX_BYTES, expected=EXPECTED)
    form = gguf_form if data.startswith(MAGIC) else legacy
    found = form.parse(path, data, EXPECTED)
    if not any(of.is_reached for of in found.columns.values()):
        what = "holds zeros alone" if found.columns else "holds no sums of a matrix"
        raise InputError(path, what, expected="sums of what the matrices of a model are multiplied with")
    return found


def check_large(path: Path) -> None:
    """Raise InputError for a GGUF file of something else that is too large to be read whole, as models are."""
    if not os.path.isfile(path) or os.path.getsize(path) <= MAX_BYTES:
        return
    with open_regular(path, expected=EXPECTED) as stream, input_errors(path, "cannot be read"):
        is_gguf = stream.read(len(MAGIC)) == MAGIC
    if is_gguf:
        gguf_form.check_kind(read_gguf(path), EXPECTED)
