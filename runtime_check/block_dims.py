"""Sizes of a transformer block, as its harness and its PyTorch reference read them."""

from typing import Protocol


class BlockDims(Protocol):
    """Sizes of a Qwen2 block."""

    @property
    def n_heads(self) -> int: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def rope_theta(self) -> float: ...
    @property
    def rms_norm_eps(self) -> float: ...
