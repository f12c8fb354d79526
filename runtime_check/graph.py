"""A small vocabulary of layers over ggml: linear, norms, rotary embedding, attention, convolution.

ggml writes a tensor's fastest dimension first: an array of shape (T, d) is a tensor with ne = (d, T). Shapes in this
package are written as in numpy, slowest first, on both sides.

Weights stay in the mapped file. A tensor that is read after the run is an output, because ggml reuses the memory of all
others. A graph is planned once and may be run any number of times.
"""

import ctypes
import itertools
import mmap
import sys
import weakref
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import ggml
import numpy as np
import numpy.typing as npt

from mimo_convert.gguf_file import GGUFFile
from quantize.types import BY_GGML

TensorPtr = Any  # ctypes pointer to a ggml_tensor
Array = npt.NDArray[Any]

MAX_NODES = 16384
WORK_FOR_THREADS = 64_000_000  # below, a graph is done before a second thread has met it at the first barrier
LAYER_NORM_EPS = 1e-5
DTYPES = {
    "float32": ggml.GGML_TYPE_F32, "float16": ggml.GGML_TYPE_F16, "int32": ggml.GGML_TYPE_I32,
    "int64": ggml.GGML_TYPE_I64,
}  # fmt: skip

# ggml-python 0.0.45 declares this result with a plain Python type, so ctypes would cut the pointer to 32 bits.
_buffer_from_ptr = ggml.lib.ggml_backend_cpu_buffer_from_ptr
_buffer_from_ptr.restype = ctypes.c_void_p
_buffer_from_ptr.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@ggml.ggml_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, user_data: Any) -> None:
    if level >= ggml.GGML_LOG_LEVEL_WARN and level != ggml.GGML_LOG_LEVEL_CONT:
        sys.stderr.write(text.decode(errors="replace"))


ggml.ggml_log_set(_log, None)  # by default ggml tells of every tensor that it repacks


@cache
def repack_buffer_type() -> Any:
    """The CPU backend's buffer type that lays weights out anew for its fastest products; None if this ggml has none."""
    registry = ggml.ggml_backend_cpu_reg()
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return None
    extra_types = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    types = extra_types(ggml.ggml_backend_reg_dev_get(registry, 0))
    found = itertools.takewhile(bool, (types[i] for i in itertools.count()))
    return next((type for type in found if ggml.ggml_backend_buft_name(type) == b"CPU_REPACK"), None)


def shape_of(tensor: TensorPtr) -> tuple[int, ...]:
    """The shape of a ggml tensor, slowest dimension first, without leading ones."""
    ne = [int(n) for n in tensor.contents.ne[:4]]
    while len(ne) > 1 and ne[-1] == 1:
        ne.pop()
    return tuple(reversed(ne))


def _new_context(n_tensors: int, extra: int = 0) -> Any:
    size = ggml.ggml_tensor_overhead() * n_tensors + extra
    context = ggml.ggml_init(ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=True))
    if not context:
        raise MemoryError("ggml cannot make a context")
    return context


def _new_tensor(context: Any, type: int, shape: tuple[int, ...]) -> TensorPtr:
    """A tensor of a numpy shape, without memory yet."""
    return ggml.ggml_new_tensor(context, type, len(shape), (ctypes.c_int64 * 4)(*reversed(shape)))


class Backend:
    """ggml's CPU backend with a number of threads. `held` are the bytes of graphs and states, `peak` most of them."""

    def __init__(self, threads: int) -> None:
        self.handle, self.threads = ggml.ggml_backend_cpu_init(), threads
        self.held = self.peak = 0
        weakref.finalize(self, ggml.ggml_backend_free, self.handle)

    def hold(self, owner: object, nbytes: int) -> None:
        """Count bytes that are taken until `owner` is gone."""
        self.held += nbytes
        self.peak = max(self.peak, self.held)
        weakref.finalize(owner, self._let_go, nbytes)

    def _let_go(self, nbytes: int) -> None:
        self.held -= nbytes


