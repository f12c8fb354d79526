"""The loop over groups: text id, block of codes, next group; and what a generation says.

A group is a text id and a block of codes, (group_size, channels). Prompts, histories and generated groups have the form
of `prompt.py`: (1 + channels, T) ids, T a multiple of the group size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..segments import Ids
from .sampler import LOCAL, Sampler

Block = npt.NDArray[np.int32]  # (group_size, channels)
Codes = npt.NDArray[np.int32]  # (frames, channels)
MOST_GROUPS = 8192  # of a prompt and what follows it, also where the context is longer


class Settings(NamedTuple):
    """How groups are generated: the samplers of text ids and of codes, the ids that end a generation, the numbers of
    new groups, and the seed of all draws."""

    text: Sampler
    codes: Sampler = LOCAL
    stops: frozenset[int] = frozenset()
    max_new: int = MOST_GROUPS
    min_new: int = 0
    seed: int = 0


class Group(NamedTuple):
    """A generated group; `dropped` counts the draws whose filters left only forbidden ids."""

    text_id: int
    block: Block
    dropped: int = 0


@dataclass(frozen=True)
class Generation:
    """What was generated, and how it is read.

    `text_ids`, (N,), and `blocks`, (N, group_size, channels), are all new groups, the stop group included; `text` and
    `codes`, (frames, channels), what they say; `dropped_forbidden` counts draws whose filters left only forbidden ids;
    `history`, (1 + channels, T), is the prompt with all new groups: the next prompt is appended to it.
    """

    text_ids: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int32]
    text: str
    codes: Codes
    dropped_forbidden: int
    history: Ids
