"""Runs plans: read → quantize → write, a bounded run of rows at a time.

Every chunk's place is known from the plan, so chunks are read in the order in which they lie in the model's files,
quantized over threads, and finish in any order; the bytes never depend on it. Several plans of one model are written in
one pass over it. What is done is noted in journals, so that a run that was killed goes on where it stopped.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from quantize.errors import InputError
from quantize.kernels import Bytes
from quantize.quoting import quoted
from quantize.types import F16

from .claims import Claims
from .disk import flush_folder, free_bytes, nearest
from .flusher import Flusher
from .journal import Journal
from .one_pass import one_pass
from .part_file import PartFile, Tell, names_of
from .plan import Plan
from .request import Chunk, Request, by_place, chunks, origin_of
from .rows import OverflowingWeightError, check_numbers, convert_rows
from .shard_hashes import ShardHashes
from .shards import LocalShards

LONGEST_NAME = 60  # characters of a tensor's name beside a progress bar
GOES_ON = "the same command goes on from here"


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
            arriving = sum(request.model.shards.room(request.files, out) for request in requests)
            check_output([part for group in groups for part in group], out, arriving, force=force)
            for group in groups:
                open_all(group, tell)
            for request, group in zip(requests, groups, strict=True):
                _write(request, group, out, threads, stack)
            parts = [part for group in groups for part in group]
            publish(parts, force=force)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted: {what_is_left(groups)}") from None
    except InputError as error:
        if error.todo:
            raise
        raise InputError(error.where, error.what, expected=error.expected, todo=what_is_left(groups)) from error
    finally:
        with suppress(OSError):  # there were none, or they are not empty
            for folder in new_folders:
                folder.rmdir()
    return [part.plan for part in parts]


def claim_files(requests: Iterable[Request], out: Path, claims: Claims, option: str) -> None:
    """Say that every planned file is written into `out` by `option`. Raises InputError if something reads one."""
    for request in requests:
        for plan in request.plans:
            for path in names_of(out / plan.file_name):
                claims.writes(option, path)


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
    todo = by_place(chunks(tensors))
    peaks: dict[str, float] = {}
    with (
        progress_bar(sum(source.nbytes for tensor in tensors for source in tensor.sources)) as progress,
        closing(one_pass(check_numbers, todo, request.model.shards, threads)) as done,
    ):
        for chunk, top in done:
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


def check_output(parts: Sequence[PartFile], out: Path, arriving: int, *, force: bool) -> None:
    """Whether the files can be written into `out`: a folder that can be, no file in the way, and room on the disk.

    `arriving` bytes of shards will need room there, too. Files that a run that was killed had already given their names
    count as published.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"cannot be made a folder: {error.strerror}", todo="choose another folder") from error
    if not os.access(out, os.W_OK):
        raise InputError(out, "is not writable", todo="choose another folder")
    complete = {name: inode for part in parts for name, inode in part.complete().items()}
    for part in parts:
        part.published = part.path.is_file() and part.inode == complete.get(part.path.name)
    check_names(parts, force=force)
    check_room(parts, out, arriving)


def check_room(parts: Sequence[PartFile], out: Path, arriving: int) -> None:
    """Whether every disk that a file lies on, which may be another than the folder's, has room for it."""
    by_disk: dict[int, list[PartFile]] = {}
    for part in parts:
        by_disk.setdefault(os.stat(nearest(part.path.parent)).st_dev, []).append(part)
    for disk, of_disk in by_disk.items():
        also = arriving if disk == os.stat(out).st_dev else 0
        needed, free = sum(part.room for part in of_disk) + also, free_bytes(of_disk[0].path.parent)
        if needed > free:
            files = f"{len(of_disk)} file{'s' * (len(of_disk) > 1)}" + (
                " and the shards that are to arrive" * (also > 0)
            )
            where = of_disk[0].path.parent if len(by_disk) > 1 else out
            raise InputError(where, f"{free:,} bytes are free", expected=f"{needed:,} for {files}", todo="make room")


def check_names(parts: Sequence[PartFile], *, force: bool) -> None:
    """Whether no file is in the way of those that are still to get their names."""
    for part in parts:
        if part.path.exists() and not part.path.is_file():
            raise InputError(part.path, "is there, and is no file", todo="remove it, or write elsewhere")
        if part.path.exists() and not part.published and not force:
            raise InputError(part.path, "is already there and was kept", todo="--force replaces it")


