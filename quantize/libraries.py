"""Shared libraries of our kernels, which lie beside their sources in a package."""

import ctypes
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from .backends import BackendWarning


def load_library(folders: Iterable[str], name: str, instead: str, warning: type[BackendWarning]) -> ctypes.CDLL | None:
    """Load the library `name` of the package in `folders`; None if it was not built. If it cannot be loaded, also None,
    with a `warning` that says what happens `instead`."""
    path = next((path for path in (Path(folder) / name for folder in folders) if path.exists()), None)
    if path is None:
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        warnings.warn(f"{error}; {instead}: install mimo-convert again", warning, stacklevel=3)
        return None


def variant_names(variant: Callable[[int], bytes | None]) -> tuple[str, ...]:
    """The names of the variants that a library offers on this processor, the fastest first; `variant(i)` is the name of
    the i-th, None behind the last."""
    names: list[str] = []
    while name := variant(len(names)):
        names.append(name.decode())
    return tuple(names)
