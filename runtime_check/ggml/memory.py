"""Memory of ggml: the backend, weights in the mapped file, repacked weights, and state that outlives a run.

Shapes are written as in numpy, slowest dimension first; ggml's `ne` is the reverse.
"""

import ctypes
import hashlib
import itertools
import mmap
import sys
import weakref
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import BoundedSemaphore
from typing import Any

import ggml
import numpy as np

from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.listener import advance
from mimo_convert.model.model_file import FileHash
from runtime_check.choices import AUTO
from runtime_check.products.choice import Products

TensorPtr = Any  # ctypes pointer to a ggml_tensor
HASHED_AT_ONCE = 1 << 24  # bytes that are hashed before their pages are unmapped, if nothing else needs them
HASHED_AHEAD = 4  # tensors that are hashed and wait for a thread to repack them, while their pages are in memory

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
    """The CPU backend's buffer type for repacked weights (CPU_REPACK); None if this ggml has none."""
    registry = ggml.ggml_backend_cpu_reg()
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return None
    extra_types = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    types = extra_types(ggml.ggml_backend_reg_dev_get(registry, 0))
    found = itertools.takewhile(bool, (types[i] for i in itertools.count()))
    return next(
        (buffer_type for buffer_type in found if ggml.ggml_backend_buft_name(buffer_type) == b"CPU_REPACK"), None
    )


def shape_of(tensor: TensorPtr) -> tuple[int, ...]:
    """The numpy shape of a ggml tensor, without leading ones."""
    ne = [int(n) for n in tensor.contents.ne[:4]]
    while len(ne) > 1 and ne[-1] == 1:
        ne.pop()
    return tuple(reversed(ne))


def new_context(n_tensors: int, extra: int = 0) -> Any:
    """A ggml context for `n_tensors` tensors and `extra` bytes, without tensor data."""
    size = ggml.ggml_tensor_overhead() * n_tensors + extra
    context = ggml.ggml_init(ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=True))
    if not context:
        raise MemoryError("ggml cannot make a context")
    return context


def new_tensor(context: Any, ggml_type: int, shape: tuple[int, ...]) -> TensorPtr:
    """A tensor of a numpy shape, not allocated yet."""
    return ggml.ggml_new_tensor(context, ggml_type, len(shape), (ctypes.c_int64 * 4)(*reversed(shape)))


class Backend:
    """ggml's CPU backend, and the choice of the code that multiplies (`products`: AUTO, OWN, GGML). `held` counts the
    bytes of graphs and states, `peak` is its maximum."""

    def __init__(self, threads: int, products: str = AUTO) -> None:
        self.handle, self.threads = ggml.ggml_backend_cpu_init(), threads
        self.products = Products(products)
        self.held = self.peak = 0
        weakref.finalize(self, ggml.ggml_backend_free, self.handle)

    def count_held(self, owner: object, nbytes: int) -> None:
        """Count `nbytes` until `owner` is garbage-collected."""
        self.held += nbytes
        self.peak = max(self.peak, self.held)
        weakref.finalize(owner, self._let_go, nbytes)

    def _let_go(self, nbytes: int) -> None:
        self.held -= nbytes