def _write(request: Request, parts: list[PartFile], out: Path, threads: int, stack: ExitStack) -> None:
    """Make the files of one request complete, but for their names; `parts` become others if the plans must."""
    unnamed, shards = [part for part in parts if not part.published], request.model.shards
    try:
        with ShardHashes(shards) as hashes:
            write_chunks(unnamed, shards, threads, hashes if request.model.is_checkpoint else None)
            if unnamed and request.model.is_checkpoint:
                found = hashes.of(request.files)
                for part in unnamed:
                    part.hashes = found
        shards.check_unchanged(request.files)
    except OverflowingWeightError:  # rare, and never in the published model: find them all, plan again, begin again
        for part in parts:
            part.discard()
        informed = replan(request, threads)
        parts[:] = part_files(informed, out, stack)
        open_all(parts, lambda line: None)
        _write(informed, parts, out, threads, stack)


def write_chunks(parts: Sequence[PartFile], shards: LocalShards, threads: int, hashes: ShardHashes | None) -> None:
    """Write every chunk that is not done, in one pass over the model's files, which are hashed on the way."""
    if not parts:
        return

    def missing(chunk: Chunk) -> list[PartFile]:
        return [part for part in parts if chunk.number not in part.journal.done]

    def work(chunk: Chunk, rows: Bytes) -> int:
        return write_chunk(missing(chunk), chunk, rows)

    every = by_place(chunks(parts[0].plan.tensors))
    todo = [chunk for chunk in every if missing(chunk)]
    uses = Counter({chunk.source.file: 0 for chunk in every})
    uses.update(chunk.source.file for chunk in todo)
    total = sum(tensor.nbytes for part in parts for tensor in part.plan.tensors)
    left = sum(nbytes_of(part, chunk) for chunk in todo for part in missing(chunk))
    with (
        progress_bar(total, total - left) as progress,
        Flusher(parts, shards, uses) as flusher,
        # left first: when the flusher fails, no thread may go on writing to files that are about to be closed
        closing(one_pass(work, todo, shards, threads, hashes)) as written,
    ):
        for chunk, nbytes in written:
            flusher.add(chunk, nbytes)
            advance(progress, parts[0].plan.tensors[chunk.tensor].name, nbytes)


def nbytes_of(part: PartFile, chunk: Chunk) -> int:
    """Bytes of a chunk in this file."""
    return part.plan.tensors[chunk.tensor].type.nbytes(chunk.n * chunk.source.row)


def write_chunk(parts: Sequence[PartFile], chunk: Chunk, rows: Bytes) -> int:
    """Convert stored rows to what each plan says, and write them where it says; returns how many bytes they became."""
    targets = [part.plan.tensors[chunk.tensor] for part in parts]
    nbytes = 0
    converted = convert_rows(chunk, rows, targets)
    for part, target, data in zip(parts, targets, converted, strict=True):
        part.write(data, len(part.plan.header) + target.offset + target.type.nbytes(chunk.n_before))
        nbytes += data.nbytes
    return nbytes


def publish(parts: Sequence[PartFile], *, force: bool) -> None:
    """Give all files their names, so that a run that is killed here is finished by the next.

    Raises InputError if somebody else has given one of the names in the meantime.
    """
    check_names(parts, force=force)
    unnamed = [part for part in parts if not part.published]
    for part in unnamed:
        part.complete_header()
    inodes = {part.path.name: part.inode for part in parts}
    for part in unnamed:
        part.finish(inodes)
    for part in unnamed:
        part.publish()
    for part in parts:
        flush_folder(part.path.parent)
    for part in parts:
        part.journal.remove()


def what_is_left(groups: Iterable[Iterable[PartFile]]) -> str:
    """What to tell somebody whose run ended early."""
    parts = [part for group in groups for part in group]
    kept = [part.part.name for part in parts if part.journal.done and not part.published]
    if kept:
        return f"{GOES_ON}, with what is in {', '.join(kept)}"
    return GOES_ON if any(part.published for part in parts) else "nothing was left behind"


def progress_bar(total: int, done: int = 0) -> Any:
    """Over bytes; shows the tensor, bytes a second and the time left, on a terminal alone."""
    return tqdm(total=total, initial=done, unit="B", unit_scale=True, disable=None, dynamic_ncols=True)


def advance(progress: Any, tensor: str, nbytes: int) -> None:
    """Count a chunk that is done."""
    progress.set_postfix_str(quoted(tensor, LONGEST_NAME), refresh=False)
    progress.update(nbytes)
