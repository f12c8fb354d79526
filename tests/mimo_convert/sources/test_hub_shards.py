"""Shards of the Hub are converted while the next arrive: whole runs against a server."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.hub_server import Asked, Fault, commit, serve
from tests.opened import TINY_ASR, TINY_TOKENIZER, load_reference

from .conftest import LM, NAMES, OPTIONS, SHARDS, TOKENIZER, TOKENIZER_SHARD, User, check_same, wait_for


def test_shards_are_converted_while_the_next_arrives(user: User, local: Path) -> None:
    journal, seen = user.folder / "out" / f"{NAMES[0]}.part.journal", []

    def before(asked: Asked) -> int:
        if asked.file == SHARDS[1] and user.hub.whole() == SHARDS[:2]:
            # it is kept back until some of the first is converted, journaled
            seen.append(wait_for(lambda: journal.exists() and "done" in journal.read_text()))
        return 0

    user.hub.before = before
    assert user.convert() == (0, "")
    assert seen == [True]
    assert user.hub.whole() == [*SHARDS, TOKENIZER_SHARD]
    kinds = [(a.file, a.is_download) for a in user.hub.asked if a.method == "GET" and a.file in user.hub.whole()]
    assert kinds[:4] == [(file, False) for file in [*SHARDS, TOKENIZER_SHARD]], "all headers first"
    assert user.shards() == [*SHARDS, TOKENIZER_SHARD], "a cache keeps what it got"
    check_same(user.folder / "out", local, "main")

    user.hub.asked.clear()
    assert user.convert("--force", HF_HUB_OFFLINE="1") == (0, "")
    assert user.hub.asked == []
    check_same(user.folder / "out", local, "main")


def test_stream_leaves_no_shard_and_the_users_other_files(user: User, local: Path) -> None:
    other = user.cache / "models--Some--Speech-LM" / "snapshots" / commit("other") / "other.safetensors"
    other.parent.mkdir(parents=True)
    other.write_text("precious")
    assert user.convert("--stream", model=f"{LM}@v1") == (0, "")
    assert user.shards() == [other.name]
    assert user.contents() == 0
    assert other.read_text() == "precious"
    assert (other.parent.with_name(commit("v1")) / "config.json").is_file()
    check_same(user.folder / "out", local, "v1")


def test_stream_holds_one_shard_where_there_is_no_room_for_more(user: User, local: Path) -> None:
    held = []

    def before(asked: Asked) -> int:
        if asked.is_download and asked.file.startswith("model-"):
            held.append((user.shards(), user.contents()))
        return 0

    user.hub.before = before
    assert user.convert("--stream", FREE="0") == (0, "")
    assert held[:3] == [([], 0)] * 3, "each arrives when the one before is gone"
    assert user.hub.whole() == [*SHARDS, TOKENIZER_SHARD]
    assert user.shards() == []
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_run_whose_download_failed_goes_on_where_it_stopped(user: User, local: Path, stream: list[str]) -> None:
    journal = user.folder / "out" / f"{NAMES[0]}.part.journal"

    def fail(asked: Asked) -> int:
        if asked.file == SHARDS[1] and asked.is_download:
            return 403 if wait_for(lambda: journal.exists() and "done" in journal.read_text()) else 404
        return 0

    user.hub.before = fail
    status, said = user.convert(*stream)
    assert status == 2
    assert re.fullmatch(
        rf"error: {LM}/{SHARDS[1]}: cannot be downloaded: .*403.*; use one with the rights to this repository\n",
        said,
    )
    assert journal.exists()

    user.hub.before, _ = lambda asked: 0, user.hub.asked.clear()
    status, said = user.convert(*stream)
    assert (status, len(said.splitlines())) == (0, 1)
    assert "resuming where an earlier run stopped" in said
    assert user.hub.whole() == [*SHARDS[1:], TOKENIZER_SHARD], "what was here is not downloaded again"
    assert user.shards() == ([] if stream else [*SHARDS, TOKENIZER_SHARD])
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_shard_that_was_damaged_on_the_way_is_in_no_file(
    user: User, lm: Path, local: Path, stream: list[str]
) -> None:
    """A bit of a weight is another one: of the size and form that it should be, and not what the Hub has."""
    damaged = bytearray((lm / SHARDS[1]).read_bytes())
    damaged[-3] ^= 1

    def damage(asked: Asked) -> Fault | None:
        whole = asked.file == SHARDS[1] and asked.is_download
        return Fault(content=bytes(damaged)) if whole else None

    user.hub.before = damage
    status, said = user.convert(*stream)
    assert status == 2
    found, expected = (hashlib.sha256(data).hexdigest() for data in (damaged, (lm / SHARDS[1]).read_bytes()))
    assert re.search(
        rf"error: {LM}/{SHARDS[1]}: has sha256 {found}, the listing says {expected}: it changed .*; run the com", said
    )
    assert list(user.cache.glob("*/blobs/*.incomplete")) == []
    assert SHARDS[1] not in user.shards()

    user.hub.before = lambda asked: None
    user.hub.asked.clear()
    assert user.convert(*stream)[0] == 0
    assert SHARDS[1] in user.hub.whole()
    check_same(user.folder / "out", local, "main")


def test_a_shard_that_was_damaged_in_the_cache_is_in_no_file(user: User, lm: Path, local: Path) -> None:
    assert user.convert()[0] == 0
    shutil.rmtree(user.folder / "out")
    [shard] = user.cache.glob(f"*/snapshots/*/{SHARDS[1]}")
    damaged = bytearray(shard.read_bytes())
    damaged[-3] ^= 1
    shard.write_bytes(damaged)
    status, said = user.convert()
    assert status == 2
    found, expected = (hashlib.sha256(data).hexdigest() for data in (damaged, (lm / SHARDS[1]).read_bytes()))
    assert re.search(rf"{SHARDS[1]}: has the sha256 {found}; expected {expected}, by the Hub; it was damaged", said)
    assert not (user.folder / "out").exists(), "nothing made of it is resumed"

    shard.resolve().unlink()  # as the message says
    shard.unlink()
    assert user.convert() == (0, "")
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_download_that_was_cut_is_resumed_by_the_next_run(
    user: User, lm: Path, local: Path, stream: list[str], how: str
) -> None:
    size, n = (lm / SHARDS[0]).stat().st_size, 100_000
    coming, go_on = threading.Event(), threading.Event()

    def before(asked: Asked) -> Fault | None:
        if asked.file != SHARDS[0] or not asked.is_download:
            return None
        if asked.range == "bytes=0-":
            return Fault(cut=n)
        coming.set()
        go_on.wait(20)
        return Fault(cut=0)

    user.hub.before = before
    process = user.start(LM, "--tokenizer", TOKENIZER, *OPTIONS, "--out", "out", *stream, HF_TOKEN="hf_Secret")
    assert coming.wait(20)
    process.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
    _, said = process.communicate(timeout=20)
    go_on.set()
    assert f"{LM}/{SHARDS[0]}: the connection was cut; resuming at " in said
    assert "hf_Secret" not in said
    [part] = user.cache.glob("*/blobs/*.incomplete")
    assert part.name == f"{hashlib.sha256((lm / SHARDS[0]).read_bytes()).hexdigest()}.incomplete"
    assert 0 < part.stat().st_size < size

    left, user.hub.before = part.stat().st_size, lambda asked: None
    user.hub.asked.clear()
    assert user.convert(*stream) == (0, "")
    asked = [asked.range for asked in user.hub.asked if asked.file == SHARDS[0] and asked.is_download]
    assert asked == [f"bytes={left}-"]
    assert user.shards() == ([] if stream else [*SHARDS, TOKENIZER_SHARD])
    assert list(user.cache.glob("*/blobs/*.incomplete")) == []
    check_same(user.folder / "out", local, "main")


def test_the_cache_is_as_the_hub_s_library_makes_it(user: User, lm: Path) -> None:
    """Every name, link and content; and the library finds all of it without asking for a file."""
    assert user.convert(model=f"{LM}@v1")[0] == 0
    ours = user.cache / "models--Some--Speech-LM"
    code = f"""
