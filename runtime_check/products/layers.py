"""Layers between products, by the kernels of `products/kernels`: attention and GELU, each one operation of a graph.

Both are computed in float32, as ggml computes them; sums of floats are in another order.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import ggml
import numpy as np

from . import library
from .comparison import SmallGraph, custom, difference

MOST_SHARED, MOST_DIM, DIMS = 64, 256, 16  # heads that share one of keys; of a head, a multiple of DIMS
TOLERANCE = 4e-6  # of the result's norm; of a step, whose values nearly cancel, ggml's sums are the less exact ones
SAMPLE_QUERIES = 70, 1  # of a prompt, no multiple of what is computed at once, and of a step


class Layer(ctypes.Structure):
    """`Layer` of kernels/products.cpp: a layer in a graph, as long as which it must live."""

    _fields_ = [
        ("layers", ctypes.c_void_p), ("scale", ctypes.c_float),
        ("claimed", ctypes.c_int64), ("finished", ctypes.c_int64),
    ]  # fmt: skip


def new_layer(variant: str, scale: float = 1.0) -> Layer:
    """A layer by a variant of the kernels; `scale` is that of attention's scores."""
    return Layer(library.layers(variant), scale, 0, 0)


def covers_attention(q: Any, k: Any, v: Any, mask: Any) -> bool:
    """Whether the kernel computes attention of q (…, T, n_heads, head_dim) over k, v (…, S, n_kv_heads, head_dim): of
    floats, each row of a head in one piece, under no mask or one of halves for all heads."""
    dim, n_heads, _, batch = q.contents.ne[:4]
    shared = n_heads // k.contents.ne[1]
    return (
        all(x.contents.type == ggml.GGML_TYPE_F32 and x.contents.nb[0] == 4 for x in (q, k, v))
        and all(x.contents.ne[0] == dim and x.contents.ne[3] == batch for x in (k, v))
        and dim % DIMS == 0 and dim <= MOST_DIM and shared <= MOST_SHARED and n_heads % k.contents.ne[1] == 0
        and (mask is None or (mask.contents.type == ggml.GGML_TYPE_F16 and mask.contents.ne[2] == 1))
    )  # fmt: skip


def add_attention(context: Any, layer: Layer, q: Any, k: Any, v: Any, mask: Any) -> Any:
    """The node of attention: (… × T, n_heads × head_dim)."""
    head_dim, n_heads, n, batch = q.contents.ne[:4]
    shape = (head_dim * n_heads, n * batch, 1, 1)
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    return custom(context, ggml.GGML_TYPE_F32, shape, operands, "products_attend", layer)


def add_ggml_attention(context: Any, scale: float, q: Any, k: Any, v: Any, mask: Any) -> Any:
    """The same by ggml's flash attention."""
    head_dim, n_heads, n, batch = q.contents.ne[:4]
    q, k, v = (ggml.ggml_permute(context, x, 0, 2, 1, 3) for x in (q, k, v))  # (…, heads, T, head_dim)
    out = ggml.ggml_flash_attn_ext(context, q, k, v, mask, scale, 0.0, 0.0)  # (…, T, heads, head_dim)
    return ggml.ggml_reshape_2d(context, out, head_dim * n_heads, n * batch)


def add_gelu(context: Any, layer: Layer, x: Any) -> Any:
    """The node of GELU of x, floats in one piece: the same shape."""
    return custom(context, ggml.GGML_TYPE_F32, x.contents.ne[:4], [x], "products_gelu", layer)


def attention_difference(variant: str) -> float:
    """The largest difference of the variant's attention from ggml's, relative to the norm, of Gaussian activations:
    causal attention of a prompt, with tiles and vectors that are not full, and of a step."""
    return max(_attention_difference(variant, queries) for queries in SAMPLE_QUERIES)


def _attention_difference(variant: str, queries: int) -> float:
    """That of the last positions, of four heads, over all keys, of two."""
    draw, keys, head_dim = np.random.default_rng(0), 150, 48
    shapes = (queries, 4, head_dim), (keys, 2, head_dim), (keys, 2, head_dim)
    arrays = [draw.standard_normal(shape, np.float32) for shape in shapes]
    seen = np.arange(keys) <= np.arange(queries)[:, None] + keys - queries
    arrays.append(np.where(seen, np.float16(0), np.float16(-np.inf)))
    scale = head_dim**-0.5
    layer = new_layer(variant, scale)
    return _difference(
        lambda context, *tensors: add_attention(context, layer, *tensors),
        lambda context, *tensors: add_ggml_attention(context, scale, *tensors),
        *arrays,
    )


def gelu_difference(variant: str) -> float:
    """The same of GELU, of values from -6 to 6."""
    layer = new_layer(variant)
    return _difference(
        lambda context, x: add_gelu(context, layer, x), ggml.ggml_gelu_erf, np.linspace(-6, 6, 10_007, dtype=np.float32)
    )


def _difference(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> float:
    results = []
    for node in (ours, theirs):
        graph = SmallGraph(4 * sum(array.nbytes for array in arrays))
        graph.ends_in(node(graph.context, *map(graph.tensor, arrays)))
        graph.run(1)
        results.append(graph.result())
    return difference(*results)
