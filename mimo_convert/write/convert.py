"""Execute plans: read → quantize → write, a chunk of rows at a time.

Every chunk's place is known from the plan, so chunks are read in the order of the source files, quantized by several
threads and written in any order; the bytes do not depend on it. All plans of a model are written in one pass over it.
Journals record what is done, so that an interrupted run can be resumed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mimo_convert.claims import Claims
from mimo_convert.disk import flush_folder, free_bytes, nearest
from mimo_convert.listener import phase
from mimo_convert.plan.feedback import Rounding
from mimo_convert.plan.plan import Plan, PlannedTensor
from mimo_convert.plan.request import Request, sources_of
from mimo_convert.sources.shards import LocalShards
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.kernels import Bytes
from quantize.types import F16, Type

from .chunks import Chunk, by_place, chunks
from .flusher import Flusher
from .journal import Journal
from .made import EXISTS, FORCE, MADE, Accept, difference, find_made, in_the_way, with_promotions
from .one_pass import one_pass
from .origin import origins_of
from .part_file import PartFile, Tell, names_of
from .rows import OverflowingWeightError, absmax_if_finite, convert_rows
from .shard_hashes import ShardHashes

RESUMES = "the same command resumes here"


class InterruptedRunError(KeyboardInterrupt):
    """KeyboardInterrupt with a message about what was left on disk."""


def convert(
    requests: Sequence[Request], out: Path, *, threads: int, force: bool = False, tell: Tell = lambda line: None,
    accept: Accept = lambda path: None,
) -> list[Plan]:  # fmt: skip
    """Write one file per plan of each request into the folder `out`; returns the plans as executed.

    All files are renamed to their final names together, when all are complete and flushed. Files that an earlier run of
    the same requests completed are not written again (unless `force`), and its unfinished files are resumed; `tell`
    gets a line about it. `accept` is called for each complete one, and may raise InputError.

    Raises InputError for a weight that is NaN or infinite, another file of a planned name (unless `force`), a disk that
    is too small, or a folder that cannot be written; InterruptedRunError for an interrupt.
    """
    new_folders = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]
    groups: list[list[PartFile]] = []
    try:
        with ExitStack() as stack:
            jobs = [resume(request, out, force=force) for request in requests]
            requests = [request for request, _ in jobs]
            groups += [[stack.enter_context(part) for part in parts] for _, parts in jobs]
            find_finalized([part for group in groups for part in group])
            pairs = list(zip(requests, groups, strict=True))
            if not force:
                for request, group in pairs:
                    find_made(request, group, tell, accept)
            read = [request for request, group in pairs if not all(part.finalized for part in group)]
            arriving = sum(shards.room(files, out) for _, shards, files in sources_of(read))
            check_output([part for group in groups for part in group], out, arriving, force=force)
            for group in groups:
                open_all(group, tell)
            for request, group in zip(requests, groups, strict=True):
                _write(request, group, out, threads, stack, tell)
            parts = [part for group in groups for part in group]
            finalize(parts, force=force)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted: {what_is_left(groups)}") from None
    except InputError as error:
        if error.todo:
            raise
        raise InputError(error.where, error.what, expected=error.expected, todo=what_is_left(groups)) from error
    finally:
        for feedback in filter(None, (request.options.feedback for request in requests)):
            feedback.factors.clear()
        with suppress(OSError):  # there were none, or they are not empty
            for folder in new_folders:
                folder.rmdir()
    return [part.plan for part in parts]


def claim_files(requests: Iterable[Request], out: Path, claims: Claims, option: str) -> None:
    """Claim every planned file in `out` for `option`. Raises InputError if another option reads one."""
    for request in requests:
        for plan in request.plans:
            for path in names_of(out / plan.file_name):
                claims.writes(option, path)


def resume(request: Request, out: Path, *, force: bool) -> tuple[Request, list[PartFile]]:
    """Restore what an earlier run found about weights that overflow their type, from its journals, or its files unless
    these are replaced (`force`); returns the request with an unopened `.part` per plan."""
    names = [names_of(out / plan.file_name) for plan in request.plans]
    journals = [Journal.read(journal) for _, _, journal in names]
    origins = origins_of(request)
    for i, found in enumerate(journals):
        if found and found.origin.absmax:
            informed = replace(request, absmax=found.origin.absmax)
            of_informed = origins_of(informed)
            if of_informed[i] == found.origin:
                request, origins = informed, of_informed
                break
    else:
        if not (force or request.absmax):
            informed = with_promotions(request, [path for path, _, _ in names])
            if informed is not request:
                request, origins = informed, origins_of(informed)
    return request, [
        PartFile(out / plan.file_name, plan, origin, found)
        for plan, origin, found in zip(request.plans, origins, journals, strict=True)
    ]


def replan(request: Request, threads: int) -> Request:
    """Promote tensors with a weight that overflows its type to F32; reads all weights."""
    return replace(request, absmax=find_absmax(request, threads))


def replan_local(requests: Sequence[Request], threads: int) -> list[Request]:
    """The requests with tensors promoted to F32 as a conversion would: reads every weight.

    Nothing is downloaded; models that are not local are unchanged, with a message.
    """
    here = [request.is_here for request in requests]
    if not all(here):
        absent = " and ".join(r.model.name for r, is_here in zip(requests, here, strict=True) if not is_here)
        tell(f"{absent}: not all files are local, so no weight was read: tensors to promote to f32 are not known yet")
    unread = [is_here and not request.options.mix for request, is_here in zip(requests, here, strict=True)]
    return [replan(r, threads) if is_unread else r for r, is_unread in zip(requests, unread, strict=True)]


def find_absmax(request: Request, threads: int) -> dict[str, float]:
    """Find the absmax of each tensor that holds one beyond F16's range.

    Reads every weight, so it also finds what can be in no file: raises InputError for NaN and infinity.
    """
    tensors = request.plans[0].tensors
    todo = by_place(chunks(tensors))
    found: dict[str, float] = {}
    with (
        phase("reading all weights", sum(source.nbytes for t in tensors for source in t.sources)) as progress,
        closing(one_pass(absmax_if_finite, todo, request.model.shards, threads)) as done,
    ):
        for chunk, absmax in done:
            progress.advance(chunk.n * chunk.source.row_bytes, tensors[chunk.tensor].name)
            if absmax >= F16.overflow:
                for name in (tensors[i].name for i in chunk.tensors):
                    found[name] = max(absmax, found.get(name, 0.0))
    return found


def open_all(parts: Iterable[PartFile], tell: Tell) -> None:
    """Open the `.part` files that are not finalized."""
    for part in parts:
        if not part.finalized:
            part.open(tell)


def check_output(parts: Sequence[PartFile], out: Path, arriving: int, *, force: bool) -> None:
    """Raise InputError unless the files can be written into `out`: a writable folder, no file in the way, room on the
    disk.

    `arriving` bytes of shards need room there, too.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"cannot be made a folder: {error.strerror}", todo="choose another folder") from error
    if not os.access(out, os.W_OK):
        raise InputError(out, "is not writable", todo="choose another folder")
    check_names(parts, force=force)
    check_room(parts, out, arriving)


