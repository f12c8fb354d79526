"""A defect, and what each command must say of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from .bases import AGAINST, CHECKPOINT, COMMANDS, RUN
from .edits import Damage

Patch = pytest.MonkeyPatch


class Defect(NamedTuple):
    """What is wrong; on which of the `Bases`; how a copy of the file, or the harness, is made so; and what each command
    that catches it says. `opening` is what all of them say that run the file or compare it: it is refused.
    """

    name: str
    on: str
    damage: Damage | None
    static: str = ""
    opening: str = ""
    checkpoint: str = ""
    run: str = ""
    against: str = ""
    replace: Callable[[Patch], object] | None = None

    @property
    def says(self) -> dict[str, str]:
        """By command."""
        texts = zip(COMMANDS, (self.static, self.checkpoint, self.run, self.against), strict=True)
        refusing = (RUN, AGAINST) if self.static else (CHECKPOINT, RUN, AGAINST)  # --checkpoint says what --static does
        refused = dict.fromkeys(refusing, self.opening) if self.opening else {}
        return refused | {command: text for command, text in texts if text}


def harness(name: str, on: str, replace: Callable[[Patch], object], run: str) -> Defect:
    """A defect of the harness, which only a run can show."""
    return Defect(name, on, None, run=run, replace=replace)


def around(owner: Any, name: str, wrong: Callable[..., Any]) -> Callable[[Patch], None]:
    """A function replaced by `wrong`, which gets the right one before its arguments."""
    right = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *args, **options: wrong(right, *args, **options))
