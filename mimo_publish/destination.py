"""The destination of a publication."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Destination:
    """A repository of the Hub. `even_if_failed`: files that failed are published, too; `template` is the card's, None
    for the default; `base_model` is for files that do not record theirs."""

    repo: str
    private: bool = False
    yes: bool = False
    even_if_failed: bool = False
    template: Path | None = None
    base_model: str | None = None