def find_finalized(parts: Sequence[PartFile]) -> None:
    """Mark the files that an interrupted run had already renamed."""
    complete = {name: inode for part in parts for name, inode in part.complete().items()}
    for part in parts:
        part.finalized = part.path.is_file() and part.inode == complete.get(part.path.name)


class Left(NamedTuple):
    """What is left to do: bytes to write, and bytes of disk space that they need. `there` are notes on files that exist
    already, by name."""

    nbytes: int
    room: int
    there: Mapping[str, str]


def what_is_to_do(requests: Iterable[Request], out: Path, *, force: bool = False) -> Left:
    """Count what `convert` would still write; nothing is changed, and no source is read to judge a file that exists."""
    parts = [part for request in requests for part in resume(request, out, force=force)[1]]
    find_finalized(parts)
    there = {}
    for part in parts:
        if not force and not part.finalized and part.path.is_file():
            differs = difference(part.path, part.plan)
            part.finalized = differs is None
            there[part.plan.file_name] = str(in_the_way(part.path, differs)) if differs else MADE
    return Left(sum(bytes_left(part) for part in parts), sum(part.room for part in parts), there)


def bytes_left(part: PartFile) -> int:
    """Bytes of a file that are still to be written."""
    if part.finalized:
        return 0
    done = part.journal.done
    return part.plan.size - sum(nbytes_of(part, chunk) for chunk in chunks(part.plan.tensors) if chunk.number in done)


def check_room(parts: Sequence[PartFile], out: Path, arriving: int) -> None:
    """Raise InputError unless every disk that files are written to has room for them."""
    by_disk: dict[int, list[PartFile]] = {}
    for part in parts:
        by_disk.setdefault(os.stat(nearest(part.path.parent)).st_dev, []).append(part)
    for disk, of_disk in by_disk.items():
        also = arriving if disk == os.stat(out).st_dev else 0
        needed, free = sum(part.room for part in of_disk) + also, free_bytes(of_disk[0].path.parent)
        if needed > free:
            files = f"{len(of_disk)} files" if len(of_disk) > 1 else "1 file"
            if also:
                files += " and the shards that are to arrive"
            where = of_disk[0].path.parent if len(by_disk) > 1 else out
            raise InputError(where, f"{free:,} bytes are free", expected=f"{needed:,} for {files}", todo="make room")


def check_names(parts: Sequence[PartFile], *, force: bool) -> None:
    """Raise InputError if an existing file is in the way of a final name."""
    for part in parts:
        if part.path.exists() and not part.path.is_file():
            raise InputError(part.path, "exists and is not a file", todo="remove it, or write elsewhere")
        if part.path.exists() and not part.finalized and not force:
            raise InputError(part.path, EXISTS, todo=FORCE)


