"""A request: the files to make of one model, with their plans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mimo_convert.model.family import Family
from mimo_convert.model.source_model import SourceModel
from mimo_convert.sources.shards import LocalShards
from mimo_convert.terminal import warn
from quantize.quoting import quoted
from quantize.recipes import check_rules
from quantize.types import Type

from .calibrated import NO_ENTRY, UNREACHED, check_calibration
from .plan import NO_OPTIONS, Options, Plan, make_plan

SHOWN = 3  # tensors that a warning names


class Sources(NamedTuple):
    """Source files of a model or an adapter, `name`, and where they come from."""

    name: str
    shards: LocalShards
    files: Sequence[Path]


@dataclass(frozen=True)
class Request:
    """Make one file per type (None: the types the model is stored in).

    `file_name` overrides the default name of a single file; `absmax` is an argument of `make_plan`.
    """

    model: SourceModel
    types: Sequence[Type | None]
    options: Options = NO_OPTIONS
    file_name: str = ""
    absmax: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def plans(self) -> list[Plan]:
        """A plan per type. Raises InputError for a model that does not fit its family."""
        return [
            make_plan(self.model, ggml_type, self.options, file_name=self.file_name, absmax=self.absmax)
            for ggml_type in self.types
        ]

    @cached_property
    def files(self) -> list[Path]:
        """Every source file, sorted."""
        sources = (source for tensor in self.plans[0].tensors for source in tensor.sources)
        return sorted({source.file for source in sources if source.is_stored})

    @property
    def sources(self) -> list[Sources]:
        """The files of the tensors, and those of an adapter."""
        model, adapter = self.model, self.model.adapter
        found = [Sources(model.name, model.shards, self.files)]
        return found + ([Sources(adapter.name, adapter.shards, adapter.files)] if adapter else [])

    @property
    def is_here(self) -> bool:
        """Whether every source file can be read now."""
        return all(shards.is_here(file) for _, shards, files in self.sources for file in files)


def make_request(model: SourceModel, types: Sequence[Type], options: Options = NO_OPTIONS) -> Request:
    """A request with its plans made. Raises InputError for a model that does not fit its family."""
    request = Request(model, types, options)
    assert request.plans
    return request


def sources_of(requests: Iterable[Request]) -> list[Sources]:
    """The source files of all requests, each once: two may be of one checkpoint."""
    found: dict[int, Sources] = {}
    for name, shards, files in (sources for request in requests for sources in request.sources):
        before = found[id(shards)].files if id(shards) in found else ()
        found[id(shards)] = Sources(name, shards, sorted({*before, *files}))
    return list(found.values())


def check_rules_of(requests: Iterable[Request]) -> None:
    """Raise InputError for a rule that applies to no tensor of any file."""
    requests = list(requests)
    tensors = [(tensor.name, tensor.role) for request in requests for tensor in request.plans[0].tensors]
    check_rules(requests[0].options.rules, tensors)


def names_of(model: SourceModel) -> list[str]:
    """What a model is called: its folder or file, and the name that a file records."""
    recorded = [entry.value for entry in model.metadata if entry.key == "general.name"]
    return [model.name, *map(str, recorded)]


def check_calibration_of(requests: Iterable[Request], families: Iterable[Family]) -> None:
    """Raise InputError for a calibration of another model than these, among the known `families`; warn of one that
    was collected from a model of another name, and of matrices that it knows nothing of, embeddings, which nothing is
    multiplied with, apart."""
    requests = list(requests)
    calibration = requests[0].options.calibration
    if calibration is None:
        return
    models = [request.model for request in requests]
    check_calibration(models, calibration, families)
    same = [model for model in models if model.family.architecture == calibration.architecture]
    names = [name for model in same for name in names_of(model)]
    if calibration.model and names and calibration.model not in names:
        told = f"was collected from {quoted(calibration.model)}, and this is {quoted(names[0])}"
        warn(f"{quoted(calibration.where)} {told}: of another model it makes files worse")
    if calibration.is_synthetic:
        warn(f"{quoted(calibration.where)} is of synthetic speech: no clip is a recording")
    tensors = [tensor for request in requests for plan in request.plans for tensor in plan.tensors]
    for why in (NO_ENTRY, UNREACHED):
        names = list(dict.fromkeys(t.name for t in tensors if why in t.note and t.role != "embedding"))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        if names:
            warn(f"{quoted(calibration.where)}: {', '.join(names[:SHOWN])}{more}: {why}")
