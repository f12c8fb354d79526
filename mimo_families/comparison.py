"""What a check compares a file with, and what of it: `--reference` and `--compare`, and the older names of both.

| option | the same as |
| --- | --- |
| `--against OTHER.gguf` | `--reference OTHER.gguf` |
| `--checkpoint CKPT` | `--reference CKPT --compare rows`; beside a `--reference`, one more comparison |
"""

from typing import NamedTuple

from quantize.errors import InputError
from runtime_check.choices import BOTH, ROWS, STAGES

from .sources import CHECKPOINT, COMPARED, GGUF, STORED, ModelSource, resolve

WITHOUT_ROWS = "holds stages, and no rows of tensors"


class Comparison(NamedTuple):
    """The sources whose rows are compared with the file's, in order; the one whose stages are; and whether the file is
    linted."""

    rows: tuple[ModelSource, ...] = ()
    stages: ModelSource | None = None
    lint: bool = False

    @property
    def is_run(self) -> bool:
        """Whether the file is run: for stages, or because nothing else was asked for."""
        return self.stages is not None or not (self.rows or self.lint)


def comparison_of(
    reference: str | None, compare: str | None = None, against: object | None = None, checkpoint: str | None = None,
    static: bool = False,
) -> Comparison:  # fmt: skip
    """What the options ask for; `compare` None: stages, and of another GGUF file both.

    Raises InputError for options that exclude each other, a source that is not there, and rows of a stored reference.
    """
    if reference and against:
        raise InputError("--against", "and --reference: there can be one reference", todo="give one of them")
    if compare and not (reference or against):
        raise InputError("--compare", "there is nothing to compare with", todo="give a --reference")
    of_rows = (resolve(checkpoint, CHECKPOINT),) if checkpoint else ()
    source = ModelSource(str(against), GGUF) if against else resolve(reference, COMPARED) if reference else None
    if source is None:
        return Comparison(of_rows, None, static or bool(checkpoint))
    how = compare or (BOTH if source.kind is GGUF else STAGES)
    if how != STAGES and source.kind is STORED:
        raise InputError(f"--compare {how}", f"{source.value} {WITHOUT_ROWS}", expected="a checkpoint or a GGUF file")
    rows = (*of_rows, *((source,) if how != STAGES else ()))
    lint = static or bool(checkpoint) or how == ROWS or (how == BOTH and source.kind is not GGUF)
    return Comparison(rows, source if how != ROWS else None, lint)
