"""Origin of an output file: what determines every byte of it. Only a run of the same origin resumes it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mimo_convert import __version__
from mimo_convert.model.gguf_facts import backends_text
from mimo_convert.plan.plan import Plan
from mimo_convert.plan.request import Request

from . import chunks

ABSMAX_KEY = "peaks"  # in journals, as mimo-convert has written them since 0.3
WRITER = f"mimo-convert {__version__}, ggml-python {version('ggml-python')}"


@dataclass(frozen=True)
class Origin:
    """What decides every byte of a file: the writer, the source model and the plan.

    `version` names mimo-convert, ggml and the chunk size; `checkpoint` is a hash over the identities of the source
    files, `options` one over the plan. `absmax` holds the absmax of each tensor with a weight beyond F16's range, from
    which the plan promotes tensors to F32; empty if no such weight was found.
    """

    version: str
    checkpoint: str
    options: str
    absmax: Mapping[str, float]

    @property
    def record(self) -> dict[str, Any]:
        """The origin as JSON values, which `checked_origin` reads back. `absmax` is written under `peaks`."""
        values = dict(vars(self))
        return values | {ABSMAX_KEY: values.pop("absmax")}

    def difference(self, other: "Origin") -> str:
        """Describe the first difference to `other`, the origin of the present run; empty if they are equal."""
        words = {
            "version": f"by {self.version}, and this is {other.version}",
            "checkpoint": "from a checkpoint that has changed since",
            "options": "with other options, or from other config or tokenizer files",
        }
        return next((text for part, text in words.items() if getattr(self, part) != getattr(other, part)), "")


def checked_origin(record: Mapping[str, Any]) -> Origin:
    """The origin in the first line of a journal. Raises TypeError for any other record."""
    origin = Origin(**{"absmax" if key == ABSMAX_KEY else key: value for key, value in record.items()})
    texts = (origin.version, origin.checkpoint, origin.options)
    if not all(isinstance(text, str) for text in texts) or not isinstance(origin.absmax, dict):
        raise TypeError
    if not all(isinstance(value, float) for value in origin.absmax.values()):
        raise TypeError
    return origin


def origins_of(request: Request) -> list[Origin]:
    """The origin of each planned file of a request."""
    read = "\n".join(request.model.shards.identity(file) for file in request.files)
    return [
        Origin(
            version=f"{WRITER}, chunks of {chunks.CHUNK_WEIGHTS}",
            checkpoint=hashlib.sha256(os.fsencode(read)).hexdigest(),
            options=hash_of(plan),
            absmax=dict(request.absmax),
        )
        for plan in request.plans
    ]


def hash_of(plan: Plan) -> str:
    """A hash over a plan: the file's header, and the source of each row."""
    layout = hashlib.sha256(plan.header)
    for tensor in plan.tensors:
        for s in tensor.sources:
            made = f"{tensor.ggml_type.name} by {backends_text(tensor.backends)}"
            layout.update(os.fsencode(f"{s.name} {s.file.name} {s.begin} {s.ggml_type.name} {made}\n"))
    return layout.hexdigest()
