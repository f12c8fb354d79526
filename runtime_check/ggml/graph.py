"""Layers in ggml: linear, norms, rotary embedding, attention, convolution and its transpose.

Shapes are written as in numpy, slowest dimension first; ggml's `ne` is the reverse: an array of shape (T, d) has ne =
(d, T).

Weights stay in the mapped file. A tensor that is read after a run must be an output, because ggml reuses the memory of
all others. A graph is allocated once and can be run any number of times.
"""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import ggml
import numpy as np
import numpy.typing as npt

from quantize.types import BY_GGML
from runtime_check.near import mask_of
from runtime_check.products.choice import ATTENTION, GELU, add_product
from runtime_check.products.layers import Layer, add_attention, add_gelu, add_ggml_attention, covers_attention
from runtime_check.products.library import Product

from .memory import Backend, State, TensorPtr, Weights, new_context, new_tensor, shape_of

Array = npt.NDArray[Any]

MAX_NODES = 16384
WORK_FOR_THREADS = 64_000_000  # below, a graph is done before a second thread has met it at the first barrier
LAYER_NORM_EPS = 1e-5
QUERIES = 64  # positions whose attention to near positions is computed together
DTYPES = {
    "float32": ggml.GGML_TYPE_F32, "float16": ggml.GGML_TYPE_F16, "int32": ggml.GGML_TYPE_I32,
    "int64": ggml.GGML_TYPE_I64,
}  # fmt: skip

__all__ = ["Backend", "Graph", "State", "TensorPtr", "Weights", "shape_of"]


