"""What is read, hashed or decided once in a conversion, and what an overflow says."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.listener import Progress, heard_by
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.plan.request import Request
from mimo_convert.write import chunks, flusher, journal, origin
from mimo_convert.write import convert as module
from mimo_convert.write.convert import InterruptedRunError, convert, what_is_to_do
from mimo_convert.write.one_pass import one_pass
from mimo_convert.write.part_file import JOURNAL_ROOM, PartFile
from quantize.types import TYPES
from tests.damage import edit_tensor, set_weight
from tests.opened import make_request, options_of


@pytest.fixture
def request_of_two(small_tokenizer: Path) -> Request:
    return make_request(open_checkpoint(str(small_tokenizer)), [TYPES["f16"], TYPES["q8_0"]])


@pytest.fixture
def whole(request_of_two: Request, tmp_path: Path) -> dict[str, bytes]:
    convert([request_of_two], tmp_path / "whole", threads=2)
    return {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_WEIGHTS", 20_000)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", 1)


def interrupt_in_the_middle(request: Request, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def interrupted(*arguments: Any) -> Iterator[Any]:
            for n, done in enumerate(one_pass(*arguments)):
                yield done
                if n == 20:
                    raise KeyboardInterrupt

        patch.setattr(module, "one_pass", interrupted)
        with pytest.raises(InterruptedRunError):
            convert([request], out, threads=2)


def test_each_journal_is_read_once_and_each_header_hashed_once(
    request_of_two: Request, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupt_in_the_middle(request_of_two, out, monkeypatch)
    read, hashed = Counter[str](), Counter[str]()
    content_of, hash_of = journal.content_of, origin.hash_of

    def counted_content(path: Path) -> bytes:
        read[path.name] += 1
        return content_of(path)

    def counted_hash(plan: Any) -> str:
        hashed[plan.file_name] += 1
        return hash_of(plan)

    monkeypatch.setattr(journal, "content_of", counted_content)
    monkeypatch.setattr(origin, "hash_of", counted_hash)
    told: list[str] = []
    convert([request_of_two], out, threads=2, tell=told.append)
    assert len(told) == 2, "both are resumed"
    assert read == {f"{name}.part.journal": 1 for name in whole}
    assert hashed == dict.fromkeys(whole, 1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_what_is_missing_is_decided_before_the_first_chunk(
    request_of_two: Request, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the journals say while others write to them."""
    parts: list[PartFile] = []
    opened = PartFile.open

    def open_and_keep(part: PartFile, tell: Any) -> None:
        opened(part, tell)
        parts.append(part)

    def all_done_too_early(work: Any, todo: list[chunks.Chunk], *more: Any) -> Iterator[Any]:
        for part in parts:
            part.journal.done.update(chunk.number for chunk in todo)
        return one_pass(work, todo, *more)

    monkeypatch.setattr(PartFile, "open", open_and_keep)
    monkeypatch.setattr(module, "one_pass", all_done_too_early)
    convert([request_of_two], tmp_path / "out", threads=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole


def test_what_is_to_do_counts_what_a_part_holds(
    request_of_two: Request, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, size = tmp_path / "out", sum(map(len, whole.values()))
    before = what_is_to_do([request_of_two], out)
    assert (before.nbytes, before.room) == (size, size + 2 * JOURNAL_ROOM)
    interrupt_in_the_middle(request_of_two, out, monkeypatch)
    names = sorted(path.name for path in out.iterdir())
    left = what_is_to_do([request_of_two], out)
    assert size / 10 < left.nbytes < size
    assert left.room == 2 * JOURNAL_ROOM
    assert sorted(path.name for path in out.iterdir()) == names, "nothing is changed"
    assert what_is_to_do([replace(request_of_two, options=options_of(quantizer="ggml"))], out).nbytes > left.nbytes


def test_an_overflow_is_told_and_the_progress_bar_starts_again(small_tokenizer: Path, tmp_path: Path) -> None:
    name = "encoder.layers.0.fc1.weight"
    folder = shutil.copytree(small_tokenizer, tmp_path / "large")
    edit_tensor(folder, name, lambda tensor: tensor.float())
    set_weight(folder, name, 3, 1e9)
    heard: list[Progress] = []
    told: list[str] = []
    with heard_by(heard.append, None):
        [plan] = convert(
            [make_request(open_checkpoint(str(folder)), [TYPES["f16"]])], tmp_path / "out", threads=1, tell=told.append
        )
    [promoted] = [tensor for tensor in plan.tensors if tensor.note]
    assert told == [
        f"tensor {promoted.name} holds a weight that would become infinite in f16: reading all weights and starting "
        "over with every such tensor promoted to f32"
    ]
    begun = [now.phase for now in heard if not now.done and not now.ended]
    assert begun == ["converting", "reading all weights", "converting"]
