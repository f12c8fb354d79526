"""What is to be made of one model: the plans of its files, the chunks that the work is cut into, and their origin."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from quantize.recipes import check_rules
from quantize.types import Type

from .checkpoint import Checkpoint
from .journal import Origin
from .model_file import quantizer_text
from .plan import NO_OPTIONS, Options, Plan, PlannedTensor, make_plan
from .stored import StoredTensor
from .stored_model import StoredModel, model_of_checkpoint

CHUNK_WEIGHTS = 1 << 19  # 2 MB as float32: of the size of a core's cache, and large enough to drown the calls' cost


class Chunk(NamedTuple):
    """`n` rows of one source of the plan's tensor number `tensor`, behind `n_before` weights of it.

    `number` counts the chunks of a plan; those of other plans of the same request have the same number.
    """

    number: int
    tensor: int
    source: StoredTensor
    first: int
    n: int
    n_before: int


@dataclass(frozen=True)
class Request:
    """A file of each type (None: the types it is stored in) is to be made of one model.

    `file_name` where it is not the usual one, and there is one file; `peaks` as `make_plan` takes them.
    """

    model: StoredModel
    types: Sequence[Type | None]
    options: Options = NO_OPTIONS
    file_name: str = ""
    peaks: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def plans(self) -> list[Plan]:
        """One plan a type. Raises InputError for whatever in the model is not as its family's should be."""
        return [
            make_plan(self.model, type, self.options, file_name=self.file_name, peaks=self.peaks) for type in self.types
        ]

    @cached_property
    def files(self) -> list[Path]:
        """Every file that is read, in order."""
        return sorted({source.file for tensor in self.plans[0].tensors for source in tensor.sources})


def make_request(checkpoint: Checkpoint, types: Sequence[Type], options: Options = NO_OPTIONS) -> Request:
    """One plan a type. Raises InputError for whatever in the checkpoint is not as its family's should be."""
    request = Request(model_of_checkpoint(checkpoint), types, options)
    assert request.plans
    return request


def check_rules_of(requests: Iterable[Request]) -> None:
    """Every rule is about a tensor of at least one file. Raises InputError: a rule that is not is a mistake."""
    requests = list(requests)
    tensors = [(tensor.name, tensor.role) for request in requests for tensor in request.plans[0].tensors]
    check_rules(requests[0].options.rules, tensors)


def chunks(tensors: Iterable[PlannedTensor]) -> Iterator[Chunk]:
    """The rows of all tensors, source by source, in runs of bounded size."""
    number = 0
    for i, tensor in enumerate(tensors):
        n_before = 0
        for source in tensor.sources:
            step = max(1, CHUNK_WEIGHTS // source.row)
            for first in range(0, source.n_rows, step):
                n = min(step, source.n_rows - first)
                yield Chunk(number, i, source, first, n, n_before)
                n_before += n * source.row
                number += 1


def by_place(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Chunks in the order in which a disk, or the Hub, gives them."""
    return sorted(chunks, key=lambda chunk: (chunk.source.file, chunk.source.begin, chunk.first))


def origin_of(request: Request, plan: Plan) -> Origin:
    """What decides every byte of the planned file."""
    read = "\n".join(request.model.shards.identity(file) for file in request.files)
    layout = hashlib.sha256(plan.header)
    for tensor in plan.tensors:
        for s in tensor.sources:
            made = f"{tensor.type.name} by {quantizer_text(tensor.quantizers)}"
            layout.update(os.fsencode(f"{s.name} {s.file.name} {s.begin} {s.type.name} {made}\n"))
    writer = f"mimo-convert {version('mimo-convert')}, ggml-python {version('ggml-python')}"
    return Origin(
        version=f"{writer}, chunks of {CHUNK_WEIGHTS}",
        checkpoint=hashlib.sha256(os.fsencode(read)).hexdigest(),
        options=layout.hexdigest(),
        peaks=dict(request.peaks),
    )
