"""Products of the kernels are ggml's, but for the order of sums of floats."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.types import TYPES, Type
from runtime_check.products import library
from runtime_check.products.choice import tolerance
from runtime_check.products.comparison import Floats, OneProduct, difference

from .weights import (
    CASES,
    EACH,
    ROWS,
    SUPER,
    VARIANTS,
    activations,
    columns_of,
    ggml_blocks,
    multiply,
    weights,
)

pytestmark = pytest.mark.skipif(not VARIANTS, reason="no kernels for this processor")


def equal(type: Type, variant: str, n_rows: int, row: int, n: int, threads: int = 1) -> None:
    rows, x = weights(type, n_rows, row), activations(n, row)
    ours, theirs = multiply(type, rows, x, variant, threads), multiply(type, rows, x)
    assert difference(ours, theirs) <= tolerance(type), (n_rows, row, n)


@pytest.fixture
def not_loaded() -> Iterator[None]:
    """The library is loaded anew in the test, and after it."""
    caches = (library._library, library.variants, library.kernel, library.layers, library.operation, library.are_few)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_every_type_has_a_kernel_in_every_variant() -> None:
    assert {type.name for type, _ in CASES} == set(TYPES)
    assert len(CASES) == len(VARIANTS) * len({type for type, _ in CASES})


@EACH
def test_products_are_ggmls_of_any_number_of_columns(type: Type, variant: str) -> None:
    for n in (*range(1, 10), 94):
        equal(type, variant, ROWS, 3 * SUPER, n)


@pytest.mark.parametrize("name", ["q4_k", "q8_0"])
def test_products_are_ggmls_of_more_columns_than_fit_the_cache(name: str) -> None:
    equal(TYPES[name], VARIANTS[0], 40, SUPER, 513)


@EACH
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_products_are_ggmls_of_any_shape(type: Type, variant: str, data: st.DataObject) -> None:
    """Rows that are no multiple of what is decoded at once; of types with blocks of 32, rows that end within 256."""
    n_rows = data.draw(st.integers(17, 140), "rows")
    row = data.draw(st.integers(1, 1200 // type.block), "blocks") * type.block
    n = data.draw(st.integers(1, 20), "columns")
    equal(type, variant, n_rows, row, n, data.draw(st.integers(1, 3), "threads"))


@EACH
def test_any_number_of_threads_gives_the_same_bytes_run_after_run(type: Type, variant: str) -> None:
    for n in (1, 2, 7):
        rows, x = weights(type, 300, SUPER), activations(n, SUPER)
        product = OneProduct(type, rows.ctypes.data, 300, SUPER, n, variant)
        once = product(x)
        assert all(np.array_equal(product(x, threads), once) for threads in (2, 5, 1, 3))


@pytest.mark.parametrize(("type", "variant"), [case for case in CASES if case[0].block > 1], ids=str)
@pytest.mark.parametrize(("n_rows", "n_supers"), [(97, 3), (17, 19)])
def test_any_number_of_columns_gives_the_same_bytes(type: Type, variant: str, n_rows: int, n_supers: int) -> None:
    """With weights in blocks; rows and super-blocks are more than are multiplied in one turn."""
    row = n_supers * SUPER
    rows, x = weights(type, n_rows, row), activations(7, row)
    whole = multiply(type, rows, x, variant)
    for n in range(1, 6):
        np.testing.assert_array_equal(multiply(type, rows, np.ascontiguousarray(x[:n]), variant), whole[:n])


def test_graphs_multiply_at_once_with_the_same_weights() -> None:
    type, variant = CASES[0]
    rows = weights(type, 300, SUPER)
    xs = [activations(n, SUPER) for n in (2, 3, 5, 8)]
    expected = [multiply(type, rows, x, variant) for x in xs]
    meet = threading.Barrier(len(xs))

    def run(x: Floats) -> list[Floats]:
        product = OneProduct(type, rows.ctypes.data, 300, SUPER, len(x), variant)
        meet.wait()
        return [product(x, 2) for _ in range(20)]

    with ThreadPoolExecutor(len(xs)) as pool:
        for found, once in zip(pool.map(run, xs), expected, strict=True):
            assert all(np.array_equal(each, once) for each in found)


@EACH
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e30])
def test_tiny_and_huge_activations_give_what_ggml_gives(type: Type, variant: str, size: float) -> None:
    x = activations(7) * np.float32(size)
    ours, theirs = multiply(type, weights(type), x, variant), multiply(type, weights(type), x)
    norm = np.linalg.norm(theirs.astype(np.float64)) / np.sqrt(theirs.size)
    lost = 2 * float(np.finfo(np.float32).smallest_subnormal) / (norm or np.inf)  # digits that denormals do not have
    assert difference(ours, theirs) <= max(tolerance(type), lost)


@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nan_or_infinite_activation_spoils_what_it_spoils_in_ggml(type: Type, variant: str, value: float) -> None:
    """NaN and infinity: results are finite where ggml's are, and equal there."""
    x = activations(7)
    x[3, 300] = value
    ours, theirs = multiply(type, weights(type), x, variant), multiply(type, weights(type), x)
    assert np.array_equal(np.isfinite(ours), np.isfinite(theirs))
    others = [0, 1, 2, 4, 5, 6]
    assert difference(ours[others], theirs[others]) <= tolerance(type)


