"""Stored references, as `mimo-check reference` writes them (docs/stages.md), validated when opened.

Their ids and codes are used as indices in ggml, which aborts the process if one is out of range.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_convert.files import input_errors, open_regular
from mimo_convert.formats.json_file import SURROGATE, parse_json
from mimo_convert.formats.safetensors import read_header
from mimo_convert.formats.tensor import TensorSlice, shape_text
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.gate import CODES, IDS

from ..activations import FORMAT, GREEDY, RESPONSE, RESPONSE_LOGITS, RESPONSE_STAGES, Activations, Origin, Stages
from ..stages import Stage, stage_named
from ..system import SystemType

EXPECTED = "a file that `mimo-check reference` wrote"
AGAIN = "make it again"
HASH = re.compile("[0-9a-f]{64}")
DTYPES = {"f32": np.float32, "I32": np.int32}  # by the names that `safetensors_file` gives types
MOST_CODES = 1 << 20  # of a codebook


def load_reference(path: Path, systems: Sequence[SystemType]) -> Activations:
    """Read what `Activations.save` wrote, for the first of `systems` that has all its stages.

    Raises InputError for any other file, and for inconsistent contents.
    """
    with open_regular(path, expected=EXPECTED) as file, input_errors(path, "cannot be read"):
        header = read_header(path, os.fstat(file.fileno()).st_size, file)
    if header.metadata.get("format") != FORMAT:
        raise InputError(path, "holds no reference activations", expected=EXPECTED)
    names, origin, transcript = (_metadata(path, header.metadata, key) for key in ("stages", "origin", "transcript"))
    tensors = {tensor.name: tensor for tensor in header.tensors}
    if not isinstance(names, list) or len(set(map(str, names))) < len(names) or set(map(str, names)) != tensors.keys():
        raise InputError(path, "its list of stages differs from its tensors", expected=EXPECTED, todo=AGAIN)
    system = next((one for one in systems if all(_stage_of(name, one) for name in names)), systems[0])
    known = {name: stage_of(path, name, system) for name in names}
    stages = {name: _stage(path, tensors[name], stage) for name, stage in known.items()}
    sizes = _check_dimensions(path, known, stages)
    for what, expected in system.reference_problems(stages):
        raise InputError(path, what, expected=expected, todo=AGAIN)
    _check_ids(path, known, stages, sizes)
    return Activations(stages, transcript, _origin(path, origin))


def _metadata(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    """A header entry: the transcript as text, others parsed from JSON."""
    try:
        text = metadata[key]
        if SURROGATE.search(text):
            raise ValueError("it is not valid text")
        return text if key == "transcript" else parse_json(text.encode())
    except KeyError:
        raise InputError(path, f"header entry {key} is missing", expected=EXPECTED, todo=AGAIN) from None
    except ValueError as error:
        raise InputError(path, f"header entry {key} is malformed ({error})", expected=EXPECTED, todo=AGAIN) from error


def _origin(path: Path, values: Any) -> Origin:
    with suppress(TypeError):  # no object, or one with other keys
        origin = Origin(**values)
        if _is_origin(origin):
            return origin
    raise InputError(path, "header entry origin is malformed", expected="what the reference was made of", todo=AGAIN)


def _is_origin(origin: Origin) -> bool:
    texts = [origin.audio, origin.audio_sha256, origin.language, origin.vocabulary_sha256, origin.torch, origin.dtype]
    if not isinstance(origin.checkpoints, list):
        return False
    hashes = all(HASH.fullmatch(str(text)) for text in (origin.audio_sha256, origin.vocabulary_sha256) if text)
    return hashes and all(isinstance(t, str) and not SURROGATE.search(t) for t in (*texts, *origin.checkpoints))


def _stage(path: Path, tensor: TensorSlice, stage: Stage) -> npt.NDArray[Any]:
    """A stage's values, validated."""
    dtype, has_ids = DTYPES.get(tensor.ggml_type.name), stage.kind in (IDS, CODES)
    where = f"stage {tensor.name}"
    if dtype is None or (dtype is np.int32) != has_ids:
        expected = "I32" if has_ids else "F32"
        raise InputError(path, f"{where} has dtype {tensor.ggml_type.name.upper()}", expected=expected, todo=AGAIN)
    if len(tensor.shape) != len(stage.dimensions) or not all(tensor.shape):
        expected = f"({', '.join(stage.dimensions)})"
        raise InputError(path, f"{where} has shape {shape_text(tensor.shape)}", expected=expected, todo=AGAIN)
    values = tensor.read().view(dtype).reshape(tensor.shape)
    if not has_ids and not np.isfinite(values).all():
        raise InputError(path, f"{where} holds NaN or infinity", expected="finite numbers", todo=AGAIN)
    if has_ids and values.min() < stage.least:
        raise InputError(path, f"{where} holds {values.min()}", expected=f"ids from {stage.least}", todo=AGAIN)
    return values


def stage_of(path: Path, name: str, system: SystemType) -> Stage:
    """The stage of that name. Raises InputError if the system has none."""
    stage = _stage_of(name, system)
    if stage is None:
        expected = f"those of {system.name} (docs/stages.md)"
        raise InputError(path, f"holds a stage {quoted(name)}", expected=expected, todo=AGAIN)
    return stage


def _stage_of(name: str, system: SystemType) -> Stage | None:
    return stage_named((*system.stages, *RESPONSE_STAGES), name)


def _check_dimensions(path: Path, known: Mapping[str, Stage], stages: Stages) -> dict[str, int]:
    """The size of each named dimension. Raises InputError if sizes of one name differ."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, values in stages.items():
        for dimension, size in zip(known[name].dimensions, values.shape, strict=True):
            expected, where = sizes.setdefault(dimension, (size, name))
            if size != expected:
                what = f"stage {name} has {size} {dimension}"
                raise InputError(path, what, expected=f"{expected}, as stage {where} has", todo=AGAIN)
    return {dimension: size for dimension, (size, _) in sizes.items()}


def _check_ids(path: Path, known: Mapping[str, Stage], stages: Stages, sizes: Mapping[str, int]) -> None:
    """Raise InputError for an id out of range."""
    most = {name: MOST_CODES for name, stage in known.items() if stage.kind == CODES}
    if RESPONSE_LOGITS in stages:
        most |= dict.fromkeys((GREEDY, RESPONSE), sizes["vocabulary"])
    for name, bound in most.items():
        if name in stages and stages[name].max() >= bound:
            what = f"stage {name} holds {stages[name].max()}"
            raise InputError(path, what, expected=f"ids below {bound}", todo=AGAIN)
