"""Quantization backends: the code that makes blocks, by the names that options and files have for it."""

GGML, SIMD, AUTO = "ggml", "simd", "auto"
CONTRACTED = "ggml-contracted"  # by a ggml that rounds a × b + c once, as on ARM: some blocks differ
IMATRIX = "imatrix"  # beside a backend: with an importance matrix
FEEDBACK = "feedback"  # beside these: codes with error feedback
BACKENDS = (AUTO, GGML, SIMD)


class BackendWarning(UserWarning):
    """ggml does the work of a type although a kernel was expected."""
