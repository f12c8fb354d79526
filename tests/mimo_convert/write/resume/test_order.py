"""Threads in any order, chunks of any size, and two runs at once."""

import errno
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write import chunks as chunks_module
from mimo_convert.write import convert as convert_module
from mimo_convert.write import flusher
from mimo_convert.write.convert import convert
from mimo_convert.write.journal import Journal
from quantize.errors import InputError
from quantize.types import TYPES
from tests.opened import make_request, options_of

from .killed import Runs
from .whole import NAMES, Whole, contents


@pytest.mark.parametrize("seed", range(6))
def test_the_order_in_which_threads_finish_changes_no_byte(
    whole: Whole, checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    choose = random.Random(seed)
    write_chunk, order = convert_module.write_chunk, []

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        time.sleep(choose.random() / 200)
        order.append(chunk.number)
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", choose.choice([1, 100_000, 1 << 30]))
    monkeypatch.setattr(chunks_module, "CHUNK_WEIGHTS", choose.choice([5_000, 30_000, 1 << 30]))
    lm, tokenizer = map(str, checkpoints)
    requests = [
        make_request(open_checkpoint(lm), [TYPES["f16"], TYPES["q4_k"]], options_of(True)),
        make_request(open_checkpoint(tokenizer), [TYPES["q8_0"]], options_of(True)),
    ]
    convert(requests, tmp_path, threads=choose.choice([2, 3, 8]))
    assert order != sorted(order)
    assert contents(tmp_path) == whole.files


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_of_any_number_of_rows_make_the_same_files(
    whole: Whole, runs: Runs, tmp_path: Path, rows: int, threads: int
) -> None:
    """Of the 256 weights that the rows of most tensors have."""
    arguments = [*whole.arguments[:-1], threads]
    ended = runs(*arguments, "--out", tmp_path, chunk_weights=256 * rows, flush_bytes=50_000)
    assert (ended.status, contents(tmp_path)) == (0, whole.files)


def test_of_two_runs_at_once_one_says_so_and_the_other_is_right(whole: Whole, both: list[Runs], tmp_path: Path) -> None:
    for i in range(2):
        out = tmp_path / str(i)
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(lambda runs, out=out: runs(*whole.arguments, "--out", out), both))
        assert sorted(ended.status for ended in ends) == [0, 2]
        [refused] = [ended for ended in ends if ended.status]
        assert f"{NAMES[0]}.part: another run " in refused.stderr or "is already there" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert contents(out) == whole.files


def test_no_thread_is_left_at_work_when_a_conversion_has_failed(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write to whatever file is open under the number that its own file had."""

    def broken(journal: Journal, chunks: Sequence[int]) -> None:
        if chunks:
            raise OSError(errno.ENOSPC, "No space left on device")

    late = []
    write_chunk = convert_module.write_chunk

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        time.sleep(0.05)
        late.append(parts[0].fd)
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", 1)
    monkeypatch.setattr(Journal, "add", broken)
    request = make_request(open_checkpoint(str(checkpoints[0])), [TYPES["f16"]])
    with pytest.raises(InputError, match="No space left on device; nothing was left behind"):
        convert([request], tmp_path, threads=4)
    n = len(late)
    assert n
    time.sleep(0.2)
    assert len(late) == n
    assert None not in late


def test_a_file_that_appears_during_the_run_is_kept(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chunk, name = convert_module.write_chunk, "mimo-asr-f16.gguf"

    def slow(parts: Any, chunk: Any, rows: Any) -> int:
        (tmp_path / name).write_bytes(b"precious")
        return write_chunk(parts, chunk, rows)

    monkeypatch.setattr(convert_module, "write_chunk", slow)
    request = make_request(open_checkpoint(str(checkpoints[0])), [TYPES["f16"]])
    with pytest.raises(InputError, match=f"{name}: already exists; --force replaces it"):
        convert([request], tmp_path, threads=2)
    assert (tmp_path / name).read_bytes() == b"precious"
