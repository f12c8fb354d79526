"""Repositories that hold a base checkpoint and its adapter, each in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mimo_convert.model.adapter import AdapterFacts

from .registry import families

CONFIG = "config.json"  # which every checkpoint has


class Repository(NamedTuple):
    """A folder, and those of the base and of the adapter in it."""

    folder: Path
    base: Path
    adapter: Path


def adapter_facts() -> Iterator[AdapterFacts]:
    """What is known of adapters, of every family."""
    yield from (family.adapters for family in families() if family.adapters)


def base_folders() -> list[str]:
    """The folders that repositories have their base in."""
    return [facts.base for facts in adapter_facts() if facts.base]


def repository_in(folder: Path) -> Repository | None:
    """The repository of a base and an adapter in a folder; None if it is another folder."""
    for facts in adapter_facts():
        if facts.base and not (folder / CONFIG).exists() and (folder / facts.base / CONFIG).is_file():
            return Repository(folder, folder / facts.base, folder / facts.folder)
    return None
