"""Runs plans: read → quantize → write, a bounded run of rows at a time.

Every chunk's place is known from the plan, so chunks are read in the order in which they lie in the model's files,
quantized over threads, and finish in any order; the bytes never depend on it. Several plans of one model are written in
one pass over it. What is done is noted in journals, so that a run that was killed goes on where it stopped.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from quantize.errors import InputError
from quantize.kernels import Bytes, Scratch, is_float, peak, quantize_rows, to_float32
from quantize.types import F16, F32, Type

from .journal import Journal
from .part_file import PartFile, Tell, WorthlessError, flush_folder
from .plan import Plan
from .request import Chunk, Request, by_place, chunks, origin_of
from .shards import LocalShards

FLUSH_BYTES = 1 << 27  # written before the next flush begins: what a killed run does again, and an interrupt waits for


FLOATS, BLOCKS = Scratch(), Scratch()


class OverflowingWeightError(Exception):
    """A finite weight has no finite value in its type; the plan must keep its tensor in F32."""


class InterruptedRunError(KeyboardInterrupt):
    """The user's interrupt, with what there is to say about it."""


def convert(
    requests: Sequence[Request], out: Path, *, threads: int, force: bool = False, tell: Tell = lambda line: None
) -> list[Plan]:
    """Write one file for each plan of each request into the folder `out`; returns the plans as they were written.

    All files appear under their names together, when all are complete and flushed. What an earlier run of the same
    requests left unfinished is gone on with; `tell` gets a line that says so. Raises InputError for a weight that is
    NaN or infinite, a file that is already there (unless `force`), a disk that is too small or fills, or a folder that
    cannot be written; InterruptedRunError for an interrupt.
    """
    new_folders = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]
    groups: list[list[PartFile]] = []
    try:
        with ExitStack() as stack:
            requests = [recall(request, out) for request in requests]
            groups += [part_files(request, out, stack) for request in requests]
            check_output([part for group in groups for part in group], out, force=force)
            for group in groups:
                open_all(group, tell)
            for i, request in enumerate(requests):
                groups[i] = _write(request, groups[i], threads, stack)
            parts = [part for group in groups for part in group]
            publish(parts)
    except KeyboardInterrupt:
        raise InterruptedRunError(how_to_go_on(part for group in groups for part in group)) from None
    finally:
        with suppress(OSError):  # there were none, or they are not empty
            for folder in new_folders:
                folder.rmdir()
    return [part.plan for part in parts]


def recall(request: Request, out: Path) -> Request:
    """The same request, with what an earlier run of it found out about weights too large for their type."""
    for i, plan in enumerate(request.plans):
        found = Journal.read(PartFile(out / plan.file_name, plan, origin_of(request, plan)).journal.path)
        if found and found.origin.peaks:
            informed = replace(request, peaks=found.origin.peaks)
            if origin_of(informed, informed.plans[i]) == found.origin:
                return informed
    return request


def replan(request: Request, threads: int) -> Request:
    """The same request, with every tensor in F32 that holds a weight too large for its type: reads all weights."""
    return replace(request, peaks=find_peaks(request, threads))


def find_peaks(request: Request, threads: int) -> dict[str, float]:
    """The greatest magnitude in each tensor that holds one beyond F16's range.

    Reads every weight, so it also finds what can be in no file: raises InputError for NaN and infinity.
    """
    tensors = request.plans[0].tensors
    peaks: dict[str, float] = {}

    buffers = Buffers()

    def look(job: tuple[Chunk, Bytes]) -> tuple[Chunk, Bytes, float]:
        return *job, check_numbers(*job)

    with progress_bar(sum(source.nbytes for tensor in tensors for source in tensor.sources)) as progress:
        todo = read(by_place(chunks(tensors)), request.model.shards, buffers)
        for chunk, rows, top in over_threads(look, todo, threads):
            buffers.give_back(rows)
            name = tensors[chunk.tensor].name
            advance(progress, name, chunk.n * chunk.source.row_bytes)
            if top >= F16.overflow:
                peaks[name] = max(top, peaks.get(name, 0.0))
    return peaks


def part_files(request: Request, out: Path, stack: ExitStack) -> list[PartFile]:
    """A `.part`, not yet opened, for each plan; `stack` closes them."""
    return [
        stack.enter_context(PartFile(out / plan.file_name, plan, origin_of(request, plan))) for plan in request.plans
    ]


def open_all(parts: Iterable[PartFile], tell: Tell) -> None:
    """Open those that still have no name."""
    for part in parts:
        if not part.published:
            part.open(tell)


