"""Files written, changed and compared with their source."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.request import Request
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from runtime_check.gate import FILE, TENSOR
from runtime_check.tensors.records import TensorCheck, TensorResult
from tests.gguf_edit import Key, patch, rewrite
from tests.opened import check_against, model_of_checkpoint, options_of
from tests.readers import ggml_tensors

QKV, EMBED, HEAD = "model.layers.0.attn.qkv.weight", "llm.embed.weight", "llm.lm_head.weight"
UP, DOWN, CODEBOOK = "ffn.up.weight", "model.layers.1.ffn.down.weight", "encoder.quant.vq.layers.1._codebook.embed"
QUANTIZER = "mimo_convert.quantizer"
Raw = npt.NDArray[np.uint8]


def model(folder: Path) -> SourceModel:
    return model_of_checkpoint(open_checkpoint(str(folder)))


def write(source: SourceModel, out: Path, *outtypes: str | None, **options: object) -> Path:
    """Files of a model; returns the last one."""
    names = {} if outtypes[-1] else {"file_name": "x.gguf"}
    types = [TYPES[name] if name else None for name in outtypes]
    [*_, plan] = convert([Request(source, types, options_of(**options), **names)], out, threads=2)  # type: ignore[arg-type]
    return out / plan.file_name


def check(file: Path, source: SourceModel) -> TensorCheck:
    return check_against(file, source, threads=2)


def reasons(found: TensorCheck) -> list[str]:
    """Everything that is wrong, each with the key or tensor it is about, as the gates say it."""
    names = [FILE, *(tensor.name for tensor in found.tensors)]
    findings = [found.findings, *(tensor.findings for tensor in found.tensors)]
    assert [(gate.stage, gate.kind, gate.value) for gate in found.gates] == [
        (name, TENSOR, len(lines)) for name, lines in zip(names, findings, strict=True)
    ]
    assert {gate.role for gate in found.gates} <= {"speech_lm", "audio_tokenizer"}
    assert found.passed == all(gate.passed for gate in found.gates)
    failed = [gate for gate in found.gates if not gate.passed]
    lines = [(gate.stage, line) for gate in failed for line in gate.text.split("\n")]
    assert lines == [(name, line) for name, of in zip(names, findings, strict=True) for line in of]
    return [line if name == FILE else f"tensor {name}: {line}" for name, line in lines]


def result(found: TensorCheck, name: str) -> TensorResult:
    return next(tensor for tensor in found.tensors if tensor.name == name)


def check_right(file: Path, source: SourceModel) -> TensorCheck:
    """Everything is compared and equal."""
    found = check(file, source)
    assert (found.passed, reasons(found)) == (True, [])
    for tensor in found.tensors:
        assert tensor.equal_rows == tensor.rows, tensor
        assert tensor.rel_rmse == tensor.expected_rel_rmse < 0.5, tensor
        assert tensor.worst_rel_rmse == tensor.worst_expected, tensor
        assert 0 < tensor.cosine <= 1, tensor
    return found


Files = Callable[[str, bool], Path]


def says(path: Path, target: Path, quantizer: str) -> Path:
    """The file, saying something else of what made its blocks; nothing if that is empty."""
    add = [Key(QUANTIZER, quantizer, GGUFValueType.STRING)] if quantizer else []
    return rewrite(path, target, keys=lambda key: None if key.name == QUANTIZER else key, add=add)


def rows_of(path: Path, tensor: str) -> Raw:
    """A tensor's rows as stored."""
    stored = ggml_tensors(path)[tensor]
    return np.frombuffer(stored.data, np.uint8).reshape(stored.shape[0] if len(stored.shape) > 1 else 1, -1)


def put(tensor: str, change: Callable[[Raw], npt.NDArray[np.generic]]) -> Callable[[Path], None]:
    """All rows of a tensor become `change` of a copy of them."""
    return lambda path: patch(path, tensor, 0, change(rows_of(path, tensor).copy()))


def copy(tensor: str, onto: str) -> Callable[[Path], None]:
    return lambda path: patch(path, onto, 0, rows_of(path, tensor))


def swap(one: str, other: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        first, second = rows_of(path, one), rows_of(path, other)
        patch(path, one, 0, second)
        patch(path, other, 0, first)

    return damage


def flip(row: int, byte: int, bits: int) -> Callable[[Raw], Raw]:
    def change(rows: Raw) -> Raw:
        rows[row, byte] ^= bits
        return rows

    return change


def one_float(dtype: type, place: int, value: float) -> Callable[[Raw], Raw]:
    def change(rows: Raw) -> Raw:
        rows.reshape(-1).view(dtype)[place] = value
        return rows

    return change


NORMS = [f"model.layers.{i}.attn_norm.weight" for i in range(2)]
UPS = [f"model.layers.{i}.ffn.up.weight" for i in range(2)]


def check_reasons(found: TensorCheck, expected: dict[str, str]) -> None:
    """These tensors are wrong, and no others, each for this reason."""
    assert not found.passed
    assert found.findings == ()
    wrong = {tensor.name: tensor.findings for tensor in found.tensors if tensor.findings}
    assert wrong.keys() == expected.keys()
    for name, pattern in expected.items():
        assert re.fullmatch(pattern, wrong[name][0]), wrong[name]
        assert f"tensor {name}: {wrong[name][0]}" in reasons(found)


def change(name: str, **values: object) -> Callable[[Key], Key]:
    return lambda key: key._replace(**values) if key.name == name else key  # type: ignore[arg-type]