class Weights:
    """The tensors of a GGUF file, mapped into memory: nothing is copied, and pages are loaded when used.

    The file was validated (`gguf_facts.checked_dimensions`): every tensor that a graph uses is there.
    """

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        with file.path.open("rb") as handle:
            self.map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        bytes_of_file = np.frombuffer(self.map, np.uint8)
        base = self.address = bytes_of_file.ctypes.data
        context = new_context(len(file.tensors))
        buffer = _buffer_from_ptr(base, len(bytes_of_file))
        weakref.finalize(self, _free, context, buffer, bytes_of_file)
        self.tensors: dict[str, TensorPtr] = {}
        for name, entry in file.tensors.items():
            tensor = new_tensor(context, entry.ggml_type.ggml, entry.shape)
            ggml.ggml_backend_tensor_alloc(buffer, tensor, base + entry.begin)
            self.tensors[name] = tensor
        self._kernels: dict[str, State] = {}

    def kernel_rows(self, name: str, backend: Backend) -> list[TensorPtr]:
        """The rows of the kernel of a 2-D convolution as matrices, (n_out, width × n_in) float32 each, which are made
        once."""
        if name not in self._kernels:
            kernel = self.file.tensors[f"{name}.weight"]  # (n_out, n_in, height, width)
            rows = kernel.read_float32().reshape(kernel.shape).transpose(2, 0, 3, 1)
            rows = np.ascontiguousarray(rows).reshape(len(rows), kernel.shape[0], -1)
            made = self._kernels[name] = State(backend, {str(i): row.shape for i, row in enumerate(rows)})
            for tensor, row in zip(made.tensors.values(), rows, strict=True):
                ggml.ggml_backend_tensor_set(tensor, row.ctypes.data, 0, row.nbytes)
        return list(self._kernels[name].tensors.values())

    def repack(self, names: Collection[str], threads: int, sha256: FileHash | None = None) -> int:
        """Repack the matrices `names` into ggml's layout for faster products, as far as it has one; returns their
        bytes.

        Repacked matrices can only be multiplied with. Graphs made before still use the mapped file. The file is read
        once, in order: if its hash, `sha256`, is wanted and not known, it is computed from the same pages.
        """
        if not repack_buffer_type() or not names:
            return 0
        context = new_context(len(names))
        entries = {name: self.file.tensors[name] for name in names}
        tensors = {name: new_tensor(context, entry.ggml_type.ggml, entry.shape) for name, entry in entries.items()}
        buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(context, repack_buffer_type())
        if not buffer:
            raise MemoryError("ggml cannot allocate memory for repacked weights")
        weakref.finalize(self, _free, context, buffer)
        # ggml marks those that it has a layout for; memory of the others is never touched, so it is never taken
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.contents.extra}

        def lay_out(name: str) -> None:
            entry = entries[name]
            ggml.ggml_backend_tensor_set(tensors[name], self.address + entry.begin, 0, entry.nbytes)
            self._drop(entry.begin, entry.begin + entry.nbytes)

        waiting = BoundedSemaphore(threads + HASHED_AHEAD)
        digest = MapDigest(self.map) if sha256 and sha256.missing and tensors else None
        with ThreadPoolExecutor(threads) as pool:
            jobs = []
            for name in sorted(tensors, key=lambda name: entries[name].begin):
                if digest:
                    self._hash_only(digest, entries[name].begin)
                    digest.read_to(entries[name].begin + entries[name].nbytes)
                waiting.acquire()
                advance(entries[name].nbytes, name)
                jobs.append(pool.submit(lay_out, name))
                jobs[-1].add_done_callback(lambda _: waiting.release())
            if digest and sha256:
                self._hash_only(digest, len(self.map))
                sha256.known = digest.hexadecimal()
            for job in jobs:
                job.result()
        self.tensors |= tensors
        return sum(entries[name].nbytes for name in tensors)

    def _hash_only(self, digest: "MapDigest", end: int) -> None:
        """Hash up to `end`, and unmap what was hashed."""
        while digest.at < end:
            begin = digest.at
            digest.read_to(min(begin + HASHED_AT_ONCE, end))
            self._drop(begin, digest.at)

    def _drop(self, begin: int, end: int) -> None:
        """Unmap the whole pages between two offsets of the file; they are mapped again when they are used."""
        first, last = -(-begin // mmap.PAGESIZE), end // mmap.PAGESIZE
        if first < last:
            self.map.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> TensorPtr:
        return self.tensors[name]


class MapDigest:
    """The sha256 of the first `at` bytes of a mapped file."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.map, self.digest, self.at = mapped, hashlib.sha256(), 0

    def read_to(self, end: int) -> None:
        """Hash the bytes up to `end`."""
        with memoryview(self.map) as view, view[self.at : end] as unread:
            self.digest.update(unread)
        self.at = max(self.at, end)

    def hexadecimal(self) -> str:
        """The sha256 of what was read, in hexadecimal."""
        return self.digest.hexdigest()


class State:
    """Float32 tensors that outlive a run, such as a KV cache; zero at first."""

    def __init__(self, backend: Backend, shapes: Mapping[str, tuple[int, ...]]) -> None:
        context = new_context(len(shapes))
        self.tensors = {name: new_tensor(context, ggml.GGML_TYPE_F32, shape) for name, shape in shapes.items()}
        buffer = ggml.ggml_backend_alloc_ctx_tensors(context, backend.handle)
        if not buffer:
            raise MemoryError("ggml cannot allocate what outlives a run")
        ggml.ggml_backend_buffer_clear(buffer, 0)
        backend.count_held(self, ggml.ggml_backend_buffer_get_size(buffer))
        weakref.finalize(self, _free, context, buffer)

    def __getitem__(self, name: str) -> TensorPtr:
        return self.tensors[name]


def _free(context: Any, buffer: Any, *keep_alive: Any) -> None:
    ggml.ggml_backend_buffer_free(buffer)
    ggml.ggml_free(context)
