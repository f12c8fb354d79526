"""Runs plans: read → fuse → quantize → write, a bounded run of rows at a time.

Every chunk's place is known from the plan, so chunks are quantized over threads and finish in any order; the bytes
never depend on it. Several plans of one checkpoint are written in one pass over it.
"""

import os
import threading
from collections.abc import Collection, Iterator, Sequence
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
from quantize.types import BEYOND_F16

from .checkpoint import DTYPE_BYTES, Checkpoint, TensorInfo, as_float32
from .plan import Plan, PlannedTensor, make_plan
from .vocabulary import Vocabulary

CHUNK_WEIGHTS = 2_000_000  # 8 MB as float32; small enough for the last-level cache, large enough to drown call costs


class BeyondF16Error(Exception):
    """A finite weight has no finite F16 value; the plan must keep its tensor in F32."""


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


def chunks(tensor: PlannedTensor) -> Iterator[Chunk]:
    """The rows of `tensor`, source by source, in runs of bounded size."""
    n_before = 0
    for source in tensor.sources:
        step = max(1, CHUNK_WEIGHTS // source.row)
        for first in range(0, source.n_rows, step):
            n = min(step, source.n_rows - first)
            yield Chunk(tensor.name, source, first, n, n_before)
            n_before += n * source.row


def convert(request: Request, out: Path, *, threads: int, force: bool = False) -> list[Plan]:
    """Write one file for each plan into the folder `out`; returns the plans as they were written.

    Files appear under their names only when they are complete and flushed. Raises InputError for a weight that is NaN
    or infinite, a file that is already there (unless `force`), a disk that is too small or fills, or a folder that
    cannot be written; then nothing is left behind.
    """
    plans = list(request.plans)
    check_output(plans, out, force=force)
    try:
        _write(plans, out, threads)
    except BeyondF16Error:  # rare, and never in the published model: find them all, plan again, begin again
        beyond_f16 = find_beyond_f16(plans[0], threads)
        plans = [replan(request, plan, beyond_f16) for plan in plans]
        check_output(plans, out, force=force)
        _write(plans, out, threads)
    return plans


def replan(request: Request, plan: Plan, keep_f32: Collection[str]) -> Plan:
    """The same plan with the tensors `keep_f32` in F32."""
    return make_plan(
        request.checkpoint, plan.family, request.vocabulary, plan.outtype, fuse_qkv=plan.fuse_qkv, keep_f32=keep_f32
    )


def check_output(plans: Sequence[Plan], out: Path, *, force: bool) -> None:
    """Whether `plans` can be written into `out`: a folder that can be, no file in the way, and room on the disk."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"cannot be made a folder: {error.strerror}", todo="choose another --out") from error
    if not os.access(out, os.W_OK):
        raise InputError(out, "is not writable", todo="choose another --out")
    for plan in plans:
        if (out / plan.file_name).exists() and not force:
            raise InputError(out / plan.file_name, "is already there and was kept", todo="--force replaces it")
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


def find_beyond_f16(plan: Plan, threads: int) -> set[str]:
    """The names of the tensors that hold a weight beyond F16's range.

    Reads every weight, so it also finds what can be in no file: raises InputError for NaN and infinity.
    """

    def look(chunk: Chunk) -> str | None:
        return (
            chunk.tensor
            if _peak(chunk, as_float32(chunk.source.read_rows(chunk.first, chunk.n))) >= BEYOND_F16
            else None
        )

    todo = (chunk for tensor in plan.tensors for chunk in chunks(tensor))
    return {name for name in _over_threads(look, todo, threads) if name is not None}


def _write(plans: Sequence[Plan], out: Path, threads: int) -> None:
    paths = [out / plan.file_name for plan in plans]
    parts = [path.with_name(path.name + ".part") for path in paths]
    with ExitStack() as cleanup:
        files: list[int] = []
        for plan, part in zip(plans, parts, strict=True):
            cleanup.callback(_discard, part)
            files.append(_create(part, plan))
            cleanup.callback(os.close, files[-1])
        _write_tensors(plans, files, paths, threads)
        for fd, path in zip(files, paths, strict=True):
            _try(path, os.fsync, fd)
        for part, path in zip(parts, paths, strict=True):
            _try(path, os.replace, part, path)
    fd = os.open(out, os.O_RDONLY)  # the new names, too, must survive a power loss
    os.fsync(fd)
    os.close(fd)


def _discard(part: Path) -> None:
    with suppress(OSError):  # it was renamed, or never made: the error that matters is another
        part.unlink()


def _create(part: Path, plan: Plan) -> int:
    """A new file with room for all of `plan`, its header written."""
    fd: int = _try(part, os.open, part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):  # a disk that is too full says so now, not at the end
            _try(part, os.posix_fallocate, fd, 0, plan.size)
        else:
            _try(part, os.truncate, fd, plan.size)
        _pwrite(part, fd, plan.header, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_tensors(plans: Sequence[Plan], files: Sequence[int], paths: Sequence[Path], threads: int) -> None:
    total = sum(source.nbytes for tensor in plans[0].tensors for source in tensor.sources)
    with tqdm(total=total, unit="B", unit_scale=True, disable=None, dynamic_ncols=True) as progress:
        lock = threading.Lock()

        def work(job: tuple[Chunk, list[PlannedTensor]]) -> None:
            chunk, targets = job
            rows = as_float32(chunk.source.read_rows(chunk.first, chunk.n))
            peak = _peak(chunk, rows)
            for plan, target, fd, path in zip(plans, targets, files, paths, strict=True):
                if peak >= BEYOND_F16 and not target.type.holds_any_float:
                    raise BeyondF16Error(target.name)
                offset = len(plan.header) + target.offset + target.type.nbytes(chunk.n_before)
                _pwrite(path, fd, quantize_rows(rows, target.type), offset)
            with lock:
                progress.set_postfix_str(chunk.tensor, refresh=False)
                progress.update(chunk.n * chunk.source.row * DTYPE_BYTES[chunk.source.dtype])

        jobs = (
            (chunk, list(targets))
            for targets in zip(*(plan.tensors for plan in plans), strict=True)
            for chunk in chunks(targets[0])
        )
        for _ in _over_threads(work, jobs, threads):
            pass


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


def _pwrite(path: Path, fd: int, data: Any, offset: int) -> None:
    view = memoryview(data).cast("B")
    while view:
        written = _try(path, os.pwrite, fd, view, offset)
        view, offset = view[written:], offset + written


def _try(path: Path, call: Any, *arguments: Any) -> Any:
    """`call`, whose failure is the disk's or the folder's: InputError with the file's name."""
    try:
        return call(*arguments)
    except OSError as error:
        raise InputError(path, f"cannot be written: {error.strerror}", todo="nothing was left behind") from error
