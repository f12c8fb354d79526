"""The tensors that encoder, decoder and vocoder have in common: linear layers, norms, and pre-norm blocks."""

from collections.abc import Iterator

from mimo_convert.model.family import Tensor, one
from mimo_convert.model.uses import ATTENTION_K, ATTENTION_OUTPUT, ATTENTION_Q, ATTENTION_V, MLP_DOWN, MLP_UP

MATRIX = "matrix"  # the role of weights that get the requested type

USES = {
    ATTENTION_Q: r"attn\.q", ATTENTION_K: r"attn\.k", ATTENTION_V: r"attn\.v", ATTENTION_OUTPUT: r"attn\.o",
    MLP_UP: "fc1", MLP_DOWN: "fc2",
}  # fmt: skip


def norm(ours: str, theirs: str, width: int) -> Iterator[Tensor]:
    """Weight and bias, (width,) each, of a LayerNorm or GroupNorm; `ours` and `theirs` are its prefixes in file and
    checkpoint."""
    yield one(f"{ours}.weight", f"{theirs}.weight", "norm", width)
    yield one(f"{ours}.bias", f"{theirs}.bias", "bias", width)


def linear(ours: str, theirs: str, n_out: int, n_in: int, *, bias: bool = True, role: str = MATRIX) -> Iterator[Tensor]:
    """Weight, (n_out, n_in), and bias of a linear layer."""
    yield one(f"{ours}.weight", f"{theirs}.weight", role, n_out, n_in)
    if bias:
        yield one(f"{ours}.bias", f"{theirs}.bias", "bias", n_out)


def block(ours: str, theirs: str, width: int, ffn_dim: int, role: str = MATRIX) -> Iterator[Tensor]:
    """A pre-norm transformer block. Attention keys have no bias."""
    yield from norm(f"{ours}.attn_norm", f"{theirs}.self_attn_layer_norm", width)
    yield from linear(f"{ours}.attn.q", f"{theirs}.self_attn.q_proj", width, width, role=role)
    yield from linear(f"{ours}.attn.k", f"{theirs}.self_attn.k_proj", width, width, bias=False, role=role)
    yield from linear(f"{ours}.attn.v", f"{theirs}.self_attn.v_proj", width, width, role=role)
    yield from linear(f"{ours}.attn.o", f"{theirs}.self_attn.out_proj", width, width, role=role)
    yield from norm(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm", width)
    yield from linear(f"{ours}.fc1", f"{theirs}.fc1", ffn_dim, width, role=role)
    yield from linear(f"{ours}.fc2", f"{theirs}.fc2", width, ffn_dim, role=role)
