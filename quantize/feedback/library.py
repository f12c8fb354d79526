"""The kernels of error feedback: compiled for several instruction sets, which all give the same bytes.

Where none was built for the platform, there is no error feedback. Calls release the GIL.
"""

import ctypes
from functools import cache

import quantize
from quantize.backends import BackendWarning
from quantize.errors import InputError
from quantize.libraries import load_library, variant_names
from quantize.types import Type

LIBRARY = "feedback/kernels/feedback.so"
BLOCK = 256  # columns that are handled together: the rows must be a multiple, as they are of a super-block

CFloats = ctypes.c_void_p


class CFactor(ctypes.Structure):
    """`feedback::Factor` of variant.h."""

    _fields_ = [
        ("a", CFloats), ("d", CFloats), ("raw", CFloats), ("n", ctypes.c_int64), ("row", ctypes.c_int64),
    ]  # fmt: skip


class CRounding(ctypes.Structure):
    """`feedback::Rounding` of variant.h."""

    _fields_ = [
        ("factor", CFactor), ("moments", CFloats), ("order", CFloats), ("places", CFloats), ("rows", CFloats),
        ("n_rows", ctypes.c_int64), ("sweeps", ctypes.c_int), ("blocks", CFloats), ("work", CFloats),
    ]  # fmt: skip


@cache
def variants() -> tuple[str, ...]:
    """Instruction sets that both the processor and the kernels support, the fastest first."""
    found = _library()
    return variant_names(found.feedback_variant) if found else ()


def takes(ggml_type: Type) -> bool:
    """Whether weights can be rounded to `ggml_type` with error feedback."""
    return bool(variants()) and bool(library().feedback_takes(0, ggml_type.ggml))


def library() -> ctypes.CDLL:
    """The kernels. Raises InputError where there are none."""
    found = _library()
    if found is None:
        raise InputError("--feedback", "there are no kernels for this processor or platform", todo="leave it out")
    return found


@cache
def _library() -> ctypes.CDLL | None:
    found = load_library(quantize.__path__, LIBRARY, "there is no error feedback", BackendWarning)
    if found is None:
        return None
    number, size, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    factor = ctypes.POINTER(CFactor)
    signatures = {
        "variant": (ctypes.c_char_p, [number]),
        "takes": (ctypes.c_bool, [number, number]),
        "shrink_rows": (None, [number, pointer, pointer, ctypes.c_float, ctypes.c_float, size, factor]),
        "factor_block": (ctypes.c_bool, [number, size, factor]),
        "factor_strips": (None, [number, size, size, size, factor]),
        "subtract_block": (None, [number, size, size, factor]),
        "work_size": (size, [number, size, size]),
        "round_rows": (None, [number, number, ctypes.POINTER(CRounding)]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(found, f"feedback_{name}")
        function.restype, function.argtypes = result, arguments
    return found