def check_output(parts: Sequence[PartFile], out: Path, *, force: bool) -> None:
    """Whether the files can be written into `out`: a folder that can be, no file in the way, and room on the disk.

    Files that a run that was killed had already given their names count as published.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"cannot be made a folder: {error.strerror}", todo="choose another --out") from error
    if not os.access(out, os.W_OK):
        raise InputError(out, "is not writable", todo="choose another --out")
    named = {name for part in parts for name in part.names_published()}
    for part in parts:
        path = part.path
        part.published = path.name in named and part.is_whole()
        if path.exists() and not path.is_file():
            raise InputError(path, "is there, and is no file", todo="remove it, or choose another --out")
        if path.exists() and not part.published and not force:
            raise InputError(path, "is already there and was kept", todo="--force replaces it")
    needed, free = sum(part.room for part in parts), free_bytes(out)
    if needed > free:
        raise InputError(
            out, f"{free:,} bytes are free", expected=f"{needed:,} for {len(parts)} files", todo="make room"
        )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, or will."""
    while not os.path.exists(folder):
        folder = folder.resolve().parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _write(request: Request, parts: list[PartFile], threads: int, stack: ExitStack) -> list[PartFile]:
    """Make the files of one request complete, but for their names."""
    try:
        write_chunks([part for part in parts if not part.published], request.model.shards, threads)
    except OverflowingWeightError:  # rare, and never in the published model: find them all, plan again, begin again
        for part in parts:
            part.discard()
        informed = replan(request, threads)
        parts = part_files(informed, parts[0].path.parent, stack)
        open_all(parts, lambda line: None)
        return _write(informed, parts, threads, stack)
    return parts


def write_chunks(parts: Sequence[PartFile], shards: LocalShards, threads: int) -> None:
    """Write every chunk that is not done, in one pass over the model's files."""
    if not parts:
        return

    def missing(chunk: Chunk) -> list[PartFile]:
        return [part for part in parts if chunk.number not in part.journal.done]

    def work(job: tuple[Chunk, Bytes]) -> tuple[Chunk, Bytes, int]:
        chunk, rows = job
        return chunk, rows, sum(write_chunk(part, chunk, rows) for part in missing(chunk))

    every = by_place(chunks(parts[0].plan.tensors))
    todo = [chunk for chunk in every if missing(chunk)]
    uses = Counter({chunk.source.file: 0 for chunk in every})
    uses.update(chunk.source.file for chunk in todo)
    total = sum(tensor.nbytes for part in parts for tensor in part.plan.tensors)
    left = sum(nbytes_of(part, chunk) for chunk in todo for part in missing(chunk))
    buffers = Buffers()
    with progress_bar(total, total - left) as progress, Flusher(parts, shards, uses) as flusher:
        for chunk, rows, nbytes in over_threads(work, read(todo, shards, buffers), threads):
            buffers.give_back(rows)
            flusher.add(chunk, nbytes)
            advance(progress, parts[0].plan.tensors[chunk.tensor].name, nbytes)


def nbytes_of(part: PartFile, chunk: Chunk) -> int:
    """Bytes of a chunk in this file."""
    return part.plan.tensors[chunk.tensor].type.nbytes(chunk.n * chunk.source.row)


def write_chunk(part: PartFile, chunk: Chunk, rows: Bytes) -> int:
    """Convert stored rows to what the plan says, and write them where it says; returns how many bytes they became."""
    target = part.plan.tensors[chunk.tensor]
    offset = len(part.plan.header) + target.offset + target.type.nbytes(chunk.n_before)
    data = convert_rows(chunk, rows, target.type)
    part.write(data, offset)
    return data.nbytes


def convert_rows(chunk: Chunk, rows: Bytes, type: Type) -> Bytes:
    """Stored rows as rows of `type`: as they are if they are that already.

    Raises WorthlessError for NaN and infinity, OverflowingWeightError for a weight that would become infinite.
    """
    stored = chunk.source.type
    if stored is type and not is_float(type):
        return rows
    top = check_numbers(chunk, rows)
    if stored is type:
        return rows
    if top >= type.overflow:
        raise OverflowingWeightError
    return quantize_rows(to_float32(rows, stored, FLOATS), type, BLOCKS)


