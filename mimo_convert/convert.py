"""Runs plans: read → fuse → quantize → write, a bounded run of rows at a time.

Every chunk's place is known from the plan, so chunks are quantized over threads and finish in any order; the bytes
never depend on it. Several plans of one checkpoint are written in one pass over it.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from quantize.errors import InputError
from quantize.kernels import quantize_rows
from quantize.types import F16, Type

from .checkpoint import DTYPE_BYTES, Checkpoint, TensorInfo, as_float32
from .models import family_of
from .plan import Plan, PlannedTensor, make_plan
from .vocabulary import Vocabulary, read_vocabulary

CHUNK_WEIGHTS = 2_000_000  # 8 MB as float32; small enough for the last-level cache, large enough to drown call costs


class OverflowingWeightError(Exception):
    """A finite weight has no finite value in its type; the plan must keep its tensor in F32."""


class Chunk(NamedTuple):
    """`n` rows of one source of one tensor, which stand behind `n_before` weights in the output tensor."""

    tensor: str
    source: TensorInfo
    first: int
    n: int
    n_before: int


@dataclass(frozen=True)
class Request:
    """What is to be made of one checkpoint: one file for each plan."""

    checkpoint: Checkpoint
    vocabulary: Vocabulary | None
    plans: Sequence[Plan]


def make_request(checkpoint: Checkpoint, types: Sequence[Type], fuse_qkv: bool) -> Request:
    """One plan a type. Raises InputError for whatever in the checkpoint is not as its family's should be."""
    family = family_of(checkpoint)
    vocabulary = None
    if family.has_vocabulary:
        vocab_size = family.dimensions(checkpoint.config).vocab_size
        vocabulary = read_vocabulary(checkpoint.folder, vocab_size, family.needed_tokens)
    plans = [make_plan(checkpoint, family, vocabulary, type, fuse_qkv=fuse_qkv) for type in types]
    return Request(checkpoint, vocabulary, plans)


def chunks(tensor: PlannedTensor) -> Iterator[Chunk]:
    """The rows of `tensor`, source by source, in runs of bounded size."""
    n_before = 0
    for source in tensor.sources:
        step = max(1, CHUNK_WEIGHTS // source.row)
        for first in range(0, source.n_rows, step):
            n = min(step, source.n_rows - first)
            yield Chunk(tensor.name, source, first, n, n_before)
            n_before += n * source.row


def convert(requests: Sequence[Request], out: Path, *, threads: int, force: bool = False) -> list[Plan]:
    """Write one file for each plan of each request into the folder `out`; returns the plans as they were written.

    All files appear under their names together, when all are complete and flushed. Raises InputError for a weight that
    is NaN or infinite, a file that is already there (unless `force`), a disk that is too small or fills, or a folder
    that cannot be written; then nothing is left behind.
    """
    new_folders = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]
    try:
        check_output([plan for request in requests for plan in request.plans], out, force=force)
        with ExitStack() as stack:
            parts: list[PartFile] = []
            for request in requests:
                parts += _write(request, out, threads, stack)
            for part in parts:
                part.flush()
            for part in parts:
                part.publish()
    except BaseException:
        with suppress(OSError):  # never made, or not empty: somebody else's
            for folder in new_folders:
                folder.rmdir()
        raise
    fd = os.open(out, os.O_RDONLY)  # the new names, too, must survive a power loss
    os.fsync(fd)
    os.close(fd)
    return [part.plan for part in parts]


def replan(request: Request, threads: int) -> Request:
    """The same request, with every tensor in F32 that holds a weight too large for its type: reads all weights."""
    peaks = find_peaks(request.plans[0], threads)
    plans = [
        make_plan(
            request.checkpoint, plan.family, request.vocabulary, plan.outtype, fuse_qkv=plan.fuse_qkv, peaks=peaks
        )
        for plan in request.plans
    ]
    return Request(request.checkpoint, request.vocabulary, plans)


def check_output(plans: Sequence[Plan], out: Path, *, force: bool) -> None:
    """Whether `plans` can be written into `out`: a folder that can be, no file in the way, and room on the disk."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"cannot be made a folder: {error.strerror}", todo="choose another --out") from error
    if not os.access(out, os.W_OK):
        raise InputError(out, "is not writable", todo="choose another --out")
    for plan in plans:
        path = out / plan.file_name
        if path.exists() and not path.is_file():
            raise InputError(path, "is there, and is no file", todo="remove it, or choose another --out")
        if path.exists() and not force:
            raise InputError(path, "is already there and was kept", todo="--force replaces it")
    needed, free = sum(plan.size for plan in plans), free_bytes(out)
    if needed > free:
        raise InputError(
            out, f"{free:,} bytes are free", expected=f"{needed:,} for {len(plans)} files", todo="make room"
        )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, or will."""
    while not os.path.exists(folder):
        folder = folder.resolve().parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def find_peaks(plan: Plan, threads: int) -> dict[str, float]:
    """The greatest magnitude in each tensor that holds one beyond F16's range.

    Reads every weight, so it also finds what can be in no file: raises InputError for NaN and infinity.
    """
    peaks: dict[str, float] = {}
    with progress_bar([plan]) as progress:

        def look(chunk: Chunk) -> tuple[Chunk, float]:
            return chunk, _peak(chunk, as_float32(chunk.source.read_rows(chunk.first, chunk.n)))

        todo = (chunk for tensor in plan.tensors for chunk in chunks(tensor))
        for chunk, peak in _over_threads(look, todo, threads):
            advance(progress, chunk)
            if peak >= F16.overflow:
                peaks[chunk.tensor] = max(peak, peaks.get(chunk.tensor, 0.0))
    return peaks


