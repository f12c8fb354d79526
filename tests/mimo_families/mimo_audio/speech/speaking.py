"""Random checkpoints that speak: text and speech mix, and forbidden ids are often the likeliest."""

from pathlib import Path
from typing import Any

import torch

from tests.conftest import SMALL_LM
from tests.damage import edit_tensor
from tests.synthetic import write_speech_lm

SPEAKING_LM: dict[str, Any] = SMALL_LM | {
    "input_local_dim": 64, "local_dim": 64, "local_attn_heads": 4, "local_layers": 2, "local_ffn_dim": 128,
}  # fmt: skip
LIKE_EMPTY, LIKE_ZEROEMB = 22, 5  # rows of heads that those of `<|empty|>` and of zeroemb ids follow,
EMPTY_TIMES, ZEROEMB_TIMES = 32, 8  # so many times as large


def write_speaking_lm(folder: Path, *, seed: int = 0, dtype: str = "F32", **config: Any) -> Path:
    """A random speech LM whose head's row for `<|empty|>` is 32 × row 22, and whose codebook heads end with 8 × row 5:
    a random head would never say `<|empty|>`."""
    values = SPEAKING_LM | config
    write_speech_lm(folder, seed=seed, dtype=dtype, **values)
    empty = values["vocab_size"] - 7 - 30 + 24  # seven ids of padding behind 30 added tokens

    def set_row(row: int, like: int, factor: float) -> Any:
        def change(weights: torch.Tensor) -> torch.Tensor:
            weights[row] = factor * weights[like]
            return weights

        return change

    edit_tensor(folder, "lm_head.weight", set_row(empty, LIKE_EMPTY, EMPTY_TIMES))
    for c in range(8):
        edit_tensor(folder, f"local_transformer_lm_heads.{c}.weight", set_row(-1, LIKE_ZEROEMB, ZEROEMB_TIMES))
    return folder