def check_numbers(chunk: Chunk, rows: Bytes) -> float:
    """The greatest magnitude in stored rows; WorthlessError if a weight is NaN or infinite."""
    type = chunk.source.type
    top = peak(rows, type) if is_float(type) else peak(to_float32(rows, type).view(np.uint8), F32)
    if np.isfinite(top):
        return top
    floats = to_float32(rows, type)
    row = int(np.argmin(np.isfinite(floats).all(axis=1)))
    what = "NaN" if np.isnan(floats[row]).any() else "infinity"
    raise WorthlessError(
        chunk.source.file, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
        todo="the checkpoint is damaged: download it again",
    )  # fmt: skip


class Buffers:
    """Memory for rows, used over and over: fresh pages would cost the system more time than reading into them."""

    def __init__(self) -> None:
        self.free: list[Bytes] = []

    def take(self, nbytes: int) -> Bytes:
        """A flat buffer of at least so many bytes."""
        buffer = self.free.pop() if self.free else np.empty(0, np.uint8)
        return buffer if buffer.nbytes >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, rows: Bytes) -> None:
        """Rows that were read into a buffer are used up."""
        assert isinstance(rows.base, np.ndarray)
        self.free.append(rows.base)


def read(chunks: Sequence[Chunk], shards: LocalShards, buffers: Buffers) -> Iterator[tuple[Chunk, Bytes]]:
    """Each chunk with its rows as stored; waits for a file that has yet to arrive."""
    file = None
    shards.expect(list(dict.fromkeys(chunk.source.file for chunk in chunks)))
    for chunk in chunks:
        if chunk.source.file != file:
            file = chunk.source.file
            shards.fetch(file)
        into = buffers.take(chunk.n * chunk.source.row_bytes)
        yield chunk, chunk.source.read(chunk.first, chunk.n, into)


class Flusher:
    """Sees what is written onto the disk, beside the work, and then into the journals.

    `uses` counts, for each file of the model, the chunks to be made of it; one that is used up is released.
    """

    def __init__(self, parts: Sequence[PartFile], shards: LocalShards, uses: Counter[Path]) -> None:
        self.parts, self.shards, self.uses = parts, shards, uses
        self.pool = ThreadPoolExecutor(1)
        self.running: Future[None] | None = None
        self.written: list[Chunk] = []
        self.nbytes = 0

    def __enter__(self) -> "Flusher":
        self._release()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._start()
                self._wait()
        finally:
            self.pool.shutdown()

    def add(self, chunk: Chunk, nbytes: int) -> None:
        """A chunk was written. At most about twice FLUSH_BYTES are not yet on the disk when this returns."""
        self.written.append(chunk)
        self.nbytes += nbytes
        if self.nbytes >= FLUSH_BYTES:
            self._start()

    def _start(self) -> None:
        self._wait()
        self.running = self.pool.submit(self._flush, self.written)
        self.written, self.nbytes = [], 0

    def _wait(self) -> None:
        if self.running:
            self.running.result()

    def _flush(self, written: list[Chunk]) -> None:
        for part in self.parts:
            part.flush([chunk.number for chunk in written])
        self.uses.subtract(chunk.source.file for chunk in written)
        self._release()

    def _release(self) -> None:
        for file in [file for file, n in self.uses.items() if n == 0]:
            del self.uses[file]
            self.shards.release(file)


def publish(parts: Sequence[PartFile]) -> None:
    """Give all files their names, so that a run that is killed here is finished by the next."""
    names = [part.path.name for part in parts]
    unnamed = [part for part in parts if not part.published]
    for part in unnamed:
        part.finish(names)
    for part in unnamed:
        part.publish()
    for part in parts:
        flush_folder(part.path.parent)
    for part in parts:
        part.journal.remove()


def how_to_go_on(parts: Iterable[PartFile]) -> str:
    """What to tell somebody who interrupted a run."""
    kept = [part.part.name for part in parts if part.journal.done]
    if not kept:
        return "interrupted: nothing was left behind"
    return f"interrupted: the same command goes on from here, with what is in {', '.join(kept)}"


def over_threads(work: Callable[[Any], Any], jobs: Iterator[Any], threads: int) -> Iterator[Any]:
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


def progress_bar(total: int, done: int = 0) -> Any:
    """Over bytes; shows the tensor, bytes a second and the time left, on a terminal alone."""
    return tqdm(total=total, initial=done, unit="B", unit_scale=True, disable=None, dynamic_ncols=True)


def advance(progress: Any, tensor: str, nbytes: int) -> None:
    """Count a chunk that is done."""
    progress.set_postfix_str(tensor, refresh=False)
    progress.update(nbytes)