from huggingface_hub import hf_hub_download, snapshot_download
import sys
names = ["config.json", "tokenizer.json", {", ".join(map(repr, SHARDS))}]
for name in names:
    print(hf_hub_download({LM!r}, name, revision="v1", cache_dir=sys.argv[1]))
print(snapshot_download({LM!r}, revision="v1", cache_dir=sys.argv[1], local_files_only=True))
"""

    def library(cache: Path) -> list[str]:
        command = [sys.executable, "-c", code, cache]
        done = subprocess.run(command, env=user.environment, capture_output=True, text=True, check=True)
        return [os.path.relpath(path, cache) for path in done.stdout.splitlines()]

    user.hub.asked.clear()
    found = library(user.cache)
    assert [asked for asked in user.hub.asked if asked.method == "GET" and asked.kind == "resolve"] == []
    assert library(user.folder / "other") == found
    theirs = user.folder / "other" / ours.name
    for name in found[:-1]:
        both = [(cache / name) for cache in (user.cache, user.folder / "other")]
        assert len({os.readlink(path) for path in both}) == 1
        assert len({path.read_bytes() for path in both}) == 1
    assert (ours / "refs" / "v1").read_text() == (theirs / "refs" / "v1").read_text()


def test_without_a_network_what_is_in_the_cache_is_converted(user: User, local: Path) -> None:
    assert user.convert() == (0, "")
    status, said = user.convert("--force", HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 0
    told = [rf"{source}: the connection failed: .*; commit {commit('main')} is in the cache, and is used"
            for source in (LM, TOKENIZER)]  # fmt: skip
    assert re.fullmatch("\n".join([*told, ""]), said), said
    check_same(user.folder / "out", local, "main")
    shutil.rmtree(user.cache)
    status, said = user.convert("--force", HF_HUB_OFFLINE="1")
    assert status == 2
    off = "there is no such folder, and as a Hub id: the network is switched off by HF_HUB_OFFLINE"
    assert said == f"error: {LM}: {off}, and the cache {user.cache} holds nothing of it; unset HF_HUB_OFFLINE\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_small_file_that_is_large_is_not_downloaded(user: User, lm: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(lm, tmp_path / "large")
    with (folder / name).open("ab") as file:
        file.truncate((1 << 25) + 1)
    user.hub.repos = {**user.hub.repos, LM: {"main": folder}}
    status, said = user.convert()
    assert status == 2
    assert said == (f"error: {LM}/{name}: has 33,554,433 bytes, and was not downloaded; expected at most 33,554,432\n")
    assert user.hub.of_kind("resolve") == []


@pytest.mark.parametrize("kept_back", SHARDS[:2])
def test_an_interrupt_need_not_wait_for_a_download(user: User, local: Path, kept_back: str) -> None:
    coming, go_on = threading.Event(), threading.Event()

    def before(asked: Asked) -> int:
        if asked.file == kept_back and asked.is_download:
            coming.set()
            go_on.wait(20)
        return 0

    user.hub.before = before
    process = user.start(LM, "--tokenizer", TOKENIZER, *OPTIONS, "--out", "out", "--stream")
    assert coming.wait(20)
    if kept_back != SHARDS[0]:
        journal = user.folder / "out" / f"{NAMES[0]}.part.journal"
        assert wait_for(lambda: journal.exists() and journal.read_text().count("done") > 5)
    time.sleep(0.2)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    took = time.monotonic() - begin
    go_on.set()
    assert process.returncode == 130
    assert took < 2, took
    assert re.fullmatch(r"interrupted: .*\n", said)
    assert list(user.cache.glob("*/blobs/*.*.incomplete")) == [], "those that nobody would go on with"

    user.hub.before = lambda asked: 0
    assert user.convert("--stream")[0] == 0
    assert user.shards() == []
    check_same(user.folder / "out", local, "main")


def test_a_dry_run_downloads_no_shard(user: User, lm: Path, small_tokenizer: Path) -> None:
    def plan(model: object, tokenizer: object) -> tuple[list[str], str]:
        process = user.start(model, "--tokenizer", tokenizer, *OPTIONS, "--out", "out", "--dry-run")
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 0
        return printed.splitlines(), said

    (printed, said), (expected, nothing) = plan(LM, TOKENIZER), plan(lm, small_tokenizer)
    assert nothing == ""
    assert re.fullmatch(r"Speech-LM and Audio-Tokenizer: .* no weight was read: tensors to promote .*\n", said)
    cost, *printed = printed
    assert re.fullmatch(r"downloads .*B of Speech-LM and .*B of Audio-Tokenizer; writes .*B to out", cost)
    assert [line for line in printed if "bytes" not in line] == [line for line in expected if "bytes" not in line]
    assert user.hub.whole() == []
    assert user.shards() == []


@pytest.mark.parametrize(("model", "reason"), [("Some/Absent", "404"), (f"{LM}@v7", "404"), ("Some", "no such folder")])
def test_what_is_not_there_is_one_line(user: User, model: str, reason: str) -> None:
    status, said = user.convert(model=model)
    assert status == 2
    assert re.fullmatch(rf"error: {model}: .*{reason}.*\n", said)


def test_a_server_that_does_not_answer_is_one_line(user: User) -> None:
    status, said = user.convert(HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 2
    both, state = "there is no such folder, and as a Hub id", f"and the cache {user.cache} holds nothing of it"
    assert re.fullmatch(rf"error: {LM}: {both}: cannot be downloaded: .*, {state}; check the network, .*\n", said)


def test_a_shard_that_is_neither_here_nor_there_is_one_line(user: User, lm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lm, tmp_path / "incomplete")
    (folder / SHARDS[2]).unlink()
    user.hub.repos = {**user.hub.repos, LM: {"main": folder}}
    status, said = user.convert()
    assert status == 2
    assert re.fullmatch(rf"error: .*/{SHARDS[2]}: missing shard, named by .*\n", said)


def test_a_single_shard_may_have_any_name(user: User, small_tokenizer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_tokenizer, tmp_path / "odd")
    (folder / TOKENIZER_SHARD).rename(folder / "odd.safetensors")
    user.hub.repos = {TOKENIZER: {"main": folder}}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        process = user.start(TOKENIZER, *OPTIONS, "--force", **environment)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert user.hub.whole() == user.shards() == ["odd.safetensors"]


def test_stream_and_a_check_against_the_checkpoint_exclude_each_other(user: User) -> None:
    process = user.start(LM, "--tokenizer", TOKENIZER, "--stream")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == (
        "error: --stream: the check would need the shards that it deletes; expected --no-check or --reference FILE\n"
    )
    assert user.hub.asked == []


def test_a_reference_is_made_from_the_hub(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32), 16000)
    with serve({LM: {"main": TINY_ASR}, TOKENIZER: {"main": TINY_TOKENIZER}}) as hub:
        user = User(tmp_path, hub)
        command = [Path(sys.executable).with_name("mimo-check"), "reference", LM, "--tokenizer", TOKENIZER]
        command += ["--audio", "clip.wav", "-o", "stages"]
        subprocess.run(command, env=user.environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert load_reference(tmp_path / "stages").origin.checkpoints == ["Speech-LM", "Audio-Tokenizer"]
