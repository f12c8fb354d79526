"""A request: the files to make of one model, with their plans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mimo_convert.model.source_model import SourceModel
from quantize.recipes import check_rules
from quantize.types import Type

from .plan import NO_OPTIONS, Options, Plan, make_plan


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


def make_request(model: SourceModel, types: Sequence[Type], options: Options = NO_OPTIONS) -> Request:
    """A request with its plans made. Raises InputError for a model that does not fit its family."""
    request = Request(model, types, options)
    assert request.plans
    return request


def check_rules_of(requests: Iterable[Request]) -> None:
    """Raise InputError for a rule that applies to no tensor of any file."""
    requests = list(requests)
    tensors = [(tensor.name, tensor.role) for request in requests for tensor in request.plans[0].tensors]
    check_rules(requests[0].options.rules, tensors)
