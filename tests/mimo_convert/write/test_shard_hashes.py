"""The hash of a file is hashlib's of all its bytes, however little of it a conversion reads."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.sources.shards import LocalShards
from mimo_convert.write.shard_hashes import ShardHashes
from quantize.errors import InputError, WorthlessError

DATA = bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8))
SHA256 = hashlib.sha256(DATA).hexdigest()


class Said(LocalShards):
    """Shards of which the Hub says this hash."""

    def __init__(self, sha256: str, here: bool = True) -> None:
        self.sha256, self.here = sha256, here

    def published_sha256(self, file: Path) -> str:
        return self.sha256

    def is_here(self, file: Path) -> bool:
        return self.here

    def size(self, file: Path) -> int:
        return len(DATA)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "model.safetensors"
    path.write_bytes(DATA)
    return path


@given(st.lists(st.integers(0, len(DATA)), max_size=12).map(sorted), st.booleans())
def test_any_rows_in_order_make_the_hash_of_the_whole_file(shard: Path, cuts: list[int], read_to_the_end: bool) -> None:
    """Every second piece between the cuts is read; the others are what a conversion skips."""
    pieces = list(zip(cuts[::2], cuts[1::2], strict=False))
    with ShardHashes(LocalShards()) as hashes:
        for i, (begin, end) in enumerate(pieces):
            last = read_to_the_end and i == len(pieces) - 1
            hashes.add(shard, begin, np.frombuffer(DATA[begin:end], np.uint8), last=last).result()
        assert hashes.of([shard]) == {"model.safetensors": SHA256}


def test_a_file_that_is_used_up_and_gone_has_the_hash_that_the_hub_gives(tmp_path: Path) -> None:
    with ShardHashes(Said(SHA256, here=False)) as hashes:
        assert hashes.of([tmp_path / "model.safetensors"]) == {"model.safetensors": SHA256}


def test_a_file_that_is_not_the_hubs_makes_everything_made_of_it_worthless(shard: Path) -> None:
    with (
        ShardHashes(Said("0" * 64)) as hashes,
        pytest.raises(WorthlessError, match=rf"model\.safetensors: has the sha256 {SHA256}; expected 0{{64}}, by the"),
    ):
        hashes.of([shard])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with (
        ShardHashes(Said("")) as hashes,
        pytest.raises(InputError, match=r"gone\.safetensors: cannot be read: No such"),
    ):
        hashes.of([tmp_path / "gone.safetensors"])
