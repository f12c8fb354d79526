"""Files of a worker, by their hashes: in what its operator allows, or as they were sent; nothing else is opened."""

import hashlib
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.cluster import places
from mimo_agreement.cluster.places import FileFacts, HashedPlaces
from quantize.errors import InputError

DATA = b"what a file holds"
HASH = hashlib.sha256(DATA).hexdigest()
FILES = {HASH: FileFacts("clip.wav", len(DATA))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "below").mkdir(parents=True)
    return tmp_path / "root"


def of(root: Path, files: dict[str, FileFacts] = FILES) -> HashedPlaces:
    return HashedPlaces((root,), root.parent / "cache", files)


def test_a_file_is_found_by_its_hash_whatever_it_is_called(root: Path) -> None:
    (root / "clip.wav").write_bytes(DATA[::-1])
    (root / "below" / "other name").write_bytes(DATA)
    assert of(root).path(HASH) == root / "below" / "other name"
    assert of(root).lacking([HASH, HASH]) == []


def test_what_was_hashed_once_is_hashed_again_only_if_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "clip.wav").write_bytes(DATA)
    assert of(root).find(HASH)
    hashed = []
    sha256_of = places.sha256_of
    monkeypatch.setattr(places, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    again = pickle.loads(pickle.dumps(of(root)))
    assert again.path(HASH) == root / "clip.wav"
    assert not hashed
    (root / "clip.wav").write_bytes(DATA[::-1])
    assert of(root).lacking([HASH]) == [HASH]
    assert hashed == [root / "clip.wav"]
    with pytest.raises(InputError, match=r"clip.wav: is not on this machine any more, or has changed"):
        again.path(HASH)


def test_nothing_else_is_opened(root: Path, tmp_path: Path) -> None:
    """Neither by a link out of the folder, nor what is no file of the run, nor by a note that somebody wrote."""
    outside = tmp_path / "outside.wav"
    outside.write_bytes(DATA)
    (root / "link.wav").symlink_to(outside)
    assert of(root).find(HASH) is None
    (root / "clip.wav").write_bytes(DATA)
    assert of(root, {}).find(HASH) is None
    with pytest.raises(InputError):
        of(root, {}).path(HASH)
    assert of(root).find(HASH)
    memo = root.parent / "cache" / f"{HASH}.json"
    memo.write_text(memo.read_text().replace(str(root / "clip.wav"), str(outside)))
    assert of(root).find(HASH) == root / "clip.wav"


@given(st.integers(1, len(DATA)))
def test_a_file_that_is_sent_in_parts_is_there_at_the_end(n: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        here = HashedPlaces((), Path(folder) / "cache", FILES)
        for begin in range(0, len(DATA), n):
            assert here.lacking([HASH]) == [HASH]
            here.receive(HASH, begin, DATA[begin : begin + n])
        assert here.path(HASH).read_bytes() == DATA


def test_what_is_sent_is_verified(root: Path) -> None:
    here = of(root)
    with pytest.raises(InputError, match=r"clip.wav: was changed while it was sent"):
        here.receive(HASH, 0, DATA[::-1])
    for sha256, begin, data in (("0" * 64, 0, DATA), (HASH, 1, DATA), ("../escape", 0, b"")):
        with pytest.raises(InputError, match="is not a file of this run"):
            here.receive(sha256, begin, data)
    assert here.lacking([HASH]) == [HASH]
    assert not [path for path in here.cache.iterdir() if path.suffix == ".part"]


def test_a_file_for_which_the_disk_has_no_room_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "free_bytes", lambda folder: len(DATA) - 1)
    says = r"clip.wav: has 17 bytes, and .*cache of a worker has room for 16 bytes; have it below a --root"
    with pytest.raises(InputError, match=says):
        of(root).receive(HASH, 0, DATA)
    assert not list((root.parent / "cache").iterdir())
