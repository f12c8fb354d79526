"""Compare the kernels with ggml: small graphs of the same rows of a file and the same activations, by both."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import ggml
import numpy as np
import numpy.typing as npt

from quantize.types import Type

from . import library

Floats = npt.NDArray[np.float32]

OVERHEAD = 1 << 20  # bytes of a graph of a few nodes
PADDING = 128  # activations by which a column may grow


class SmallGraph:
    """A graph whose tensors lie in a context of its own, of `nbytes` and what its nodes take."""

    def __init__(self, nbytes: int) -> None:
        size = nbytes + OVERHEAD
        self.context = ggml.ggml_init(ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=False))
        if not self.context:
            raise MemoryError("ggml cannot make a context")
        weakref.finalize(self, ggml.ggml_free, self.context)

    def tensor(self, values: npt.NDArray[Any]) -> Any:
        """A tensor of float32 or float16 values, of at most four dimensions."""
        ggml_type = ggml.GGML_TYPE_F16 if values.dtype == np.float16 else ggml.GGML_TYPE_F32
        values = np.ascontiguousarray(values)
        made = ggml.ggml_new_tensor_4d(self.context, ggml_type, *(*values.shape[::-1], 1, 1, 1)[:4])
        ctypes.memmove(made.contents.data, values.ctypes.data, values.nbytes)
        return made

    def ends_in(self, y: Any) -> None:
        """Nothing is computed but `y`, and what it needs."""
        self.y, self.graph = y, ggml.ggml_new_graph(self.context)
        ggml.ggml_build_forward_expand(self.graph, y)

    def run(self, threads: int) -> None:
        """Compute, from what the tensors hold."""
        plan = ggml.ggml_graph_plan(self.graph, threads, None)
        work = np.empty(plan.work_size, np.uint8)
        plan.work_data = ctypes.cast(work.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
        status = ggml.ggml_graph_compute(self.graph, ctypes.byref(plan))
        assert status == ggml.GGML_STATUS_SUCCESS, f"ggml status {status}"

    def result(self) -> Floats:
        """What was computed last: (rows, columns)."""
        y = np.empty((ggml.ggml_nrows(self.y), int(self.y.contents.ne[0])), np.float32)
        ctypes.memmove(y.ctypes.data, self.y.contents.data, y.nbytes)
        return y


class OneProduct(SmallGraph):
    """A graph that multiplies the (n_rows, row) weights at `address` with columns (n, row), by a variant of the kernels
    or, without one, by ggml. ggml gets floats widened to F32, or it would round the columns to the type of weights."""

    def __init__(self, ggml_type: Type, address: int, n_rows: int, row: int, n: int, variant: str = "") -> None:
        widened = ggml_type.block == 1 and not variant
        super().__init__(4 * (n * (2 * row + n_rows + PADDING) + widened * n_rows * row))
        self.x = ggml.ggml_new_tensor_2d(self.context, ggml.GGML_TYPE_F32, row, n)
        self.product: library.Product | None = None
        if variant:
            self.product = library.new_product(ggml_type, variant, address, n_rows, row)
            self.columns = quantize(self.context, self.product, self.x)
            return self.ends_in(multiply(self.context, self.product, self.columns, self.x))
        ggml.ggml_set_no_alloc(self.context, True)
        weights = ggml.ggml_new_tensor_2d(self.context, ggml_type.ggml, row, n_rows)
        weights.contents.data = address
        ggml.ggml_set_no_alloc(self.context, False)
        if widened:
            weights = ggml.ggml_cast(self.context, weights, ggml.GGML_TYPE_F32)
        self.ends_in(ggml.ggml_mul_mat(self.context, weights, self.x))

    def __call__(self, x: Floats, threads: int = 1) -> Floats:
        """x (n, row) → (n, n_rows)."""
        x = np.ascontiguousarray(x, np.float32)
        ctypes.memmove(self.x.contents.data, x.ctypes.data, x.nbytes)
        self.run(threads)
        return self.result()


def quantize(context: Any, product: library.Product, x: Any) -> Any:
    """The node that quantizes activations x, (…, row), each row in one piece, for `product` and all of its kind."""
    n_bytes = library.columns_bytes(product, ggml.ggml_nrows(x))
    return custom(context, ggml.GGML_TYPE_I8, (n_bytes, 1, 1, 1), [x], "products_quantize", product)


def multiply(context: Any, product: library.Product, columns: Any, x: Any, weights: Any = None) -> Any:
    """The node that multiplies: `columns`, x quantized, → (…, n_rows). `weights` are a tensor if the graph computes
    them."""
    shape = (product.n_rows, *x.contents.ne[1:4])
    operands = [columns] if product.weights else [columns, weights]
    return custom(context, ggml.GGML_TYPE_F32, shape, operands, "products_multiply", product)


def custom(
    context: Any, result: int, shape: Sequence[int], operands: list[Any], name: str, of: ctypes.Structure
) -> Any:
    """The node of one of the kernels' operations, by its name in C; `of` is what it is about, and must live as long."""
    array = (type(operands[0]) * len(operands))(*operands)
    return ggml.ggml_custom_4d(
        context, result, *shape, array, len(operands), library.operation(name), ggml.GGML_N_TASKS_MAX,
        ctypes.cast(ctypes.pointer(of), ctypes.c_void_p),
    )  # fmt: skip


def difference(ours: Floats, theirs: Floats) -> float:
    """‖ours − theirs‖ / ‖theirs‖; infinite where one alone is finite."""
    if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        return np.inf
    finite = np.isfinite(theirs)
    exact = theirs[finite].astype(np.float64)
    away, norm = np.linalg.norm(ours[finite] - exact), np.linalg.norm(exact)
    return float(away / norm) if norm else float(away and np.inf)
