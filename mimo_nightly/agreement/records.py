"""What a config says of a target's agreement."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AgreementSet:
    """Clips in conditions on which a target's file may get few more words wrong than the `baseline`. Every path is
    absolute; the baseline is a name in the repository of a target that is in one.

    `tolerance` is in points of the error rate; `language` is that of the prompt (empty: the clips'), `noise` a folder
    of clips for babble (empty: the set's own), `seed` that of all that conditions draw.
    """

    audio: Sequence[str]
    conditions: Sequence[str]
    baseline: str
    tolerance: float
    language: str
    noise: str
    seed: int
