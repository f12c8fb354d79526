"""The config of a nightly run: a TOML file (docs/nightly.md), validated into frozen data."""

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mimo_convert.fields import one_of
from mimo_convert.files import read_bytes
from mimo_families.adapters import NONE
from mimo_families.sources import written_as
from quantize.errors import InputError
from runtime_check.choices import AUTO

from .agreement.records import AgreementSet
from .config_errors import as_input_error
from .config_schema import COMPANION_KEYS, ON_DISK, AgreementTable, ConfigTable, Shared, TargetTable
from .regression import METRICS, Gates

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 1_000_000  # of the file
MOST_PARTS = 32  # of a key: the parser takes time with their square, and the keys here have three
PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
DEEP_KEY = re.compile(rf"(?<![\w-])(?:{PART}){{{MOST_PARTS}}}")


@dataclass(frozen=True)
class Target:
    """Files to check and their reference. Every path is absolute.

    `file` and the file `beside` it are local paths, or names in `repo` at `revision`; `beside` is by its key in the
    config, `tokenizer` or `mmproj`, and empty if none is named.
    `reference` is what to compare with, a stored one or a checkpoint. Of a checkpoint are `reference_tokenizer` beside
    it and `adapter`, a folder or `none` (empty: its own). `context` and `attention` are those of the task.
    `rows` is the checkpoint that every row of `file` is compared with, and `imatrix` the importance matrix that it was
    made with, a path or a name in `repo`; empty: nothing.
    `timeout` is in seconds; good runs before `compare_since` (UTC in ISO 8601; empty: none) are not compared with.
    `agreement` is the set on which it may get few more words wrong than a baseline; None: none.
    """

    name: str
    file: str
    beside: Mapping[str, str]
    repo: str
    revision: str
    reference: str
    reference_tokenizer: str
    audio: Sequence[str]
    language: str
    timeout: float
    threads: int
    repack: str
    products: str
    tolerance: Mapping[str, float]
    gates: Gates
    compare_since: str
    adapter: str = ""
    context: str = ""
    attention: str = AUTO
    agreement: AgreementSet | None = None
    rows: str = ""
    imatrix: str = ""


@dataclass(frozen=True)
class Notify:
    """How changes of state are told: by running `command`, or by posting to the URL in the environment variable
    `webhook_env`; one of the two is empty. `transcripts`: with what was heard."""

    command: tuple[str, ...]
    webhook_env: str
    transcripts: bool


@dataclass(frozen=True)
class Config:
    """All targets, in the order of the file `path` with hash `sha256`. `keep` is how long reports of runs stay, in
    seconds; `notify` is None if nobody is told of changes."""

    path: Path
    sha256: str
    history: Path
    pages: Path
    cache: Path
    keep: float
    notify: Notify | None
    targets: tuple[Target, ...]

    @property
    def answers(self) -> Path:
        """The folder of the answers to agreement sets, beside the history."""
        return self.history.with_name(f"{self.history.name}.agreement")

    def chosen(self, names: Sequence[str]) -> tuple[Target, ...]:
        """The targets of these names, in order; all if `names` is empty. Raises InputError for an unknown name."""
        known = [target.name for target in self.targets]
        for name in names:
            if name not in known:
                raise InputError("--target", f"{name!r} is not in {self.path}", **one_of(name, known))
        return tuple(target for target in self.targets if not names or target.name in names)


def read_config(path: Path) -> Config:
    """Read and validate the file. Raises InputError. Whether the files it names exist is checked with their target, so
    that a missing one does not affect others."""
    data = read_bytes(path, MOST_BYTES, expected="a TOML file")
    values = parsed(path, data)
    try:
        table = ConfigTable.model_validate(values)
    except ValidationError as error:
        raise as_input_error(path, ConfigTable, values, error) from error
    folder = folder_of(path)
    history, pages, cache = (Path(local(folder, place)) for place in (table.history, table.pages, table.cache))
    told = table.notify
    notify = Notify(tuple(told.command), told.webhook_env, told.transcripts) if told else None
    targets = tuple(_target(target, table, folder) for target in table.target)
    return Config(path, hashlib.sha256(data).hexdigest(), history, pages, cache, table.keep, notify, targets)


def parsed(path: Path, data: bytes) -> dict[str, Any]:
    """Parse TOML. Raises InputError."""
    try:
        text = data.decode("utf-8-sig")
        if DEEP_KEY.search(text):
            raise InputError(path, f"has a key of more than {MOST_PARTS} parts", expected="a TOML file")
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(path, "is not TOML that can be read: lists or tables are nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and that of a number of too many digits
        raise InputError(path, f"is not TOML: {error}") from error


def folder_of(path: Path) -> Path:
    """The folder that paths in the config are relative to."""
    return path.absolute().parent


def local(folder: Path, path: str) -> str:
    """Resolve a path relative to the config's folder."""
    return os.path.join(folder, os.path.expanduser(path))


def _target(table: TargetTable, shared: Shared, folder: Path) -> Target:
    """A target with the shared settings and resolved paths."""
    both = shared.model_dump(include=set(Shared.model_fields)) | table.given(Shared.model_fields)
    tolerance = {name: metric.tolerance for name, metric in METRICS.items()}
    for own in (shared, table):
        tolerance |= own.given(["tolerance"]).get("tolerance", {})
    return Target(
        name=table.name,
        file=table.file if table.repo else local(folder, table.file),
        beside={key: file if table.repo else local(folder, file) for key, file in table.given(COMPANION_KEYS).items()},
        repo=table.repo,
        revision=table.revision or "main",
        reference=written_as(table.reference or table.checkpoint, folder),
        reference_tokenizer=_source_if_any(folder, table.reference_tokenizer or table.checkpoint_tokenizer),
        audio=[local(folder, clip) for clip in table.audio],
        language=table.language,
        timeout=both["timeout"],
        threads=both["threads"],
        repack=both["repack"],
        products=both["products"],
        tolerance=tolerance,
        gates=table.given(["gates"]).get("gates", {}),
        compare_since=str(table.compare_since),
        adapter=table.adapter if table.adapter == NONE else _local_if_any(folder, table.adapter),
        context=table.context,
        attention=table.attention,
        agreement=_agreement(table.agreement, table.repo, folder) if table.agreement else None,
        rows=_source_if_any(folder, table.rows),
        imatrix=table.imatrix
        if table.repo and not table.imatrix.startswith(ON_DISK)
        else _local_if_any(folder, table.imatrix),
    )


def _agreement(table: AgreementTable, repo: str, folder: Path) -> AgreementSet:
    """An agreement set with resolved paths."""
    return AgreementSet(
        audio=[local(folder, clip) for clip in table.audio],
        conditions=table.conditions,
        baseline=table.baseline if repo else local(folder, table.baseline),
        tolerance=table.tolerance,
        language=table.language,
        noise=_local_if_any(folder, table.noise),
        seed=table.seed,
        cluster=table.cluster,
        insecure_cluster=table.insecure_cluster,
    )


def _local_if_any(folder: Path, path: str) -> str:
    """Resolve a path; empty stays empty."""
    return path and local(folder, path)


def _source_if_any(folder: Path, source: str) -> str:
    """Resolve a path, and leave other sources as they are; empty stays empty."""
    return source and written_as(source, folder)
