"""The cache keeps everything within its folder, whatever a Hub lists and somebody plants."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.sources.hub_listing import HubFile
from mimo_nightly.files.cache import Cache, header_of, note_of, part_of
from mimo_nightly.files.fetch import fetch
from quantize.errors import InputError
from tests.hub_server import serve, use

PARTS = st.sampled_from(["..", ".", "", "a", "x.gguf", "x.part", "x.verified", "\\", "a\0", "\ud800", "@", "%2e%2e"])


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=3), st.lists(PARTS, min_size=1, max_size=4), st.booleans())
def test_every_place_is_in_the_folder(repo: list[str], revision: list[str], name: list[str], absolute: bool) -> None:
    cache = Cache(Path("/nowhere/cache"))
    try:
        place = cache.place("/".join(repo), "/".join(revision), "/" * absolute + "/".join(name))
    except (InputError, UnicodeEncodeError):
        return
    for path in (place, header_of(place), note_of(place), part_of(place, HubFile("x", 1, "", "0" * 40))):
        inside = Path(os.path.abspath(path)).relative_to(cache.folder)
        assert len(inside.parts) >= 2


@pytest.mark.parametrize("planted", ["part", "header", "note", "place", "folder"])
def test_a_planted_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "x.gguf").write_bytes(b"hello\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    place = Cache(tmp_path / "cache").place("some/repo", "main", "x.gguf")
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # of hello, by sha256sum
    file = HubFile("x.gguf", 6, sha256, sha256)
    at = {"part": part_of(place, file), "header": header_of(place), "note": note_of(place), "place": place,
          "folder": place.parent}[planted]  # fmt: skip
    at.parent.mkdir(parents=True)
    at.symlink_to(tmp_path / "mine" if planted == "folder" else tmp_path / "mine" / "file")
    free = (lambda folder: 0) if planted == "header" else (lambda folder: 1 << 40)
    with serve({"some/repo": {"main": tmp_path / "repo"}}) as hub:
        use(hub, tmp_path / "home", monkeypatch)
        with pytest.raises(InputError, match="is a symbolic link"):
            fetch("some/repo", "main", ["x.gguf"], tmp_path / "cache", print, free)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    assert (tmp_path / "mine" / "file").read_text() == "mine"