class Graph:
    """A graph under construction, then ready to `run`.

    Where ggml multiplies with F16 or BF16 weights, it rounds the *activations* to the weights' type, by up to 2⁻¹¹ for
    F16, which is enough to flip a code of the residual quantizer. With `widen`, such weights are cast to F32 in the
    graph. Own products do not round.
    """

    def __init__(self, backend: Backend, weights: Weights, *, widen: bool = False) -> None:
        self.backend, self.weights, self.widen = backend, weights, widen
        self.ctx = new_context(2 * MAX_NODES, ggml.ggml_graph_overhead_custom(MAX_NODES, False))
        self.graph = ggml.ggml_new_graph_custom(self.ctx, MAX_NODES, False)
        buffer_type = ggml.ggml_backend_get_default_buffer_type(backend.handle)
        self.allocator = ggml.ggml_gallocr_new(buffer_type)
        weakref.finalize(self, ggml.ggml_free, self.ctx)
        weakref.finalize(self, ggml.ggml_gallocr_free, self.allocator)
        self.inputs: dict[str, TensorPtr] = {}
        self.outputs: dict[str, TensorPtr] = {}
        self.constants: dict[str, Array] = {}  # the values of inputs that are the same in every run
        self.products: list[Product] = []  # that operations of the graph refer to
        self.layers: list[Layer] = []  # likewise
        self.quantized: dict[tuple[int, int], TensorPtr] = {}  # activations, for own products
        self.planned = False
        self.work = 0  # weights' bytes × rows they are multiplied with

    # ── ends of the graph ────────────────────────────────────────────────────────────────────────────────────────

    def input(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> TensorPtr:
        """An input tensor, which every `run` fills by `name`."""
        tensor = new_tensor(self.ctx, DTYPES[np.dtype(dtype).name], shape)
        ggml.ggml_set_input(tensor)
        self.inputs[name] = tensor
        return tensor

    def constant(self, name: str, values: Array) -> TensorPtr:
        """An input that has the same values in every run; made once for each name."""
        if name not in self.constants:
            self.constants[name] = values
            self.input(name, values.shape, values.dtype)
        return self.inputs[name]

    def output(self, name: str, tensor: TensorPtr) -> TensorPtr:
        """Make `tensor`, which must not be a view, an output under `name`."""
        ggml.ggml_set_output(tensor)
        self.expand(tensor)
        self.outputs[name] = tensor
        return tensor

    def expand(self, tensor: TensorPtr) -> None:
        """Add `tensor` and its inputs to the graph."""
        ggml.ggml_build_forward_expand(self.graph, tensor)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph: inputs by name → outputs by name, in numpy shapes."""
        if not self.planned:
            if not ggml.ggml_gallocr_alloc_graph(self.allocator, self.graph):
                raise MemoryError("ggml cannot allocate the graph")
            self.backend.count_held(self, ggml.ggml_gallocr_get_buffer_size(self.allocator, 0))
            self.planned = True
        values = self.constants | dict(inputs)
        for name, tensor in self.inputs.items():
            array = np.ascontiguousarray(values[name])
            assert DTYPES[array.dtype.name] == tensor.contents.type, name
            assert array.nbytes == ggml.ggml_nbytes(tensor), name
            ggml.ggml_backend_tensor_set(tensor, array.ctypes.data, 0, array.nbytes)
        threads = self.backend.threads if self.work > WORK_FOR_THREADS else 1
        ggml.ggml_backend_cpu_set_n_threads(self.backend.handle, threads)
        status = ggml.ggml_backend_graph_compute(self.backend.handle, self.graph)
        assert status == ggml.GGML_STATUS_SUCCESS, f"ggml status {status}"
        return {name: self._read(tensor) for name, tensor in self.outputs.items()}

    def _read(self, tensor: TensorPtr) -> Array:
        dtype = np.int32 if tensor.contents.type == ggml.GGML_TYPE_I32 else np.float32
        array = np.empty(shape_of(tensor), dtype)
        ggml.ggml_backend_tensor_get(tensor, array.ctypes.data, 0, array.nbytes)
        return array

    # ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def linear(self, x: TensorPtr, name: str) -> TensorPtr:
        """Linear layer: (…, n_in) → (…, n_out), with a bias if the file has one."""
        return self._multiply(self.weights[f"{name}.weight"], x, f"{name}.bias", widen=self.widen)

    def _multiply(self, weight: TensorPtr, x: TensorPtr, bias: str, *, widen: bool = False) -> TensorPtr:
        """The product of a weight, all of its dimensions but the slowest taken as one, and x, with a bias if the file
        has it."""
        self.work += ggml.ggml_nbytes(weight) * ggml.ggml_nrows(x)
        if product := self.backend.products.product_of(weight, x):
            self.products.append(product)
            y = add_product(self.ctx, product, weight, x, self.quantized)
        else:
            if widen and BY_GGML[weight.contents.type].name in ("f16", "bf16"):
                weight = ggml.ggml_cast(self.ctx, weight, ggml.GGML_TYPE_F32)
            if weight.contents.ne[0] != x.contents.ne[0]:
                row = x.contents.ne[0]
                weight = ggml.ggml_reshape_2d(self.ctx, weight, row, ggml.ggml_nelements(weight) // row)
            y = ggml.ggml_mul_mat(self.ctx, weight, x)
        return ggml.ggml_add(self.ctx, y, self._vector(bias)) if bias in self.weights else y

    def _vector(self, name: str) -> TensorPtr:
        """A bias as (n,), which a file may store as an image's, (n, 1, 1)."""
        bias = self.weights[name]
        n = ggml.ggml_nelements(bias)
        return bias if bias.contents.ne[0] == n else ggml.ggml_reshape_1d(self.ctx, bias, n)

    def rows(self, name: str, ids: TensorPtr) -> TensorPtr:
        """Embedding lookup: ids (n,) → (n, columns) float32, from any type."""
        return ggml.ggml_get_rows(self.ctx, self.weights[f"{name}.weight"], ids)

    def rms_norm(self, x: TensorPtr, name: str, eps: float) -> TensorPtr:
        """RMS norm (Zhang & Sennrich 2019) with a weight: (…, d) → (…, d)."""
        return ggml.ggml_mul(self.ctx, ggml.ggml_rms_norm(self.ctx, x, eps), self.weights[f"{name}.weight"])

    def layer_norm(self, x: TensorPtr, name: str) -> TensorPtr:
        """Layer norm (Ba et al. 2016) with weight and bias: (…, d) → (…, d)."""
        return self.scale_and_shift(ggml.ggml_norm(self.ctx, x, LAYER_NORM_EPS), name)

    def group_norm(self, x: TensorPtr, name: str) -> TensorPtr:
        """Group norm (Wu & He 2018) of one group, all positions and channels together: (T, d) → (T, d)."""
        x = ggml.ggml_group_norm(self.ctx, x, 1, LAYER_NORM_EPS)
        return self.scale_and_shift(x, name)

    def scale_and_shift(self, x: TensorPtr, name: str) -> TensorPtr:
        """The weight and bias of a norm: (…, d) → (…, d)."""
        x = ggml.ggml_mul(self.ctx, x, self.weights[f"{name}.weight"])
        return ggml.ggml_add(self.ctx, x, self.weights[f"{name}.bias"])

    def rope(self, x: TensorPtr, positions: TensorPtr, theta: float) -> TensorPtr:
        """Rotary embedding (Su et al. 2021) in the NeoX layout: x (T, n_heads, head_dim), positions (T,)."""
        head_dim = shape_of(x)[-1]
        return ggml.ggml_rope_ext(
            self.ctx, x, positions, None, head_dim, ggml.GGML_ROPE_TYPE_NEOX, 0, theta, 1.0, 0.0, 1.0, 0.0, 0.0
        )

    def heads(self, x: TensorPtr, first: int, n_heads: int, head_dim: int) -> TensorPtr:
        """View columns from `first` of x (T, columns) as (T, n_heads, head_dim)."""
        t = x.contents
        return ggml.ggml_view_3d(self.ctx, x, head_dim, n_heads, t.ne[1], head_dim * t.nb[0], t.nb[1], first * t.nb[0])

    def qkv(
        self, x: TensorPtr, name: str, n_heads: int, n_kv_heads: int, head_dim: int, *, joint: str = "."
    ) -> list[TensorPtr]:
        """Queries, keys and values of x (T, columns), (T, heads, head_dim) each, from fused or separate weights;
        `joint` stands between `name` and q, k and v."""
        counts = (n_heads, n_kv_heads, n_kv_heads)
        if f"{name}{joint}qkv.weight" in self.weights:
            fused = self.linear(x, f"{name}{joint}qkv")
            firsts = (0, n_heads * head_dim, (n_heads + n_kv_heads) * head_dim)
            return [self.heads(fused, first, n, head_dim) for first, n in zip(firsts, counts, strict=True)]
        separate = zip("qkv", counts, strict=True)
        return [self.heads(self.linear(x, f"{name}{joint}{c}"), 0, n, head_dim) for c, n in separate]

    def attend(self, q: TensorPtr, k: TensorPtr, v: TensorPtr, mask: TensorPtr | None) -> TensorPtr:
        """Scaled dot-product attention (grouped-query): q (…, T, n_heads, head_dim) over k, v (…, S, n_kv_heads,
        head_dim) → (… × T, n_heads × head_dim).

        `mask`, (T, S) float16 of 0 and -infinity, hides keys from queries. It is computed in float32, as flash
        attention (Dao et al. 2022), which holds only a tile of scores in memory.
        """
        scale = q.contents.ne[0] ** -0.5
        layer = covers_attention(q, k, v, mask) and self.backend.products.layer(ATTENTION, scale)
        if not layer:
            return add_ggml_attention(self.ctx, scale, q, k, v, mask)
        self.layers.append(layer)
        return add_attention(self.ctx, layer, q, k, v, mask)

    def attend_windows(self, q: TensorPtr, k: TensorPtr, v: TensorPtr, n: int) -> TensorPtr:
        """Attention within each of `n` equal windows: q, k, v (T, heads, head_dim) → (T, n_heads × head_dim)."""
        head_dim, _, length = q.contents.ne[:3]
        q, k, v = (self.reshape(t, (n, length // n, t.contents.ne[1], head_dim)) for t in (q, k, v))
        return self.attend(q, k, v, None)

    def attend_near(self, q: TensorPtr, k: TensorPtr, v: TensorPtr, before: int, after: int) -> TensorPtr:
        """Attention of each position i to i - before … i + after, both included; -1 is no bound: q, k, v (T, heads,
        head_dim) → (T, n_heads × head_dim).

        With both bounds, QUERIES positions at a time see copies of the keys that one of them may see.
        """
        n, name = int(q.contents.ne[2]), f"near_{before}_{after}"
        if before < 0 or after < 0 or n <= QUERIES:
            mask = self.constant(name, mask_of(range(n), range(n), n, before, after))
            return self.attend(q, k, v, mask)
        queries = [range(i, i + QUERIES) for i in range(0, n, QUERIES)]
        keys = [range(part.start - before, part.stop + after) for part in queries]
        masks = [mask_of(*part, n, before, after) for part in zip(queries, keys, strict=True)]
        mask = self.constant(name, np.stack(masks)[:, None])
        q, k, v = (self._parts(x, rows, name) for x, rows in ((q, queries), (k, keys), (v, keys)))
        return self.first_rows(self.attend(q, k, v, mask), n)

    def _parts(self, x: TensorPtr, parts: Sequence[range], name: str) -> TensorPtr:
        """Copy parts of equal length of x (T, heads, head_dim), (parts, length, heads, head_dim); rows that x lacks are
        some other."""
        head_dim, n_heads, n = x.contents.ne[:3]
        ids = np.clip(np.concatenate(parts), 0, n - 1).astype(np.int32)
        flat = ggml.ggml_view_2d(self.ctx, x, n_heads * head_dim, n, x.contents.nb[2], 0)
        rows = ggml.ggml_get_rows(self.ctx, flat, self.constant(f"{name}_{len(parts[0])}", ids))
        return ggml.ggml_reshape_4d(self.ctx, rows, head_dim, n_heads, len(parts[0]), len(parts))

    def kv_write(self, cache: TensorPtr, x: TensorPtr, rows: TensorPtr, n: int) -> TensorPtr:
        """Write x (T, heads, head_dim) to `rows` (T,) of each head of a cache (heads, S, head_dim); returns the first
        `n` rows, (n, heads, head_dim)."""
        by_head = ggml.ggml_permute(self.ctx, x, 0, 2, 1, 3)
        written = ggml.ggml_set_rows(self.ctx, cache, by_head, rows)
        (head_dim, _, n_heads), nb = written.contents.ne[:3], written.contents.nb
        return ggml.ggml_view_3d(self.ctx, written, head_dim, n_heads, n, nb[2], nb[1], 0)

    def last_rows(self, x: TensorPtr, n: int) -> TensorPtr:
        """View the last `n` rows of x (T, columns)."""
        t = x.contents
        return ggml.ggml_view_2d(self.ctx, x, t.ne[0], n, t.nb[1], (t.ne[1] - n) * t.nb[1])

    def first_rows(self, x: TensorPtr, n: int) -> TensorPtr:
        """View the first `n` rows of x (T, columns)."""
        t = x.contents
        return ggml.ggml_view_2d(self.ctx, x, t.ne[0], n, t.nb[1], 0)

    def positions(self, x: TensorPtr, first: int, n: int) -> TensorPtr:
        """View `n` positions from `first` of x (T, heads, head_dim)."""
        t = x.contents
        if n == t.ne[2]:
            return x
        return ggml.ggml_view_3d(self.ctx, x, t.ne[0], t.ne[1], n, t.nb[1], t.nb[2], first * t.nb[2])

    def concatenate(self, parts: Sequence[TensorPtr]) -> TensorPtr:
        """Parts (T', columns), one behind the other: (T, columns)."""
        whole, *others = parts
        for part in others:
            whole = ggml.ggml_concat(self.ctx, whole, part, 1)
        return whole

    def reshape(self, x: TensorPtr, shape: tuple[int, ...]) -> TensorPtr:
        """Reshape to a numpy shape of at most four dimensions."""
        return ggml.ggml_reshape_4d(self.ctx, x, *reversed((1,) * (4 - len(shape)) + shape))

    def swiglu(self, x: TensorPtr, name: str, *, joint: str = ".") -> TensorPtr:
        """SwiGLU feed-forward layer (Shazeer 2020): down(silu(gate(x)) × up(x)), (T, d) → (T, d); `joint` stands
        between `name` and gate, up and down."""
        gate, up = self.linear(x, f"{name}{joint}gate"), self.linear(x, f"{name}{joint}up")
        return self.linear(ggml.ggml_swiglu_split(self.ctx, gate, up), f"{name}{joint}down")

    def convolution(self, x: TensorPtr, name: str, *, stride: int = 1, padding: int = 0) -> TensorPtr:
        """1-D convolution: (T, n_in) → (T', n_out), in float32 (`ggml_conv_1d` would round the activations to F16)."""
        kernel = self.weights[f"{name}.weight"]  # (n_out, n_in, kernel_size)
        time_last = ggml.ggml_cont(self.ctx, ggml.ggml_transpose(self.ctx, x))
        windows = ggml.ggml_im2col(
            self.ctx, kernel, time_last, stride, 0, padding, 0, 1, 0, False, ggml.GGML_TYPE_F32
        )  # (T', n_in × kernel_size)
        return self._multiply(kernel, windows, f"{name}.bias", widen=True)

    def transposed_convolution(self, x: TensorPtr, name: str, *, stride: int) -> TensorPtr:
        """1-D transposed convolution: (T, n_in) → ((T - 1) × stride + kernel_size, n_out), in float32.

        The product with one position gives all that it adds: kernel_size positions, in runs of `stride` (the last one
        filled with zeros). Runs of one number do not overlap; those of the next one come `stride` positions later.
        """
        size, n_out = self.weights[f"{name}.weight"].contents.ne[:2]  # of (n_in, n_out, kernel_size)
        n, runs = int(x.contents.ne[1]), -(-size // stride)
        y = self._multiply(self._taps(name, runs * stride), x, "")  # (T, runs × stride × n_out)
        row, nb = stride * n_out, y.contents.nb
        parts = [ggml.ggml_view_2d(self.ctx, y, row, n, nb[1], i * row * nb[0]) for i in range(runs)]
        if runs > 1:
            parts = [
                ggml.ggml_pad_ext(self.ctx, part, 0, 0, i, runs - 1 - i, 0, 0, 0, 0) for i, part in enumerate(parts)
            ]
        total = parts[0]
        for part in parts[1:]:
            total = ggml.ggml_add(self.ctx, total, part)
        positions = ggml.ggml_reshape_2d(self.ctx, total, n_out, (n + runs - 1) * stride)
        positions = self.first_rows(positions, (n - 1) * stride + size)
        return ggml.ggml_add(self.ctx, positions, self._vector(f"{name}.bias"))

    def _taps(self, name: str, n: int) -> TensorPtr:
        """The kernel of a transposed convolution, (n_in, n_out, kernel_size), as a matrix (n × n_out, n_in) float32;
        taps from kernel_size on are zero."""
        kernel = self.weights[f"{name}.weight"]
        size, n_out, n_in = kernel.contents.ne[:3]
        taps = ggml.ggml_new_tensor_3d(self.ctx, ggml.GGML_TYPE_F32, n_in, n_out, size)
        taps = ggml.ggml_cpy(self.ctx, ggml.ggml_permute(self.ctx, kernel, 2, 1, 0, 3), taps)
        if n > size:
            taps = ggml.ggml_pad(self.ctx, taps, 0, 0, n - size, 0)
        return ggml.ggml_reshape_2d(self.ctx, taps, n_in, n_out * n)

    def convolution_2d(self, x: TensorPtr, name: str, *, stride: int = 1, padding: int = 0) -> TensorPtr:
        """2-D convolution, channels last: (N, H, W, n_in) → (N, H', W', n_out), in float32.

        Each row of the kernel is a product with windows of the padded image, which lie in it as they are: the patches
        of an im2col, which `ggml_conv_2d` would round to F16, are several times as large.
        """
        width, _, n_in = self.weights[f"{name}.weight"].contents.ne[:3]  # of (n_out, n_in, height, width)
        kernel_rows = self.weights.kernel_rows(name, self.backend)
        height = len(kernel_rows)
        image = ggml.ggml_pad_ext(self.ctx, x, 0, 0, padding, padding, padding, padding, 0, 0)
        _, columns, rows, n = image.contents.ne[:4]
        nb = image.contents.nb
        new_columns, new_rows = (columns - width) // stride + 1, (rows - height) // stride + 1
        y = None
        for row, matrix in enumerate(kernel_rows):
            windows = ggml.ggml_view_4d(
                self.ctx, image, width * n_in, new_columns, new_rows, n, stride * nb[1], stride * nb[2], nb[3],
                row * nb[2],
            )  # fmt: skip
            bias = f"{name}.bias" if row == height - 1 else ""
            product = self._multiply(matrix, windows, bias)
            y = product if y is None else ggml.ggml_add(self.ctx, y, product)
        return y

    def transpose(self, x: TensorPtr, *axes: int) -> TensorPtr:
        """x with its axes in another order, as numpy's transpose of four dimensions, in contiguous memory."""
        order = [0] * 4  # ggml: where each axis goes, the fastest first
        for place, axis in enumerate(axes):
            order[3 - axis] = 3 - place
        return ggml.ggml_cont(self.ctx, ggml.ggml_permute(self.ctx, x, *order))

    def add(self, a: TensorPtr, b: TensorPtr) -> TensorPtr:
        """Elementwise sum, broadcasting b."""
        return ggml.ggml_add(self.ctx, a, b)

    def mul(self, a: TensorPtr, b: TensorPtr) -> TensorPtr:
        """Elementwise product, broadcasting b."""
        return ggml.ggml_mul(self.ctx, a, b)

    def gelu(self, x: TensorPtr) -> TensorPtr:
        """GELU (Hendrycks & Gimpel 2016), exact, with erf."""
        layer = ggml.ggml_is_contiguous(x) and self.backend.products.layer(GELU)
        if not layer:
            return ggml.ggml_gelu_erf(self.ctx, x)
        self.layers.append(layer)
        return add_gelu(self.ctx, layer, x)
