"""A stored reference, as `mimo-check reference` writes it (docs/stages.md): every part of it checked when it is opened.

Its ids and codes go to ggml, which ends the process where one of them is out of range.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.files import input_errors, open_regular
from mimo_convert.json_file import SURROGATE, parse_json
from mimo_convert.safetensors_file import read_header
from mimo_convert.stored import StoredTensor, shape_text
from quantize.errors import InputError
from quantize.quoting import quoted

from .activations import (
    ANSWER,
    ANSWER_LOGITS,
    CACHED_LOGITS,
    CODES,
    FIRST_LOGITS,
    FORMAT,
    GREEDY,
    LAST_HIDDEN,
    PROMPT,
    Activations,
    Origin,
    Stages,
)

EXPECTED = "a file that `mimo-check reference` wrote"
AGAIN = "make it again"
HASH = re.compile("[0-9a-f]{64}")
DTYPES = {"f32": np.float32, "I32": np.int32}  # by the names that `safetensors_file` gives types
MOST_CODES = 1 << 20  # of a codebook


class Stage(NamedTuple):
    """What a stage is: the name of each of its dimensions, of which those of one name are equal; `ids` are whole
    numbers from `least` on, everything else finite float32."""

    dimensions: tuple[str, ...]
    ids: bool = False
    least: int = 0


HIDDEN = Stage(("groups", "hidden size"))
STAGES = {
    "tok_mel": Stage(("mel frames", "mel bins")),
    "tok_conv1": Stage(("mel frames", "encoder width")),
    "tok_conv2": Stage(("encoder positions", "encoder width")),
    "tok_xfmr": Stage(("encoder positions", "encoder width")),
    "tok_pool": Stage(("code frames", "encoder width")),
    CODES: Stage(("code frames", "codebooks"), ids=True),
    PROMPT: Stage(("prompt rows", "prompt positions"), ids=True, least=-100),  # -100: no text
    "prefill_audio_features": HIDDEN,
    "prefill_text_embeds": HIDDEN,
    "prefill_inputs_embeds": HIDDEN,
    LAST_HIDDEN: Stage(("hidden size",)),
    FIRST_LOGITS: Stage(("vocabulary",)),
    GREEDY: Stage(("generated tokens",), ids=True),
    ANSWER: Stage(("response tokens",), ids=True),
    ANSWER_LOGITS: Stage(("response tokens", "vocabulary")),
    CACHED_LOGITS: Stage(("response tokens", "vocabulary")),
}
LAYER = re.compile(r"layer_\d{2,3}")


def load_reference(path: Path) -> Activations:
    """Read what `Activations.save` wrote. Raises InputError for any other file, and for one that contradicts itself."""
    with open_regular(path, expected=EXPECTED) as file, input_errors(path, "cannot be read"):
        header = read_header(path, os.fstat(file.fileno()).st_size, file)
    if header.metadata.get("format") != FORMAT:
        raise InputError(path, "holds no reference activations", expected=EXPECTED)
    names, origin, transcript = (_metadata(path, header.metadata, key) for key in ("stages", "origin", "transcript"))
    tensors = {tensor.name: tensor for tensor in header.tensors}
    if not isinstance(names, list) or len(set(map(str, names))) < len(names) or set(map(str, names)) != tensors.keys():
        raise InputError(path, "its list of stages is not that of its tensors", expected=EXPECTED, todo=AGAIN)
    stages = {name: _stage(path, tensors[name]) for name in names}
    _check_dimensions(path, stages)
    _check_ids(path, stages)
    return Activations(stages, transcript, _origin(path, origin))


def _metadata(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    """An entry of the header: the transcript as it is, everything else from JSON."""
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


def _stage(path: Path, tensor: StoredTensor) -> npt.NDArray[Any]:
    """A stage's values, each of which is what the stage may hold."""
    stage = kind_of(path, tensor.name)
    dtype = DTYPES.get(tensor.type.name)
    where = f"stage {tensor.name}"
    if dtype is None or (dtype is np.int32) != stage.ids:
        expected = "I32" if stage.ids else "F32"
        raise InputError(path, f"{where} has dtype {tensor.type.name.upper()}", expected=expected, todo=AGAIN)
    if len(tensor.shape) != len(stage.dimensions) or not all(tensor.shape):
        expected = f"({', '.join(stage.dimensions)})"
        raise InputError(path, f"{where} has shape {shape_text(tensor.shape)}", expected=expected, todo=AGAIN)
    values = tensor.read().view(dtype).reshape(tensor.shape)
    if not stage.ids and not np.isfinite(values).all():
        raise InputError(path, f"{where} holds NaN or infinity", expected="finite numbers", todo=AGAIN)
    if stage.ids and values.min() < stage.least:
        raise InputError(path, f"{where} holds {values.min()}", expected=f"ids from {stage.least}", todo=AGAIN)
    return values


def kind_of(path: Path, name: str) -> Stage:
    """What the stage of this name is. Raises InputError if there is none."""
    stage = HIDDEN if LAYER.fullmatch(name) else STAGES.get(name)
    if stage is None:
        raise InputError(path, f"holds a stage {quoted(name)}", expected="those of docs/stages.md", todo=AGAIN)
    return stage


def _check_dimensions(path: Path, stages: Stages) -> None:
    """Whether dimensions of one name are equal in all stages, and those that follow from others do."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, values in stages.items():
        for dimension, size in zip(kind_of(path, name).dimensions, values.shape, strict=True):
            known, where = sizes.setdefault(dimension, (size, name))
            if size != known:
                what = f"stage {name} has {size} {dimension}"
                raise InputError(path, what, expected=f"{known}, as stage {where} has", todo=AGAIN)
    if PROMPT in stages and CODES in stages:
        rows, codebooks = sizes["prompt rows"][0], sizes["codebooks"][0]
        if rows != codebooks + 1:
            raise InputError(path, f"stage {PROMPT} has {rows} rows", expected=f"1 + {codebooks}", todo=AGAIN)
    if PROMPT in stages and "groups" in sizes:
        positions, groups = sizes["prompt positions"][0], sizes["groups"][0]
        if positions % groups:
            expected = f"a multiple of {groups} groups"
            raise InputError(path, f"stage {PROMPT} has {positions} positions", expected=expected, todo=AGAIN)


def _check_ids(path: Path, stages: Stages) -> None:
    """Whether every id is below the number of those that there are."""
    n_tokens = len(stages[FIRST_LOGITS]) if FIRST_LOGITS in stages else None
    for name, most in ((CODES, MOST_CODES), (GREEDY, n_tokens), (ANSWER, n_tokens)):
        if name in stages and most is not None and stages[name].max() >= most:
            what = f"stage {name} holds {stages[name].max()}"
            raise InputError(path, what, expected=f"ids below {most}", todo=AGAIN)