class Weights:
    """The tensors of a GGUF file, in place in the mapped file: nothing is copied, and pages come as they are used.

    The file was opened by `open_model_file`, which saw that every tensor a graph asks for is there.
    """

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        with file.path.open("rb") as handle:
            self.map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        bytes_of_file = np.frombuffer(self.map, np.uint8)
        base = self.address = bytes_of_file.ctypes.data
        context = _new_context(len(file.tensors))
        buffer = _buffer_from_ptr(base, len(bytes_of_file))
        weakref.finalize(self, _free, context, buffer, bytes_of_file)
        self.tensors: dict[str, TensorPtr] = {}
        for name, entry in file.tensors.items():
            tensor = _new_tensor(context, entry.type.ggml, entry.shape)
            ggml.ggml_backend_tensor_alloc(buffer, tensor, base + entry.begin)
            self.tensors[name] = tensor

    def repack(self, names: Collection[str], threads: int) -> int:
        """Lay out the matrices `names` anew, in memory, where ggml has faster products for that → the bytes of those.

        They can only be multiplied with then, and graphs made before still take them from the file; so do all others.
        """
        if not repack_buffer_type() or not names:
            return 0
        context = _new_context(len(names))
        entries = {name: self.file.tensors[name] for name in names}
        tensors = {name: _new_tensor(context, entry.type.ggml, entry.shape) for name, entry in entries.items()}
        buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(context, repack_buffer_type())
        if not buffer:
            raise MemoryError("ggml cannot allocate memory for repacked weights")
        weakref.finalize(self, _free, context, buffer)
        # ggml marks those that it has a layout for; memory of the others is never touched, so it is never taken
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.contents.extra}

        def lay_out(name: str) -> None:
            entry = entries[name]
            ggml.ggml_backend_tensor_set(tensors[name], self.address + entry.begin, 0, entry.nbytes)
            first, end = -(-entry.begin // mmap.PAGESIZE), (entry.begin + entry.nbytes) // mmap.PAGESIZE
            if first < end:  # whole pages of it alone are not needed any more
                self.map.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE)

        largest_first = sorted(tensors, key=lambda name: -entries[name].nbytes)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lay_out, largest_first))
        self.tensors |= tensors
        return sum(entries[name].nbytes for name in tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> TensorPtr:
        return self.tensors[name]


class State:
    """Tensors that outlive a run, such as a KV cache; zero at the start."""

    def __init__(self, backend: Backend, shapes: Mapping[str, tuple[int, ...]]) -> None:
        context = _new_context(len(shapes))
        self.tensors = {name: _new_tensor(context, ggml.GGML_TYPE_F32, shape) for name, shape in shapes.items()}
        buffer = ggml.ggml_backend_alloc_ctx_tensors(context, backend.handle)
        if not buffer:
            raise MemoryError("ggml cannot allocate the KV cache")
        ggml.ggml_backend_buffer_clear(buffer, 0)
        backend.hold(self, ggml.ggml_backend_buffer_get_size(buffer))
        weakref.finalize(self, _free, context, buffer)

    def __getitem__(self, name: str) -> TensorPtr:
        return self.tensors[name]


def _free(context: Any, buffer: Any, *keep_alive: Any) -> None:
    ggml.ggml_backend_buffer_free(buffer)
    ggml.ggml_free(context)


class Graph:
    """A computation under construction, then ready to `run`.

    With `widen`, F16 and BF16 weights are widened to F32 inside the graph. ggml otherwise rounds the *activations* of
    such a product to the weights' type: 2⁻¹¹ of each for F16, enough to flip a code of the residual quantizer.
    """

    def __init__(self, backend: Backend, weights: Weights, *, widen: bool = False) -> None:
        self.backend, self.weights, self.widen = backend, weights, widen
        self.ctx = _new_context(2 * MAX_NODES, ggml.ggml_graph_overhead_custom(MAX_NODES, False))
        self.graph = ggml.ggml_new_graph_custom(self.ctx, MAX_NODES, False)
        buffer_type = ggml.ggml_backend_get_default_buffer_type(backend.handle)
        self.allocator = ggml.ggml_gallocr_new(buffer_type)
        weakref.finalize(self, ggml.ggml_free, self.ctx)
        weakref.finalize(self, ggml.ggml_gallocr_free, self.allocator)
        self.inputs: dict[str, TensorPtr] = {}
        self.outputs: dict[str, TensorPtr] = {}
        self.planned = False
        self.work = 0  # weights' bytes × rows they are multiplied with

    # ── ends of the graph ────────────────────────────────────────────────────────────────────────────────────────

    def input(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> TensorPtr:
        """A tensor that every `run` fills from its inputs, by `name`."""
        tensor = _new_tensor(self.ctx, DTYPES[np.dtype(dtype).name], shape)
        ggml.ggml_set_input(tensor)
        self.inputs[name] = tensor
        return tensor

    def output(self, name: str, tensor: TensorPtr) -> TensorPtr:
        """Keep `tensor`, which must be no view of another, to be read after the run under `name`."""
        ggml.ggml_set_output(tensor)
        self.need(tensor)
        self.outputs[name] = tensor
        return tensor

    def need(self, tensor: TensorPtr) -> None:
        """Compute `tensor`, and all that leads to it, in every run."""
        ggml.ggml_build_forward_expand(self.graph, tensor)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the graph: every input by name → every output by name, in numpy shapes."""
        if not self.planned:
            if not ggml.ggml_gallocr_alloc_graph(self.allocator, self.graph):
                raise MemoryError("ggml cannot allocate the graph")
            self.backend.hold(self, ggml.ggml_gallocr_get_buffer_size(self.allocator, 0))
            self.planned = True
        for name, tensor in self.inputs.items():
            array = np.ascontiguousarray(inputs[name])
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

    def weight(self, name: str) -> TensorPtr:
        """A weight as products take it: widened, if this graph widens and its type asks for it."""
        tensor = self.weights[name]
        if self.widen and BY_GGML[tensor.contents.type].name in ("f16", "bf16"):
            return ggml.ggml_cast(self.ctx, tensor, ggml.GGML_TYPE_F32)
        return tensor

    def linear(self, x: TensorPtr, name: str) -> TensorPtr:
        """(…, n_in) → (…, n_out), with the bias if the file has one."""
        return self._multiply(self.weight(f"{name}.weight"), x, f"{name}.bias")

    def _multiply(self, weight: TensorPtr, x: TensorPtr, bias: str) -> TensorPtr:
        self.work += ggml.ggml_nbytes(weight) * ggml.ggml_nrows(x)
        y = ggml.ggml_mul_mat(self.ctx, weight, x)
        return ggml.ggml_add(self.ctx, y, self.weights[bias]) if bias in self.weights else y

    def rows(self, name: str, ids: TensorPtr) -> TensorPtr:
        """Rows of a matrix by number: ids (n,) → (n, columns), float32 from any type."""
        return ggml.ggml_get_rows(self.ctx, self.weights[f"{name}.weight"], ids)

    def rms_norm(self, x: TensorPtr, name: str, eps: float) -> TensorPtr:
        return ggml.ggml_mul(self.ctx, ggml.ggml_rms_norm(self.ctx, x, eps), self.weights[f"{name}.weight"])

    def layer_norm(self, x: TensorPtr, name: str) -> TensorPtr:
        x = ggml.ggml_mul(self.ctx, ggml.ggml_norm(self.ctx, x, LAYER_NORM_EPS), self.weights[f"{name}.weight"])
        return ggml.ggml_add(self.ctx, x, self.weights[f"{name}.bias"])

    def rope(self, x: TensorPtr, positions: TensorPtr, theta: float) -> TensorPtr:
        """Rotary embedding, NeoX layout: x (T, n_heads, head_dim), positions (T,)."""
        head_dim = shape_of(x)[-1]
        return ggml.ggml_rope_ext(
            self.ctx, x, positions, None, head_dim, ggml.GGML_ROPE_TYPE_NEOX, 0, theta, 1.0, 0.0, 1.0, 0.0, 0.0
        )

    def heads(self, x: TensorPtr, first: int, n_heads: int, head_dim: int) -> TensorPtr:
        """Columns `first` … of x (T, columns), as (T, n_heads, head_dim), without a copy."""
        t = x.contents
        return ggml.ggml_view_3d(self.ctx, x, head_dim, n_heads, t.ne[1], head_dim * t.nb[0], t.nb[1], first * t.nb[0])

    def qkv(self, x: TensorPtr, name: str, n_heads: int, n_kv_heads: int, head_dim: int) -> list[TensorPtr]:
        """Queries, keys and values of x (T, columns), each (T, heads, head_dim), from either layout of the file."""
        counts = (n_heads, n_kv_heads, n_kv_heads)
        if f"{name}.qkv.weight" in self.weights:
            fused = self.linear(x, f"{name}.qkv")
            firsts = (0, n_heads * head_dim, (n_heads + n_kv_heads) * head_dim)
            return [self.heads(fused, first, n, head_dim) for first, n in zip(firsts, counts, strict=True)]
        return [self.heads(self.linear(x, f"{name}.{c}"), 0, n, head_dim) for c, n in zip("qkv", counts, strict=True)]

    def attend(self, q: TensorPtr, k: TensorPtr, v: TensorPtr, mask: TensorPtr | None) -> TensorPtr:
        """q (…, T, n_heads, head_dim) over k, v (…, S, n_kv_heads, head_dim) → (… × T, n_heads × head_dim).

        `mask`, float16 (T, S) of 0 and -infinity, is added to the scores. All else is float32, and the scores of a tile
        are all of them that is ever in memory.
        """
        head_dim, n_heads = q.contents.ne[0], q.contents.ne[1]
        q, k, v = (ggml.ggml_permute(self.ctx, t, 0, 2, 1, 3) for t in (q, k, v))  # (…, heads, T, head_dim)
        out = ggml.ggml_flash_attn_ext(self.ctx, q, k, v, mask, head_dim**-0.5, 0.0, 0.0)  # (…, T, heads, head_dim)
        batch = ggml.ggml_nelements(out) // (head_dim * n_heads)
        return ggml.ggml_reshape_2d(self.ctx, out, head_dim * n_heads, batch)

    def remember(self, cache: TensorPtr, x: TensorPtr, rows: TensorPtr, n: int) -> TensorPtr:
        """Write x (T, heads, head_dim) to `rows` (T,) of a cache (S, row) → its first `n` rows, as x."""
        head_dim, n_heads, n_tokens = x.contents.ne[:3]
        flat = ggml.ggml_view_2d(self.ctx, x, n_heads * head_dim, n_tokens, x.contents.nb[2], 0)
        written = ggml.ggml_set_rows(self.ctx, cache, flat, rows)
        nb = written.contents.nb
        return ggml.ggml_view_3d(self.ctx, written, head_dim, n_heads, n, head_dim * nb[0], nb[1], 0)

    def last_rows(self, x: TensorPtr, n: int) -> TensorPtr:
        """The last `n` rows of x (T, columns), without a copy."""
        t = x.contents
        return ggml.ggml_view_2d(self.ctx, x, t.ne[0], n, t.nb[1], (t.ne[1] - n) * t.nb[1])

    def reshape(self, x: TensorPtr, shape: tuple[int, ...]) -> TensorPtr:
        return ggml.ggml_reshape_4d(self.ctx, x, *reversed((1,) * (4 - len(shape)) + shape))

    def swiglu(self, x: TensorPtr, name: str) -> TensorPtr:
        gate, up = self.linear(x, f"{name}.gate"), self.linear(x, f"{name}.up")
        return self.linear(ggml.ggml_swiglu_split(self.ctx, gate, up), f"{name}.down")

    def convolution(self, x: TensorPtr, name: str, *, stride: int = 1, padding: int = 0) -> TensorPtr:
        """(T, n_in) → (T', n_out), in float32 throughout (`ggml_conv_1d` would round the activations to F16)."""
        kernel = self.weights[f"{name}.weight"]  # (n_out, n_in, kernel_size)
        n_out, n_in, size = shape_of(kernel)
        time_last = ggml.ggml_cont(self.ctx, ggml.ggml_transpose(self.ctx, x))
        windows = ggml.ggml_im2col(
            self.ctx, kernel, time_last, stride, 0, padding, 0, 1, 0, False, ggml.GGML_TYPE_F32
        )  # (T', n_in × kernel_size)
        if kernel.contents.type != ggml.GGML_TYPE_F32:
            kernel = ggml.ggml_cast(self.ctx, kernel, ggml.GGML_TYPE_F32)
        return self._multiply(ggml.ggml_reshape_2d(self.ctx, kernel, n_in * size, n_out), windows, f"{name}.bias")

    def add(self, a: TensorPtr, b: TensorPtr) -> TensorPtr:
        return ggml.ggml_add(self.ctx, a, b)

    def mul(self, a: TensorPtr, b: TensorPtr) -> TensorPtr:
        return ggml.ggml_mul(self.ctx, a, b)

    def gelu(self, x: TensorPtr) -> TensorPtr:
        """The exact GELU, with erf."""
        return ggml.ggml_gelu_erf(self.ctx, x)
