"""Datasets of the Hub from which a worker may fetch clips: at one commit, which its operator names."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mimo_convert.disk import sha256_of
from mimo_convert.model.checkpoint import REPO
from mimo_convert.sources.hub_folder import COMMIT
from quantize.errors import InputError

if TYPE_CHECKING:
    from mimo_convert.sources.hub_listing import HubFile

EXPECTED = "OWNER/NAME@COMMIT, the commit in 40 digits: a branch or a tag may move"
DATASETS = "datasets"  # the kind of repository
PART = ".dataset"  # of the name under which a file is fetched
LOG = logging.getLogger("distributed.worker")


@dataclass(frozen=True)
class HubDataset:
    """A dataset at a commit, whose clips are files of their own. What it lists is asked for once."""

    repo: str
    commit: str

    def fetch(self, sha256: str, name: str, nbytes: int, cache: Path) -> Path | None:
        """Fetch a file by its SHA-256 into the cache; None if the dataset has none, or cannot be reached, which the
        worker's log tells. Git keeps small files by another hash: those of the same name and size are tried."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined] # late: it is slow to import

        from mimo_convert.sources.hub_download import download

        cache.mkdir(parents=True, exist_ok=True)
        place, part = cache / sha256, cache / f"{sha256}{PART}"
        with WeakFileLock(part.with_suffix(".lock")):
            for file in self._candidates(sha256, name, nbytes):
                if place.exists():
                    return place
                try:
                    download(self.repo, self.commit, file, part, LOG.warning, repo_type="dataset")
                except InputError as error:
                    LOG.warning("%s", error)
                    continue
                if sha256_of(part) == sha256:
                    return part.replace(place)
                part.unlink()
        return None

    def _candidates(self, sha256: str, name: str, nbytes: int) -> Iterator["HubFile"]:
        for path, file in self._files.items():
            same = file.sha256 == sha256 if file.sha256 else Path(path).name == name
            if same and file.size == nbytes:
                yield file

    @cached_property
    def _files(self) -> "dict[str, HubFile]":
        """The files that it lists; none if it cannot be reached."""
        from mimo_convert.sources.hub_listing import list_repo

        try:
            listing = list_repo(self.repo, self.commit, DATASETS)
        except InputError as error:
            LOG.warning("%s", error)
            return {}
        return dict(listing.files) if listing.commit == self.commit else {}


def parse_dataset(text: str) -> HubDataset:
    """The dataset that an option names. Raises InputError for another text, and for a revision that may move."""
    repo, _, commit = text.partition("@")
    if not REPO.fullmatch(repo) or ".." in repo or not COMMIT.fullmatch(commit):
        raise InputError("--dataset", f"{text!r} is not a dataset at a commit", expected=EXPECTED)
    return HubDataset(repo, commit)
