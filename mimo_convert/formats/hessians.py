"""Second moments of what the matrices of a model are multiplied with: a folder `NAME.hessian` beside a calibration
file, with one safetensors file for each step of the model.

A file holds for each input of matrices, under the name of the first GGUF tensor that is multiplied with it, F32:
`<weight>`, (n (n + 1) / 2,): the lower triangle, row by row, of H = Σ x xᵀ / count over the positions of the
calibration clips; `<weight>.inputs`, (≤ 256, n): positions of the selection clips, which are in no H. The header entry
`second_moments` is JSON: `format`; `tensors`, the GGUF tensors that share each input; `counts`, the positions of each;
`origin`, what the file was made of. It is one entry, since the library writes several in any order.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mimo_convert.disk import sha256_of
from mimo_convert.files import did_you_mean, input_errors, open_regular, replacing
from quantize.errors import InputError
from quantize.kernels import Floats
from quantize.quoting import quoted
from quantize.types import F32

from .json_file import parse_json
from .safetensors import float_header, read_header
from .tensor import TensorSlice, shape_text

FORMAT, ENTRY = "mimo-convert second moments 1", "second_moments"
FOLDER, INPUTS, FILE = ".hessian", ".inputs", ".safetensors"
MOST_INPUTS = 256  # sampled positions of the selection clips, for each input
BAND, TILE = 1 << 22, 256  # values of a triangle that are read at once; rows and columns that are mirrored at once
EXPECTED = "a file that `mimo-calibrate --hessian` wrote"
AGAIN = "make it again"


class SecondMoment(NamedTuple):
    """The second moment of one input x, (n,), of the matrices `tensors`, which are GGUF tensors' names.

    `packed` is the lower triangle of Σ x xᵀ / count row by row, n (n + 1) / 2 float32 in pieces of any length, made as
    they are written; `inputs` are positions of clips that are not in it, (at most MOST_INPUTS, n) float32.
    """

    tensors: tuple[str, ...]
    packed: Iterable[Floats]
    inputs: Floats
    positions: int


def folder_of(calibration: Path) -> Path:
    """The folder of second moments of a calibration file: `NAME.hessian` beside NAME.gguf."""
    return calibration.with_suffix(FOLDER)


def file_of(folder: Path, layer: int) -> Path:
    """The file of a step of the model."""
    return folder / f"layer_{layer:02d}{FILE}"


def write_layer(path: Path, moments: Iterable[SecondMoment], origin: str) -> str:
    """Write the second moments of a step atomically, and return the file's sha256. `origin` says what they were made
    of (`origin_of`). Raises InputError if the file cannot be written."""
    moments = list(moments)
    tensors = {one.tensors[0]: one.tensors for one in moments}
    counts = {one.tensors[0]: one.positions for one in moments}
    about = {"format": FORMAT, "origin": origin, "tensors": tensors, "counts": counts}
    shapes: dict[str, tuple[int, ...]] = {}
    pieces: dict[str, Iterable[Floats]] = {}
    for one in moments:
        name, n = one.tensors[0], one.inputs.shape[1]
        shapes |= {name: (_before(n),), name + INPUTS: one.inputs.shape}
        pieces |= {name: one.packed, name + INPUTS: [one.inputs]}
    digest = sha256()
    with replacing(path) as file:
        for data in _file_bytes(float_header(shapes, {ENTRY: json.dumps(about)}), pieces):
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def _file_bytes(header: bytes, pieces: Mapping[str, Iterable[Floats]]) -> Iterator[bytes | memoryview]:
    """The bytes of a file, a piece of a tensor at a time."""
    yield header
    for name in sorted(pieces):
        yield from (np.ascontiguousarray(piece, "<f4").reshape(-1).view(np.uint8).data for piece in pieces[name])


def origin_of(path: Path) -> str:
    """What the second moments of a complete file were made of. Raises InputError for a damaged or foreign file."""
    origin = _open(path)[0].get("origin")
    return origin if isinstance(origin, str) else ""


class _Input(NamedTuple):
    """Where the second moment of an input is stored: `packed` as a column of values."""

    packed: TensorSlice
    inputs: TensorSlice
    tensors: tuple[str, ...]
    positions: int


@dataclass(frozen=True)
class Hessians:
    """The second moments in `folder`, of which the headers were validated; values are read when asked for.

    `hashes` are the files' sha256 by name, of the calibration file that they belong to; a file is compared with its
    hash when it is first used. Without any, files are taken as they are.
    """

    folder: Path
    inputs: Mapping[str, _Input]
    hashes: Mapping[str, str] = field(default_factory=dict)
    _verified: set[Path] = field(default_factory=set, compare=False, repr=False)

    def __contains__(self, name: str) -> bool:
        """Whether the input of a GGUF tensor is known."""
        return name in self.inputs

    def sharing(self, name: str) -> tuple[str, ...]:
        """The GGUF tensors that are multiplied with the same input, the first one first."""
        return self.inputs[name].tensors

    def positions(self, name: str) -> int:
        """Over how many positions the second moment of a tensor's input is."""
        return self.inputs[name].positions

    def matrix(self, name: str) -> Floats:
        """The second moment of a tensor's input, Σ x xᵀ / count, (n, n) float32, symmetric.

        Raises InputError if its file is damaged, or not the one of the calibration file.
        """
        packed = self._verify(self.inputs[name].packed)
        n = size_of(packed.n_rows)
        matrix, begin = np.empty((n, n), np.float32), 0
        while begin < n:
            end = min(n, max(begin + 1, isqrt(begin * begin + 2 * BAND)))
            values = packed.read(_before(begin), _before(end) - _before(begin)).view("<f4").reshape(-1)
            for i in range(begin, end):
                matrix[i, : i + 1] = values[_before(i) - _before(begin) :][: i + 1]
            begin = end
        _mirror(matrix)
        if not np.isfinite(matrix).all() or (matrix.diagonal() < 0).any():
            what = f"tensor {quoted(packed.name)} is not a second moment"
            raise InputError(packed.file, what, expected="finite numbers, from 0 on the diagonal", todo=AGAIN)
        return matrix

    def sample(self, name: str) -> Floats:
        """Inputs of a tensor at positions that are not in its second moment, (at most MOST_INPUTS, n) float32; none
        where there were no selection clips.

        Raises InputError if its file is damaged, or not the one of the calibration file.
        """
        inputs = self._verify(self.inputs[name].inputs)
        values = inputs.read().view("<f4").reshape(inputs.shape)
        if not np.isfinite(values).all():
            what = f"tensor {quoted(inputs.name)} holds NaN or infinity"
            raise InputError(inputs.file, what, expected="finite numbers", todo=AGAIN)
        return values

    def _verify(self, tensor: TensorSlice) -> TensorSlice:
        """The tensor, whose file has the hash that it should have. Raises InputError otherwise."""
        path = tensor.file
        if self.hashes and path not in self._verified:
            found, expected = sha256_of(path), self.hashes[path.name]
            if found != expected:
                raise InputError(path, f"has the sha256 {found}", expected=f"{expected}, as its calibration file says")
            self._verified.add(path)
        return tensor