@pytest.mark.parametrize(("type", "variant"), [case for case in CASES if case[0].name not in ("f32", "bf16")], ids=str)
@pytest.mark.parametrize("bits", [0x7E00, 0x7C00, 0xFC00, 0x0001, 0x83FF])
def test_a_nan_infinite_or_denormal_scale_gives_what_ggml_gives(type: Type, variant: str, bits: int) -> None:
    """A weight, if the type is F16."""
    rows = weights(type).copy()
    at = {"q6_k": 208, "q3_k": 108, "q2_k": 80}.get(type.name, 0)  # of d in a block
    rows[5, at : at + 2] = np.array([bits], np.uint16).view(np.uint8)
    for n in (1, 7):
        x = activations(n)
        ours, theirs = multiply(type, rows, x, variant), multiply(type, rows, x)
        assert np.isfinite(ours[:, 5]).all() == (bits in (0x0001, 0x83FF))
        assert difference(ours, theirs) <= tolerance(type)


@EACH
def test_columns_of_zeros_give_zeros(type: Type, variant: str) -> None:
    assert not multiply(type, weights(type), np.zeros((7, 3 * SUPER), np.float32), variant).any()


@pytest.mark.usefixtures("not_loaded")
def test_a_kernel_is_not_used_where_ggml_quantizes_activations_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    type, variant = next(case for case in CASES if case[0].block > 1)
    other = SimpleNamespace(contents=SimpleNamespace(vec_dot_type=99))
    monkeypatch.setattr(library.ggml, "ggml_get_type_traits_cpu", lambda number: other)
    assert library.kernel(type, variant) is None


@pytest.mark.parametrize("variant", VARIANTS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_activations_are_quantized_to_ggmls_bits(variant: str, data: st.DataObject) -> None:
    """Of any floats: ties, denormals, infinity and NaN, absolute values that occur twice, with either sign."""
    seed, kind = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from(["bits", "few values", "ordinary"]))
    random = np.random.default_rng(seed)
    x = {
        "bits": random.integers(0, 2**32, (3, 2 * SUPER), np.uint32).view(np.float32),
        "few values": random.integers(-3, 4, (3, 2 * SUPER)).astype(np.float32) / 2,
        "ordinary": random.standard_normal((3, 2 * SUPER), np.float32),
    }[kind]
    if kind == "bits" and data.draw(st.booleans()):
        x[~(np.abs(x) < 1e30)] = 0
    columns, blocks = columns_of(TYPES["q4_k"], variant, x), ggml_blocks("q8_k", x).T
    for field in ("x", "sums", "d"):
        assert columns[field].tobytes() == np.ascontiguousarray(blocks[field]).tobytes(), field
    for name, of in (("q8_0", "q8_0"), ("q4_1", "q8_1")):
        columns, blocks = columns_of(TYPES[name], variant, x), ggml_blocks(of, x).reshape(3, 2, 8).swapaxes(0, 1)
        assert columns["x"].tobytes() == np.ascontiguousarray(blocks["x"]).tobytes()
        assert np.array_equal(columns["d"], blocks["d"].astype(np.float32), equal_nan=True)


@pytest.mark.usefixtures("not_loaded")
def test_without_a_library_nothing_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "LIBRARY", "kernels/absent.so")
    assert library.variants() == ()
    assert library.kernel(TYPES["q4_k"], "avx2") is None
    assert not library.kernel(TYPES["q4_k"], "")


@pytest.mark.usefixtures("not_loaded")
def test_a_library_for_other_tensors_than_ggmls_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FIELDS", ("nb", "ne", "src", "data"))
    with pytest.warns(library.ProductsWarning, match="install the ggml-python that mimo-convert requires"):
        assert library.variants() == ()


@pytest.mark.usefixtures("not_loaded")
def test_a_library_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "damaged.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "LIBRARY", str(tmp_path / "damaged.so"))
    with pytest.warns(library.ProductsWarning, match=r"damaged\.so.*ggml multiplies: install mimo-convert again"):
        assert library.variants() == ()
