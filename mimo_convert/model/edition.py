"""Published models of one family: how they are told apart, what their files are called, and which parts these have."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mimo_convert.formats.config import Config

BASENAME, FINETUNE, TAGS = "general.basename", "general.finetune", "general.tags"


class Edition(NamedTuple):
    """A published model of a family. A checkpoint is told by `config_names`, values of `architectures` in its
    config.json (empty: any), and by `name`, a regular expression of the model's whole name; a file by `basename` and
    `finetune`, which it records unless they are empty, as it does `tags` in place of the family's.

    Its files are called `file_stem` before their type. `left_out` are the parts that files of its system lack unless
    they are asked for.
    """

    file_stem: str
    config_names: tuple[str, ...] = ()
    name: str = ".*"
    basename: str = ""
    finetune: str = ""
    tags: Sequence[str] = ()
    left_out: frozenset[str] = frozenset()

    @property
    def about(self) -> Mapping[str, Any]:
        """The metadata that tells its files."""
        entries = {BASENAME: self.basename, FINETUNE: self.finetune, TAGS: list(self.tags)}
        return {key: value for key, value in entries.items() if value}

    def is_of(self, config: Config, name: str) -> bool:
        """Whether the checkpoint of the model called `name` is of this edition."""
        listed = config.values.get("architectures")
        names = listed if isinstance(listed, list) else []
        has_name = not self.config_names or any(one in self.config_names for one in names)
        return has_name and re.fullmatch(self.name, name, re.DOTALL) is not None

    def is_in(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a file with that metadata is of this edition."""
        found = [metadata.get(key, "") for key in (BASENAME, FINETUNE)]
        return all(isinstance(text, str) for text in found) and found == [self.basename, self.finetune]
