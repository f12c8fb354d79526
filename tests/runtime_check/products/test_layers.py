"""Attention and GELU of the kernels: against float64, and the same bytes by every variant."""

import math
import warnings
from typing import Any

import ggml
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.errors import InputError
from runtime_check.choices import AUTO, GGML, OWN
from runtime_check.products import choice, layers, library
from runtime_check.products.choice import ATTENTION, GELU, Products
from runtime_check.products.comparison import Floats, SmallGraph

from .weights import VARIANTS

pytestmark = pytest.mark.skipif(not VARIANTS, reason="no kernels for this processor")

Mask = npt.NDArray[np.float16]
HIDDEN = np.float16(-np.inf)


def heads(*shape: int, seed: int = 0) -> Floats:
    """(batch, positions, heads, head_dim) of Gaussian activations."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def causal(n: int, n_keys: int) -> Mask:
    """Queries are the last n of the positions."""
    return np.where(np.arange(n_keys) <= np.arange(n)[:, None] + n_keys - n, np.float16(0), HIDDEN)


def attend(
    q: Floats, k: Floats, v: Floats, mask: Mask | None, variant: str = VARIANTS[0] if VARIANTS else "",
    threads: int = 1, by_head: bool = False,
) -> Floats:  # fmt: skip
    """(batch × T, n_heads × head_dim) by a variant, or by ggml without one. `by_head`: keys and values lie head by
    head, as in a cache."""
    graph = SmallGraph(4 * (q.nbytes + k.nbytes + v.nbytes) + (0 if mask is None else mask.nbytes))
    tensors = [graph.tensor(q)]
    for x in (k, v):
        tensor = graph.tensor(x.transpose(0, 2, 1, 3) if by_head else x)
        tensors.append(ggml.ggml_permute(graph.context, tensor, 0, 2, 1, 3) if by_head else tensor)
    tensors.append(None if mask is None else graph.tensor(mask))
    scale = q.shape[-1] ** -0.5
    layer = layers.new_layer(variant, scale) if variant else None
    if layer:
        assert layers.covers_attention(*tensors)
        graph.ends_in(layers.add_attention(graph.context, layer, *tensors))
    else:
        graph.ends_in(layers.add_ggml_attention(graph.context, scale, *tensors))
    graph.run(threads)
    return graph.result()


def exact(q: Floats, k: Floats, v: Floats, mask: Mask | None) -> npt.NDArray[np.float64]:
    """Attention in float64."""
    batch, n, n_heads, head_dim = q.shape
    k, v = (np.repeat(x.astype(np.float64), n_heads // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k) * head_dim**-0.5
    if mask is not None:
        scores = scores + mask.astype(np.float64).reshape(-1, 1, n, k.shape[1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", shares, v).reshape(batch * n, n_heads * head_dim)


def far(found: Floats, expected: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_attention_is_that_in_float64_of_any_shape_the_same_bytes_by_every_variant(data: st.DataObject) -> None:
    def draw(name: str, least: int, most: int) -> int:
        return data.draw(st.integers(least, most), name)

    n_kv, shared, head_dim = draw("heads of keys", 1, 3), draw("shared by", 1, 9), 16 * draw("head_dim / 16", 1, 16)
    batch, n_keys = draw("batch", 1, 2), draw("keys", 1, 150)
    n = draw("queries", 1, n_keys)
    q = heads(batch, n, n_kv * shared, head_dim)
    k, v = (heads(batch, n_keys, n_kv, head_dim, seed=seed) for seed in (1, 2))
    mask = causal(n, n_keys) if data.draw(st.booleans(), "causal") else None
    by_head = data.draw(st.booleans(), "by head")
    found = [attend(q, k, v, mask, variant, draw("threads", 1, 3), by_head) for variant in VARIANTS]
    assert far(found[0], exact(q, k, v, mask)) < 1e-6
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_each_item_of_a_batch_has_a_mask_of_its_own() -> None:
    q, k, v = (heads(3, 70, 2, 32, seed=seed) for seed in range(3))
    masks = np.stack([np.roll(causal(70, 70), 5 * i, axis=1) for i in range(3)])[:, None]
    masks[:, :, :, 0] = 0  # each query sees something
    assert far(attend(q, k, v, masks), exact(q, k, v, masks)) < 1e-6


def test_a_query_gives_the_same_bytes_beside_others() -> None:
    """Those of a prompt that is read in other pieces, of at least five rows of queries and heads."""
    q, k, v = heads(1, 90, 4, 64), heads(1, 90, 2, 64, seed=1), heads(1, 90, 2, 64, seed=2)
    whole = attend(q, k, v, causal(90, 90))
    for first, end in ((0, 41), (41, 90)):
        piece = attend(q[:, first:end], k[:, :end], v[:, :end], causal(end - first, end))
        assert np.array_equal(piece, whole[first:end])


def test_what_no_query_sees_is_not_read() -> None:
    """The rest of a cache holds what was in its memory before."""
    q, k, v = heads(1, 2, 4, 64), heads(1, 200, 2, 64, seed=1), heads(1, 200, 2, 64, seed=2)
    mask = np.full((2, 200), HIDDEN)
    mask[0, :99] = mask[1, :100] = 0
    clean = attend(q, k, v, mask)
    k[:, 100:] = v[:, 100:] = np.nan
    assert np.array_equal(attend(q, k, v, mask), clean)


def test_a_query_that_sees_nothing_gives_0_as_ggmls() -> None:
    q, k, v = heads(1, 3, 2, 32), heads(1, 80, 2, 32, seed=1), heads(1, 80, 2, 32, seed=2)
    mask = np.zeros((3, 80), np.float16)
    mask[1] = HIDDEN
    ours, theirs = attend(q, k, v, mask), attend(q, k, v, mask, "")
    assert not ours[1].any()
    assert not theirs[1].any()
    assert far(ours[[0, 2]], theirs[[0, 2]].astype(np.float64)) < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_finite_is_seen_wherever_ggml_shows_it(where: str, value: float) -> None:
    """ggml's shares of a key that is NaN are those of a key that is hidden: it would not be seen."""
    arrays = {"q": heads(1, 70, 2, 32), "k": heads(1, 70, 2, 32, seed=1), "v": heads(1, 70, 2, 32, seed=2)}
    arrays[where][0, 69, 1, 3] = value
    ours, theirs = (np.isfinite(attend(*arrays.values(), None, code)) for code in (VARIANTS[0], ""))
    of_head = np.s_[69 if where == "q" else slice(None), 35 if where == "v" else slice(32, 64)]
    expected = np.ones_like(ours)
    expected[of_head] = False
    if where == "k" and np.isinf(value):  # of a key that is infinite, the share is 0 where the score is negative
        assert not ours[:, 32:].all()
        assert np.array_equal(ours, theirs)
    else:
        assert np.array_equal(ours, expected)
        assert not (ours & ~theirs).any()


