"""What a file records of the importance matrix that it was quantized with: llama.cpp's keys, and its sha256."""

from collections.abc import Mapping

from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.imatrix import chunks_of, datasets_of

from .provenance import IMATRIX, IMATRIX_DATASET, IMATRIX_FILE, Provenance

SYNTHETIC = "synthetic speech: "  # before the dataset of a calibration without a recording
ENTRIES, CHUNKS = "quantize.imatrix.entries_count", "quantize.imatrix.chunks_count"
KEYS = (IMATRIX, IMATRIX_FILE, IMATRIX_DATASET, ENTRIES, CHUNKS)


def imatrix_entries(calibration: Calibration | None) -> Mapping[str, str | int]:
    """The keys of a file that was quantized with `calibration`, and their values; empty ones of a file without."""
    if calibration is None:
        return dict.fromkeys(KEYS, "")
    first, *others = (*datasets_of(calibration), "")
    kind = SYNTHETIC if calibration.is_synthetic else ""
    values = (
        calibration.sha256,
        calibration.where.name,
        f"{kind}{first} and {len(others) - 1} more" if len(others) > 1 else f"{kind}{first}",
        len(calibration.columns),
        chunks_of(calibration),
    )
    return dict(zip(KEYS, values, strict=True))


def imatrix_words(told: Provenance) -> str:
    """The importance matrix of a file, such as `calibration.gguf, of synthetic speech alone`; empty without one."""
    if not told.imatrix:
        return ""
    name = told.imatrix_file or f"sha256 {told.imatrix[:16]}…"
    return f"{name}, of synthetic speech alone" if told.imatrix_dataset.startswith(SYNTHETIC) else name
