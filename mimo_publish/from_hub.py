"""An adapter of a file, downloaded again by the commands of a model card."""

from pathlib import PurePath
from typing import NamedTuple

from mimo_convert.model.adapter import is_apart
from mimo_convert.model.provenance import Provenance
from mimo_families.adapters import NONE

from .shell import command, path


class FromHub(NamedTuple):
    """An adapter: the folder of its `files`, and the repository that they are downloaded from."""

    folder: str
    model: str
    files: tuple[str, ...]

    @property
    def download(self) -> str:
        """The command that downloads it."""
        repo, _, revision = self.model.partition("@")
        pinned = ["--revision", revision] if revision else []
        return command("hf", "download", repo, *map(path, self.files), *pinned, "--local-dir", path(self.folder))

    @property
    def options(self) -> list[str]:
        """The options of mimo-convert that name it."""
        return ["--adapter", path(self.folder), "--adapter-model", self.model]


def adapter_options(told: Provenance) -> list[str]:
    """The options of mimo-convert that are about a file's adapter; none for that of the base's own repository."""
    if told.adapter_omitted:
        return ["--adapter", NONE]
    adapter = adapter_of(told)
    return adapter.options if adapter else []


def has_lost_adapter(told: Provenance) -> bool:
    """Whether a file does not say where an adapter is from that is not in the repository of its base; its name is that
    of a folder."""
    plain = PurePath(told.adapter_name).name == told.adapter_name and told.adapter_name not in ("", "..")
    return is_apart(told.adapter) and not (plain and told.adapter_model)


def adapter_of(told: Provenance) -> FromHub | None:
    """The adapter to download; None if there is none, or it is in the repository of its base."""
    apart = is_apart(told.adapter)
    return FromHub(told.adapter_name, told.adapter_model, tuple(told.adapter)) if apart else None
