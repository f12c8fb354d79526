"""Attention to near positions alone: which keys a query sees. Shared by `ggml/graph.py` and `pytorch/layers.py`."""

import numpy as np
import numpy.typing as npt


def mask_of(queries: range, keys: range, n: int, before: int, after: int) -> npt.NDArray[np.float16]:
    """What is added to the scores of attention in a sequence of `n` positions, (queries, keys): 0 where query i sees
    key j, which is there and i - before ≤ j ≤ i + after, where -1 is no bound; else -infinity."""
    j = np.array(keys)[None]
    distance = j - np.array(queries)[:, None]
    seen = (distance >= (-before if before >= 0 else -n)) & (distance <= (after if after >= 0 else n))
    return np.where(seen & (j >= 0) & (j < n), np.float16(0), np.float16(-np.inf))