def test_large_scores_do_not_overflow() -> None:
    q, k, v = heads(1, 5, 2, 32) * 300, heads(1, 90, 2, 32, seed=1) * 300, heads(1, 90, 2, 32, seed=2)
    assert far(attend(q, k, v, None), exact(q, k, v, None)) < 1e-3  # scores of 10⁵ have units of 2⁻⁷


def gelu(x: Floats, variant: str, threads: int = 1) -> Floats:
    graph = SmallGraph(4 * x.nbytes)
    layer = layers.new_layer(variant) if variant else None
    tensor = graph.tensor(x)
    graph.ends_in(layers.add_gelu(graph.context, layer, tensor) if layer else ggml.ggml_gelu_erf(graph.context, tensor))
    graph.run(threads)
    return graph.result().ravel()


def test_gelu_is_that_in_float64_the_same_bytes_by_every_variant() -> None:
    x = np.concatenate([np.linspace(-9, 9, 40_001), np.geomspace(1e-38, 1, 2000), -np.geomspace(1e-38, 1, 2000)])
    x = x.astype(np.float32)
    expected = np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.astype(np.float64)])
    found = [gelu(x, variant, threads) for variant in VARIANTS for threads in (1, 3)]
    away = np.abs(found[0] - expected)
    assert (away <= 2e-7 * np.maximum(np.abs(x), np.abs(expected))).all()
    assert far(found[0], expected) < 1e-7
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_gelu_of_what_is_not_finite_is_ggmls() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38], np.float32)
    ours, theirs = gelu(x, VARIANTS[0]), gelu(x, "")
    assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.array_equal(np.signbit(ours[3:]), np.signbit(theirs[3:]))


@pytest.mark.parametrize("name", [ATTENTION, GELU])
def test_a_defective_layer_gives_way_to_ggml_with_a_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Products(OWN).layer(name) is not None
    assert Products(GGML).layer(name) is None
    monkeypatch.setitem(choice.LAYERS, name, lambda variant: 5e-6)
    problem = f"the {VARIANTS[0]} kernel of {name} differs from ggml by 5e-06 of the result's norm"
    products = Products(AUTO)
    with pytest.warns(library.ProductsWarning, match=f"{problem}, expected at most 4e-06; ggml is used"):
        assert products.layer(name) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        assert products.layer(name) is None
    with pytest.raises(InputError, match=f"--products own: {problem}.*expected auto or ggml"):
        Products(OWN).layer(name)


def test_the_comparison_has_prompts_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few queries are computed otherwise than several: each alone would go unseen."""
    whole = layers.add_attention
    for defective in layers.SAMPLE_QUERIES:

        def add(context: Any, layer: Any, q: Any, *others: Any, of: int = defective) -> Any:
            layer.scale *= 1.001 if q.contents.ne[2] == of else 1
            return whole(context, layer, q, *others)

        monkeypatch.setattr(layers, "add_attention", add)
        assert layers.attention_difference(VARIANTS[0]) > layers.TOLERANCE
    monkeypatch.undo()
    assert layers.attention_difference(VARIANTS[0]) <= layers.TOLERANCE


def tensors(context: Any, *shapes: tuple[int, ...], ggml_type: int = ggml.GGML_TYPE_F32) -> list[Any]:
    return [ggml.ggml_new_tensor_4d(context, ggml_type, *reversed(shape)) for shape in shapes]


def test_attention_that_no_kernel_covers_is_ggmls() -> None:
    graph = SmallGraph(1 << 22)
    whole = tensors(graph.context, (1, 9, 4, 32), (1, 9, 2, 32), (1, 9, 2, 32))
    halves = tensors(graph.context, (1, 9, 2, 32), ggml_type=ggml.GGML_TYPE_F16)[0]
    assert layers.covers_attention(*whole, None)
    assert not layers.covers_attention(whole[0], halves, whole[2], None)
    assert not layers.covers_attention(*whole, whole[0])  # a mask of floats
    for q, kv in (((1, 9, 4, 24), (1, 9, 2, 24)), ((1, 9, 4, 272), (1, 9, 2, 272)), ((1, 2, 65, 16), (1, 2, 1, 16))):
        assert not layers.covers_attention(*tensors(graph.context, q, kv, kv), None)
