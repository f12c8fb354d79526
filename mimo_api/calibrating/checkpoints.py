"""A checkpoint's files by their SHA-256: hashed where the command runs, and in a worker a folder of links to them,
wherever each of them lies there."""

import json
import os
import secrets
from hashlib import sha256
from pathlib import Path

from mimo_agreement.cluster.places import HashedPlaces
from mimo_agreement.run.places import LocalPlaces
from mimo_convert.disk import sha256_of
from mimo_convert.files import input_errors
from mimo_convert.listener import phase
from mimo_convert.model.checkpoint import INDEX, Checkpoint, open_checkpoint

from .jobs import CheckpointFiles

# Beside the weights: what a checkpoint is opened by, and its vocabulary.
SMALL = (
    "config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
FOLDER = "checkpoints"  # of the cache of a worker


def files_of(checkpoint: Checkpoint) -> tuple[CheckpointFiles, LocalPlaces]:
    """The files of a checkpoint without an adapter, and where they are. Those of the Hub are waited for, and have the
    hashes that it lists."""
    checkpoint.fetch()
    shards = sorted({tensor.file for tensor in checkpoint.tensors.values()})
    found = [*(path for name in SMALL if (path := checkpoint.folder / name).is_file()), *shards]
    states = {path: checkpoint.shards.state(path) for path in found}
    hashes: dict[Path, str] = {}
    with phase(f"hashing {checkpoint.name}", sum(path.stat().st_size for path in found)) as running:
        for path in found:
            hashes[path] = checkpoint.shards.published_sha256(path) or sha256_of(path)
            running.advance(path.stat().st_size, path.name)
    files = CheckpointFiles(checkpoint.name, {path.name: hashes[path] for path in found})
    return files, LocalPlaces(
        {hashes[path]: path for path in found}, {hashes[path]: state for path, state in states.items()}
    )


def opened(wanted: CheckpointFiles, places: HashedPlaces) -> Checkpoint:
    """Open a checkpoint in a folder of the cache that has links to its files. Raises InputError for a file that is not
    there, or has changed."""
    digest = sha256(json.dumps(sorted(wanted.files.items())).encode()).hexdigest()
    folder = places.cache / FOLDER / digest
    with input_errors(folder, "cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, of in wanted.files.items():
            link, target = folder / name, str(places.path(of))
            if not (link.is_symlink() and os.readlink(link) == target):
                new = folder / f"{name}.{secrets.token_hex(4)}"
                new.symlink_to(target)
                new.replace(link)
    return open_checkpoint(folder, wanted.name)