def open_hessians(folder: Path, hashes: Mapping[str, str] | None = None) -> Hessians:
    """Open a folder of second moments; `hashes` are `Calibration.hessians` of the file that it belongs to.

    Raises InputError unless it holds exactly the files of the calibration, each complete and well-formed.
    """
    with input_errors(folder, "cannot be read", todo=did_you_mean(str(folder)) or "mimo-calibrate --hessian makes it"):
        found = sorted(name for name in os.listdir(folder) if name.endswith(FILE) and not name.startswith("."))
    for name in sorted(hashes.keys() - set(found)) if hashes else []:
        raise InputError(folder / name, "no such file, which the calibration file names", todo=AGAIN)
    names = sorted(hashes) if hashes else found
    if not names:
        raise InputError(folder, "holds no second moments", expected="layer_00.safetensors, …", todo=AGAIN)
    inputs: dict[str, _Input] = {}
    for path in (folder / name for name in names):
        for one in _open(path)[1]:
            for tensor in one.tensors:
                other = inputs.setdefault(tensor, one)
                if other is not one:
                    what = f"holds the input of {quoted(tensor)}, as {other.packed.file.name} does"
                    raise InputError(path, what, expected="one file for each")
    return Hessians(folder, inputs, hashes or {})


def _open(path: Path) -> tuple[Mapping[str, Any], tuple[_Input, ...]]:
    """The header entry of a file, validated, and its inputs."""
    with open_regular(path, expected=EXPECTED) as file, input_errors(path, "cannot be read"):
        header = read_header(path, os.fstat(file.fileno()).st_size, file)
    about = _entry(path, header.metadata)
    stored = {tensor.name: tensor for tensor in header.tensors}
    tensors, counts = (_object(path, about, key) for key in ("tensors", "counts"))
    if stored.keys() != {*tensors, *(name + INPUTS for name in tensors)} or counts.keys() != tensors.keys():
        raise InputError(path, "its list of tensors differs from its tensors", expected=EXPECTED, todo=AGAIN)
    inputs = (_input(path, stored[name], stored[name + INPUTS], tensors[name], counts[name]) for name in tensors)
    return about, tuple(inputs)


