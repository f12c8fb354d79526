"""What a config says of a target's agreement."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AgreementSet:
    """Clips in conditions on which a target's file may get few more words wrong than the `baseline`. Every path is
    absolute; the baseline is a name in the repository of a target that is in one.

    `tolerance` is in points of the error rate; `language` is that of the prompt (empty: the clips'), `noise` a folder
    of clips for babble (empty: the set's own), `seed` that of all that conditions draw. `cluster` is the address of a
    Dask scheduler whose workers run the clips (empty: none), `insecure_cluster` whether it may be one elsewhere without
    TLS.
    """

    audio: Sequence[str]
    conditions: Sequence[str]
    baseline: str
    tolerance: float
    language: str
    noise: str
    seed: int
    cluster: str = ""
    insecure_cluster: bool = False
