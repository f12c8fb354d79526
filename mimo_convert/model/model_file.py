"""The GGUF files of a command, each opened once: header, sizes, vocabulary and hash are cached."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

from mimo_convert.disk import sha256_of
from mimo_convert.formats.gguf import GGUFFile, read_gguf
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError

from .family import Family, Layout, family_named
from .gguf_facts import FileVocabulary, check_ids, checked_dimensions, vocabulary_of_file

LEAST_PRIORITY = 19  # of `nice`


@dataclass
class FileHash:
    """The sha256 of a file, computed once. If it is `wanted`, whoever reads the whole file for another purpose computes
    it from the same reading."""

    path: Path
    wanted: bool = False
    known: str = ""
    computing: Thread | None = None

    @property
    def missing(self) -> bool:
        """Whether it is wanted, not known, and not being computed."""
        return self.wanted and not self.known and not self.computing

    def begin(self) -> None:
        """Compute it in a thread beside other work, to which that gives way."""
        if not self.known and not self.computing:
            self.computing = Thread(target=self._compute, daemon=True)
            self.computing.start()

    def _compute(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            os.nice(LEAST_PRIORITY)
        with suppress(InputError):  # which `value` raises
            self.known = sha256_of(self.path)

    def value(self) -> str:
        """The hash; reads the file unless it is known. Raises InputError if it cannot be read."""
        if self.computing:
            self.computing.join()
        if not self.known:
            self.known = sha256_of(self.path)
        return self.known


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file of a known family, validated to be run: its header, sizes, layout and hash."""

    file: GGUFFile
    family: Family
    dims: Any
    layout: Layout
    hash: FileHash = field(compare=False)

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path

    def check(self) -> "ModelFile":
        """The file itself. Raises InputError unless its vocabulary is complete, if its family has text."""
        if self.family.text:
            _ = self.vocabulary
        return self

    @cached_property
    def vocabulary(self) -> FileVocabulary:
        """Tokens, types and merges. Raises InputError unless they are complete."""
        assert self.family.text is not None
        found = vocabulary_of_file(self.file, self.dims.vocab_size, self.family.text)
        check_ids(self.path, self.dims, found.tokens, self.family.text)
        return found


class OpenFiles:
    """The GGUF files of one command by path, of the known `families`; `shards` records each file's state when it was
    opened."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families
        self.shards = LocalShards()
        self._headers: dict[Path, GGUFFile] = {}
        self._models: dict[Path, ModelFile] = {}
        self._hashes: dict[Path, FileHash] = {}

    def header(self, path: Path) -> GGUFFile:
        """The file's header. Raises InputError if it is not a GGUF file, or truncated."""
        if path not in self._headers:
            self.shards.note(path)
            self._headers[path] = read_gguf(path)
        return self._headers[path]

    def family(self, path: Path) -> Family:
        """The family that the file names. Raises InputError if it is unknown."""
        architecture = self.header(path).architecture
        family = family_named(self.families, architecture)
        if family is None:
            known = " or ".join(family.architecture for family in self.families)
            raise InputError(path, f"key general.architecture is {architecture!r}", expected=known)
        return family

    def model(self, path: Path) -> ModelFile:
        """The file, validated to be run. Raises InputError if it could not be."""
        if path not in self._models:
            file, family = self.header(path), self.family(path)
            dims, layout = checked_dimensions(file, family)
            self._models[path] = ModelFile(file, family, dims, layout, self.hash_of(path))
        return self._models[path]

    def hash_of(self, path: Path) -> FileHash:
        """The hash of the file, which may be computed later."""
        return self._hashes.setdefault(path, FileHash(path))

    def sha256(self, path: Path) -> str:
        """The sha256 of the file; reads it unless the hash is known."""
        return self.hash_of(path).value()

    def set_sha256(self, path: Path, sha256: str) -> None:
        """Record the hash of a file that was read as a whole for another purpose."""
        self.hash_of(path).known = sha256