def _input(path: Path, packed: TensorSlice, inputs: TensorSlice, names: Any, count: Any) -> _Input:
    """One input of a file, validated."""
    if not _are_names(names, packed.name) or type(count) is not int or count < 1:
        raise InputError(path, f"{ENTRY} of {quoted(packed.name)} is malformed", expected=EXPECTED, todo=AGAIN)
    for tensor in (packed, inputs):
        if tensor.ggml_type is not F32:
            what = f"tensor {quoted(tensor.name)} has dtype {tensor.ggml_type.name.upper()}"
            raise InputError(path, what, expected="F32", todo=AGAIN)
    n = size_of(packed.shape[0]) if len(packed.shape) == 1 else 0
    if n < 1 or _before(n) != packed.shape[0]:
        what = f"tensor {quoted(packed.name)} has shape {shape_text(packed.shape)}"
        raise InputError(path, what, expected="n (n + 1) / 2 values", todo=AGAIN)
    if len(inputs.shape) != 2 or inputs.shape[0] > MOST_INPUTS or inputs.shape[1] != n:
        what = f"tensor {quoted(inputs.name)} has shape {shape_text(inputs.shape)}"
        raise InputError(path, what, expected=f"at most {MOST_INPUTS}×{n}", todo=AGAIN)
    return _Input(replace(packed, shape=(packed.shape[0], 1)), inputs, tuple(names), count)


def _are_names(names: Any, first: str) -> bool:
    """Whether these are names of tensors that share an input, which has the name of the first."""
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return is_list and names[:1] == [first] and len(set(names)) == len(names)


def _entry(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """The header entry that says what a file holds. Raises InputError for a file of another kind."""
    try:
        about = parse_json(metadata[ENTRY].encode())
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, "holds no second moments", expected=EXPECTED) from error
    found: Mapping[str, Any] = about
    return found


def _object(path: Path, about: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object in the header entry."""
    value = about.get(key)
    if not isinstance(value, dict):
        raise InputError(path, f"{ENTRY}.{key} is missing or malformed", expected=EXPECTED, todo=AGAIN)
    return value


def _mirror(matrix: Floats) -> None:
    """Copy the lower triangle of a square matrix into the upper one, by tiles, which fit into the cache."""
    for i in range(0, len(matrix), TILE):
        rows = slice(i, i + TILE)
        tile = matrix[rows, rows]
        upper = np.triu_indices(len(tile), 1)
        tile[upper] = tile.T[upper]
        for j in range(i + TILE, len(matrix), TILE):
            matrix[rows, j : j + TILE] = matrix[j : j + TILE, rows].T


def size_of(n_packed: int) -> int:
    """The n of a triangle of n (n + 1) / 2 values; of the largest one within, if there is none."""
    return (isqrt(8 * n_packed + 1) - 1) // 2


def _before(row: int) -> int:
    """Values of a packed lower triangle before a row."""
    return row * (row + 1) // 2


def packed_bytes(sizes: Sequence[int]) -> int:
    """Bytes of the second moments of inputs of these sizes, with their sampled positions."""
    return sum(4 * (_before(n) + MOST_INPUTS * n) for n in sizes)
