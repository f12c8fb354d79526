"""Read a calibration file of any form."""

from pathlib import Path

from mimo_convert.files import MB, read_bytes
from mimo_convert.formats.calibration import Calibration
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
    data = read_bytes(path, MAX_BYTES, expected=EXPECTED)
    form = gguf_form if data.startswith(MAGIC) else legacy
    found = form.parse(path, data, EXPECTED)
    if not any(of.is_reached for of in found.columns.values()):
        what = "holds zeros alone" if found.columns else "holds no sums of a matrix"
        raise InputError(path, what, expected="sums of what the matrices of a model are multiplied with")
    return found