def _write(request: Request, parts: list[PartFile], out: Path, threads: int, stack: ExitStack, tell: Tell) -> None:
    """Complete the files of one request except for their names; `parts` are replaced if tensors must be promoted to
    F32."""
    unnamed, shards = [part for part in parts if not part.finalized], request.model.shards
    try:
        if unnamed:
            request.model.fetch_adapter()
        with ShardHashes(shards) as hashes:
            write_chunks(unnamed, shards, threads, hashes if request.model.is_checkpoint else None)
            if unnamed and request.model.is_checkpoint:
                found = hashes.of(request.files)
                for part in unnamed:
                    part.hashes = found
        for _, of_source, files in request.sources:
            of_source.check_unchanged(files)
    except OverflowingWeightError as error:  # rare, and never in the published model
        tell(f"{error}: reading all weights and starting over with every such tensor promoted to f32")
        for part in parts:
            part.discard()
        informed = replan(request, threads)
        begun = zip(informed.plans, origins_of(informed), strict=True)
        again = [stack.enter_context(PartFile(out / plan.file_name, plan, origin, None)) for plan, origin in begun]
        for part, before in zip(again, parts, strict=True):
            part.finalized, part.made = before.finalized, before.made  # in a type that holds every weight
        parts[:] = again
        open_all(parts, lambda line: None)
        _write(informed, parts, out, threads, stack, tell)


def write_chunks(parts: Sequence[PartFile], shards: LocalShards, threads: int, hashes: ShardHashes | None) -> None:
    """Write every missing chunk in one pass over the model's files, hashing them on the way."""
    if not parts:
        return

    every = by_place(chunks(parts[0].plan.tensors))
    missing = {chunk.number: [part for part in parts if chunk.number not in part.journal.done] for chunk in every}
    todo = [chunk for chunk in every if missing[chunk.number]]

    def work(chunk: Chunk, rows: Bytes) -> int:
        return write_chunk(missing[chunk.number], chunk, rows)

    uses = Counter({chunk.source.file: 0 for chunk in every if chunk.source.is_stored})
    uses.update(chunk.source.file for chunk in todo if chunk.source.is_stored)
    total = sum(tensor.nbytes for part in parts for tensor in part.plan.tensors)
    left = sum(nbytes_of(part, chunk) for chunk in todo for part in missing[chunk.number])
    with (
        phase("converting", total, done=total - left) as progress,
        Flusher(parts, shards, uses) as flusher,
        # left first: when the flusher fails, no thread may go on writing to files that are about to be closed
        closing(one_pass(work, todo, shards, threads, hashes)) as written,
    ):
        for chunk, nbytes in written:
            flusher.add(chunk, nbytes)
            progress.advance(nbytes, parts[0].plan.tensors[chunk.tensor].name)


def nbytes_of(part: PartFile, chunk: Chunk) -> int:
    """Bytes of a chunk in this file."""
    return sum(part.plan.tensors[i].ggml_type.nbytes(chunk.n * chunk.source.row) for i in chunk.tensors)


def write_chunk(parts: Sequence[PartFile], chunk: Chunk, rows: Bytes) -> int:
    """Convert the rows of a chunk once to each of the planned types, and write them to every place; returns the bytes
    written."""
    places: dict[tuple[Type, frozenset[str], bytes, Rounding | None], list[tuple[PartFile, PlannedTensor]]] = {}
    for part in parts:
        for target in (part.plan.tensors[i] for i in chunk.tensors):
            weights = target.importance_of(chunk.source)
            by = b"" if weights is None else weights.tobytes()
            made = target.ggml_type, target.backends, by, target.rounding_of(chunk.source)
            places.setdefault(made, []).append((part, target))
    converted = convert_rows(chunk, rows, [target for (_, target), *_ in places.values()])
    nbytes = 0
    for of_type, data in zip(places.values(), converted, strict=True):
        for part, target in of_type:
            part.write(data, len(part.plan.header) + target.offset + target.ggml_type.nbytes(chunk.n_before))
            nbytes += data.nbytes
    return nbytes


def finalize(parts: Sequence[PartFile], *, force: bool) -> None:
    """Rename all files to their final names, so that an interruption can be resumed.

    Raises InputError if one of the names was taken in the meantime.
    """
    check_names(parts, force=force)
    unnamed = [part for part in parts if not part.finalized]
    for part in unnamed:
        part.complete_header()
    inodes = {part.path.name: part.inode for part in parts}
    for part in unnamed:
        part.finish(inodes)
    for part in unnamed:
        part.finalize()
    for part in parts:
        flush_folder(part.path.parent)
    for part in parts:
        if not part.made:  # of a file that was made already, it is another run's
            part.journal.remove()


def what_is_left(groups: Iterable[Iterable[PartFile]]) -> str:
    """A message about what an interrupted run left on disk."""
    parts = [part for group in groups for part in group]
    kept = [part.part.name for part in parts if part.journal.done and not part.finalized]
    if kept:
        return f"{RESUMES}, with what is in {', '.join(kept)}"
    return RESUMES if any(part.finalized for part in parts) else "nothing was left behind"
