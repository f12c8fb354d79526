"""The stages that a companion computed of the parts of a clip, as bytes that are stored and sent."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np

from quantize.errors import InputError
from runtime_check.run.activations import Stages

SAMPLES = "samples"  # of each part: which parts a clip was cut into


def packed(parts: Sequence[Stages], samples: Sequence[int]) -> bytes:
    """The stages of each part, which has so many samples, in one NPZ archive."""
    data = io.BytesIO()
    arrays = {f"{i}/{name}": array for i, stages in enumerate(parts) for name, array in stages.items()}
    np.savez(data, **{SAMPLES: np.array(samples, np.int64)}, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


def unpacked(data: bytes, samples: Sequence[int]) -> list[Stages] | None:
    """The stages of each part; None if they are of other parts. Raises InputError for other bytes."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            if found[SAMPLES].tolist() != list(samples):
                return None
            parts: list[Stages] = [{} for _ in samples]
            for key in found.files:
                if key != SAMPLES:
                    i, _, name = key.partition("/")
                    parts[int(i)][name] = found[key]
            return parts
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError("the store", "holds stages that cannot be read", todo="use another --store") from error
