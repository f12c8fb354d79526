"""State that every system on ggml keeps: the backend, timings, and memory."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mimo_convert.listener import phase
from mimo_convert.model.model_file import ModelFile
from mimo_convert.numbers_text import TIMINGS
from runtime_check.choices import AUTO, GGML, ON
from runtime_check.ggml import repack
from runtime_check.ggml.graph import Backend, Weights

from .system import Compute


class Loaded(NamedTuple):
    """A model file, its mapped weights, and the number of positions it will process."""

    model: ModelFile
    weights: Weights
    positions: float


class Session:
    """The runs of one system. `timings` are those of the current run, and of loading."""

    def __init__(self, compute: Compute) -> None:
        self.repack_choice = compute.repack
        repacked = compute.repack == ON and compute.products == AUTO  # repacked weights are ggml's to multiply
        self.backend = Backend(compute.threads, GGML if repacked else compute.products)
        self.timings: dict[str, float] = {}
        self.repacked = 0
        self._loaded: dict[str, float] = {}

    @contextmanager
    def timed(self, timing: str) -> Iterator[None]:
        """Time a block, in seconds, and report it as a phase."""
        start = time.perf_counter()
        with phase(TIMINGS[timing], unit="positions"):
            yield
        self.timings[timing] = time.perf_counter() - start

    def repack(self, models: Iterable[Loaded]) -> None:
        """Repack the weights of models for which it pays off, but those that own kernels multiply; a file that is
        repacked is hashed in the same reading, if its hash is wanted and not known."""
        begin = time.perf_counter()
        for loaded in models:
            types = {name: tensor.ggml_type for name, tensor in loaded.model.file.tensors.items()}
            own = self.backend.products.multiplies
            names = [name for name in repack.multiplied(loaded.model) if not own(types[name])]
            nbytes = sum(loaded.model.file.tensors[name].nbytes for name in names)
            if not names or not repack.worth_repacking(self.repack_choice, loaded.positions, nbytes):
                continue
            with phase(f"{TIMINGS['repack_s']} {loaded.model.path.name}", nbytes):
                self.repacked += loaded.weights.repack(names, self.backend.threads, loaded.model.hash)
        if self.repacked:
            self.timings["repack_s"] = time.perf_counter() - begin

    def loaded(self) -> None:
        """End of loading: later timings belong to a run."""
        self._loaded = dict(self.timings)

    def begin(self) -> None:
        """Begin a run, of one clip or several."""
        self.begin_clip()
        self.backend.peak = self.backend.held

    def begin_clip(self) -> None:
        """Begin a clip of a run: later timings are its own."""
        self.timings = dict(self._loaded)

    def products(self) -> dict[str, tuple[str, ...]]:
        """The code of products, GGML or a variant of the own kernels → the types that it has multiplied with so far."""
        return {code: tuple(sorted(types)) for code, types in sorted(self.backend.products.used.items())}

    def memory(self, models: Iterable[ModelFile]) -> dict[str, int]:
        """Bytes of mapped files, repacked weights, and the maximum of graphs and states in the run."""
        mapped = sum(model.file.size for model in models)
        return {"mapped": mapped, "repacked": self.repacked, "working": self.backend.peak}