def progress_bar(plans: Sequence[Plan]) -> Any:
    """Over the bytes to read; shows the tensor, bytes a second and the time left, on a terminal alone."""
    total = sum(source.nbytes for tensor in plans[0].tensors for source in tensor.sources)
    return tqdm(total=total, unit="B", unit_scale=True, disable=None, dynamic_ncols=True)


def advance(progress: Any, chunk: Chunk) -> None:
    """Count a chunk that is done."""
    progress.set_postfix_str(chunk.tensor, refresh=False)
    progress.update(chunk.n * chunk.source.row * DTYPE_BYTES[chunk.source.dtype])


class PartFile:
    """`NAME.part`: `create` makes it with room for all of a plan, `publish` names it NAME.

    A context manager: whatever was not published when it is left, however far it came, disappears.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan, self.part = path, plan, path.with_name(path.name + ".part")
        self.fd: int | None = None

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self.fd is not None:
            os.close(self.fd)
        with suppress(OSError):  # it was published, or never made
            self.part.unlink()

    def create(self) -> None:
        """Make the file with room for the whole plan, and write its header."""
        self.fd = self._try(os.open, self.part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        if hasattr(os, "posix_fallocate"):  # a disk that is too full says so now, not at the end
            self._try(os.posix_fallocate, self.fd, 0, self.plan.size)
        else:
            self._try(os.truncate, self.fd, self.plan.size)
        self.write(self.plan.header, 0)

    def write(self, data: Any, offset: int) -> None:
        """Write a buffer at a place; threads may do so at once."""
        view = memoryview(data).cast("B")
        while view:
            written = self._try(os.pwrite, self.fd, view, offset)
            view, offset = view[written:], offset + written

    def flush(self) -> None:
        """See the bytes onto the disk."""
        self._try(os.fsync, self.fd)

    def publish(self) -> None:
        """Give the file its name."""
        self._try(os.replace, self.part, self.path)

    def _try(self, call: Any, *arguments: Any) -> Any:
        """`call`, whose failure is the disk's or the folder's: InputError with the file's name."""
        try:
            return call(*arguments)
        except OSError as error:
            what = f"cannot be written: {error.strerror}"
            raise InputError(error.filename2 or self.part, what, todo="nothing was left behind") from error


def _write(request: Request, out: Path, threads: int, stack: ExitStack) -> list[PartFile]:
    """The files of one request, complete but not yet published; `stack` disposes of them."""
    parts = [stack.enter_context(PartFile(out / plan.file_name, plan)) for plan in request.plans]
    try:
        for part in parts:
            part.create()
        _write_tensors(parts, threads)
    except OverflowingWeightError:  # rare, and never in the published model: find them all, plan again, begin again
        return _write(replan(request, threads), out, threads, stack)
    return parts


def _write_tensors(parts: Sequence[PartFile], threads: int) -> None:
    with progress_bar([part.plan for part in parts]) as progress:

        def work(job: tuple[Chunk, tuple[PlannedTensor, ...]]) -> Chunk:
            chunk, targets = job
            rows = as_float32(chunk.source.read_rows(chunk.first, chunk.n))
            peak = _peak(chunk, rows)
            for part, target in zip(parts, targets, strict=True):
                if peak >= target.type.overflow:
                    raise OverflowingWeightError(target.name)
                offset = len(part.plan.header) + target.offset + target.type.nbytes(chunk.n_before)
                part.write(quantize_rows(rows, target.type), offset)
            return chunk

        tensors = zip(*(part.plan.tensors for part in parts), strict=True)
        jobs = ((chunk, targets) for targets in tensors for chunk in chunks(targets[0]))
        for chunk in _over_threads(work, jobs, threads):
            advance(progress, chunk)


def _over_threads(work: Any, jobs: Iterator[Any], threads: int) -> Iterator[Any]:
    """`work` of each job, in any order, never more than two jobs a thread in flight; the first error stops the rest."""
    with ThreadPoolExecutor(threads) as pool:
        pending: set[Future[Any]] = set()
        try:
            for job in jobs:
                pending.add(pool.submit(work, job))
                if len(pending) >= 2 * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in pending)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _peak(chunk: Chunk, rows: npt.NDArray[np.float32]) -> float:
    """The greatest magnitude in `rows`; InputError with the row if a weight is NaN or infinite."""
    peak = max(abs(float(rows.min(initial=0))), abs(float(rows.max(initial=0))))
    if not np.isfinite(peak):
        row = int(np.argmin(np.isfinite(rows).all(axis=1)))
        what = "NaN" if np.isnan(rows[row]).any() else "infinity"
        raise InputError(
            chunk.source.file, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
            todo="the checkpoint is damaged: download it again",
        )  # fmt: skip
    return peak
