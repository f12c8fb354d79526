"""Calibration files: importance matrices in the forms of llama.cpp and CrispASR, with what else is known."""

from .gguf_form import chunks_of, datasets_of, write_calibration
from .legacy import write_legacy
from .read import read_calibration

__all__ = ["chunks_of", "datasets_of", "read_calibration", "write_calibration", "write_legacy"]
