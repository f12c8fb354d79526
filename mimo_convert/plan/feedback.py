"""Error feedback of a conversion: how each matrix is rounded, and the factors that its chunks share."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.hessians import Hessians, folder_of, open_hessians
from mimo_convert.model.source_model import SourceModel
from quantize.errors import InputError
from quantize.feedback.choice import METHODS, alpha_of
from quantize.feedback.factor import Factor, factor
from quantize.feedback.rounding import with_feedback
from quantize.kernels import Bytes, Floats
from quantize.types import Type

from .calibrated import entries_of

LONGEST = max(METHODS, key=len)  # in place of a method that is yet to be chosen, so that a header does not grow
MOST_BYTES = 1 << 30  # of the factors that are kept for chunks to come


@dataclass(frozen=True)
class Rounding:
    """How the rows of a matrix are rounded with error feedback: by the second moment `name`, shrunk by α."""

    factors: "Factors" = field(compare=False, repr=False)
    name: str
    alpha: float

    def apply(self, rows: Floats, blocks: Bytes, ggml_type: Type) -> Bytes:
        """Blocks of `rows`, (n, columns) float32, with the scales of `blocks`. Raises InputError for second moments
        that are damaged."""
        return with_feedback(rows, blocks, ggml_type, self.factors.of(self.name, self.alpha))


class Factors:
    """Factors of second moments, each made once for all chunks in flight, by all threads; the latest are kept."""

    def __init__(self, hessians: Hessians, threads: int) -> None:
        self.hessians, self.threads = hessians, threads
        self._kept: dict[tuple[str, float], Factor] = {}
        self._lock = threading.Lock()

    def of(self, name: str, alpha: float) -> Factor:
        """The factor of the second moment of a tensor's input."""
        key = self.hessians.sharing(name)[0], alpha
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                matrix = self.hessians.matrix(name)
                self._make_room(matrix.nbytes)
                found = factor(matrix, alpha, threads=self.threads)
            self._kept[key] = found  # the latest last
            return found

    def clear(self) -> None:
        """Forget all factors."""
        with self._lock:
            self._kept.clear()

    def _make_room(self, nbytes: int) -> None:
        while self._kept and sum(one.a.nbytes for one in self._kept.values()) + nbytes > MOST_BYTES:
            del self._kept[next(iter(self._kept))]


@dataclass(frozen=True)
class Feedback:
    """Error feedback of all files of a model. `methods` are one of METHODS for each matrix and type, by the name of its
    second moment and the type's; empty until they are chosen."""

    factors: Factors = field(compare=False, repr=False)
    methods: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def entries(self, model: SourceModel) -> Mapping[str, str]:
        """The name of the second moment of each matrix's input, by source name."""
        return {source: name for source, (name, _) in entries_of(model, self.factors.hessians.inputs).items()}

    def rounding_of(self, name: str, method: str) -> Rounding | None:
        """How rows are rounded by a method, given the second moment `name`; None without error feedback."""
        alpha = alpha_of(method)
        return None if alpha is None else Rounding(self.factors, name, alpha)


def open_feedback(calibration: Calibration | None, threads: int) -> Feedback:
    """The error feedback by the second moments beside a calibration file. Raises InputError without them."""
    if calibration is None:
        raise InputError("--feedback", "needs a calibration", todo="give one: --imatrix FILE")
    folder = folder_of(calibration.where)
    if not calibration.hessians:  # of another calibration, if a folder is there
        what = "has no second moments of inputs, which --feedback needs"
        raise InputError(calibration.where, what, expected=folder.name, todo="make them: mimo-calibrate --hessian")
    return Feedback(Factors(open_hessians(folder, calibration.hessians), threads))


def feedback_text(methods: Iterable[tuple[str, str]]) -> str:
    """The methods of matrices, names and methods, as a file records them."""
    return "".join(f"{name}={method}\n" for name, method in methods)


def feedback_of_text(text: str) -> dict[str, str]:
    """The methods that a file records, by name; other lines are ignored."""
    lines = [line.rpartition("=") for line in text.splitlines()]
    return {name: method for name, _, method in lines if name and method in METHODS}


def methods_words(methods: Mapping[str, str]) -> str:
    """How many matrices each method was kept for, such as `3 plain, 40 feedback-0.1`, in METHODS' order."""
    counts = Counter(methods.values())
    return ", ".join(f"{counts[method]} {method}" for method in METHODS if counts[method])
