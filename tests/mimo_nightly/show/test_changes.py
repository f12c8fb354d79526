"""What changed between two runs, in words."""

from dataclasses import replace

from mimo_nightly.history import PASSED, UNCHECKED, FileRow, TargetResult
from mimo_nightly.show.changes import changes

LM = FileRow("lm.gguf", "ab" * 32, 5, "c0ffee1234567890", '"one"')
TOKENIZER = FileRow("tokenizer.gguf", "ef" * 32, 7, "c0ffee1234567890", '"two"')
BEFORE = TargetResult(1, "asr", "", 1.0, PASSED, files=[LM, TOKENIZER], versions={"numpy": "2.4.5", "torch": "2.13.0"})


def test_nothing_changed() -> None:
    assert changes(BEFORE, replace(BEFORE, run=2, started="later", seconds=9.0, report="runs/2/asr.html")) == []


def test_files_revisions_and_versions_are_told_old_and_new() -> None:
    files = [replace(LM, sha256="cd" * 32, revision="feed"), replace(TOKENIZER, revision="feed")]
    after = replace(BEFORE, files=files, versions={"numpy": "2.4.6", "ggml-python": "0.0.45"})
    assert changes(BEFORE, after) == [
        "lm.gguf: sha256 abababababab… → cdcdcdcdcdcd…", "revision c0ffee123456… → feed", "numpy 2.4.5 → 2.4.6",
        "torch 2.13.0 → none", "ggml-python none → 0.0.45",
    ]  # fmt: skip


def test_files_that_came_and_went() -> None:
    assert changes(BEFORE, replace(BEFORE, files=[LM, FileRow("other.gguf", "", 1)])) == [
        "tokenizer.gguf: no longer there", "other.gguf: new",
    ]  # fmt: skip


def test_without_a_hash_the_server_or_the_size_tells() -> None:
    """A header alone has no hash of the whole file."""
    header = replace(LM, sha256="", etag='"new"')
    assert changes(BEFORE, replace(BEFORE, files=[header, TOKENIZER])) == ['lm.gguf: etag "one" → "new"']
    assert changes(BEFORE, replace(BEFORE, files=[replace(header, etag='"one"'), TOKENIZER])) == []
    longer = replace(LM, sha256="", etag="", size=5000)
    assert changes(BEFORE, replace(BEFORE, files=[longer, TOKENIZER])) == ["lm.gguf: 5 → 5,000 bytes"]


def test_a_run_that_could_not_be_checked_changed_nothing() -> None:
    unknown = TargetResult(2, "asr", "", 1.0, UNCHECKED)
    assert changes(BEFORE, unknown) == changes(unknown, BEFORE) == []
