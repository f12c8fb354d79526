"""Files of a model with 2-D convolutions."""

from tests.mimo_families.qwen3_asr.conftest import published, qwen3_asr, qwen3_file  # noqa: F401
