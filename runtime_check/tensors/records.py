"""The result of a tensor comparison, as plain data."""

from dataclasses import dataclass

from runtime_check.gate import FILE, TENSOR, Gate, Subject, no_findings


@dataclass(frozen=True)
class TensorResult:
    """A tensor of the file, or a slice of a fused one, compared with its source.

    `name` and `type` are those in the file. `rel_rmse` is √(Σ (ours - source)² / Σ source²), None if the source is
    zero; `expected_rel_rmse` that of the source converted to this type here; `equal_rows` counts the rows whose bytes
    are reproduced by the recorded conversion path. `worst_row` is the row with the largest ratio of error to expected
    error. `findings` list the first wrong rows.
    """

    name: str
    type: str
    rows: int
    rel_rmse: float | None
    expected_rel_rmse: float | None
    cosine: float | None
    equal_rows: int
    worst_row: int
    worst_rel_rmse: float | None
    worst_expected: float | None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorCheck:
    """The comparison of a file. `lossless`: the source is a checkpoint. `judged_by`: blocks are compared by `bytes`, so
    that any changed byte fails, or by `error`, with the reason `judged_why`. `findings` are about the file as a whole:
    metadata that differs, missing or extra tensors."""

    file: str
    source: str
    lossless: bool
    judged_by: str
    judged_why: str
    passed: bool
    seconds: float
    bytes_read: int
    findings: tuple[str, ...]
    tensors: tuple[TensorResult, ...]
    gates: tuple[Gate, ...]


def tensor_gates(role: str, findings: tuple[str, ...], tensors: tuple[TensorResult, ...]) -> tuple[Gate, ...]:
    """A gate for the file as a whole and one per tensor; `role` is the file's."""
    whole = no_findings(Subject(role, FILE, TENSOR), findings)
    return (whole, *(no_findings(Subject(role, tensor.name, TENSOR), tensor.findings) for tensor in tensors))
