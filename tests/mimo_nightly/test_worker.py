"""One target in a process of its own: what it finds, and whose fault what is."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_nightly.config import read_config
from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, WHOLE
from mimo_nightly.process import Found, Job, check_in_subprocess, last_line
from mimo_nightly.worker import check_target
from runtime_check.audio.jfk import JFK, JFK_TEXT
from tests.damage import cut
from tests.gguf_edit import patch, rewrite
from tests.hub_server import commit, environment, serve
from tests.mimo_families.qwen3_asr.tiny_clips import ADAPTER, converted
from tests.opened import TINY_REFERENCE, load_reference

from .nightly_runs import Files, of_pair, of_tokenizer, toml, write_config

Damage = Callable[[Path], object]


def job(folder: Path, target: str) -> Job:
    return Job(read_config(write_config(folder, target)).targets[0], str(folder / "cache"), str(folder))


def look(folder: Path, target: str) -> tuple[Found, Mapping[str, Any]]:
    """What is found of a target, and its report."""
    found = check_target(job(folder, target))
    name = job(folder, target).target.name
    assert (folder / f"{name}.html").exists() == (folder / f"{name}.json").exists() == found.report
    return found, json.loads((folder / f"{name}.json").read_bytes()) if found.report else {}


def test_a_pair_is_examined_and_run(q4_k: Files, tmp_path: Path) -> None:
    found = check_in_subprocess(job(tmp_path, of_pair("asr", q4_k, language="english")))
    report = json.loads((tmp_path / "asr.json").read_bytes())
    assert (found.state, found.scope, found.problems) == (PASSED, WHOLE, [])
    assert [len(report[part]) for part in ("lint", "checks")] == [2, 1]
    assert report["checks"][0]["transcript"] == JFK_TEXT
    files = report["checks"][0]["files"]
    assert [(row.sha256, row.size) for row in found.files] == [(file["sha256"], file["bytes"]) for file in files]
    assert "word error rate 0.0%" in (tmp_path / "asr.log").read_text()


def test_a_file_that_is_named_after_its_main_file_is_found_beside_it(tmp_path: Path) -> None:
    folder = converted(tmp_path / "files", "--runtime", "llama.cpp", "--outtype", "q8_0")
    main = folder / "Qwen3-ASR-Q8_0.gguf"
    target = toml({"name": "asr", "file": main, "reference": "tiny-qwen3", "language": "english"})
    found, report = look(tmp_path, target)
    assert (found.state, list(found.problems)) == (PASSED, [])
    assert [row.name for row in found.files] == [main.name, f"mmproj-{main.name}"]
    assert [len(report[part]) for part in ("lint", "checks")] == [2, 1]
    assert report["checks"][0]["transcript"] == JFK_TEXT
    (folder / f"mmproj-{main.name}").rename(tmp_path / "elsewhere.gguf")
    found = check_target(job(tmp_path, target))
    assert "give the key mmproj, the file of its audio encoder" in found.problems[0]
    found = check_target(job(tmp_path, target.rstrip() + f"\nmmproj = '{tmp_path / 'elsewhere.gguf'}'\n"))
    assert (found.state, list(found.problems)) == (PASSED, [])
    found = check_target(job(tmp_path, target.rstrip() + f"\ntokenizer = '{tmp_path / 'elsewhere.gguf'}'\n"))
    assert found.state == UNCHECKED
    assert "named by the key tokenizer; expected the key mmproj; rename tokenizer to mmproj" in found.problems[0]


def test_files_of_one_name_are_told_apart(q4_k: Files, tmp_path: Path) -> None:
    """Else a change in one of them would be hidden by the other."""
    pair = Files(tmp_path / "asr/model.gguf", tmp_path / "tokenizer/model.gguf")
    for there, file in zip(pair, q4_k, strict=True):
        there.parent.mkdir()
        there.write_bytes(file.read_bytes())
    found, _ = look(tmp_path, of_pair("asr", pair))
    assert (found.state, [row.name for row in found.files]) == (PASSED, list(map(str, pair)))


def nan(file: Path) -> None:
    patch(file, "enc.blk.0.attn_norm.weight", 8, np.array([np.nan], np.float32))


def other_architecture(file: Path) -> None:
    rewrite(file, file.with_suffix(".new"), architecture="llama")
    os.replace(file.with_suffix(".new"), file)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: cut(file, 1000), "truncated: 1000 bytes"),
        (lambda file: file.write_bytes(b"<html>404</html>" * 9), "not a GGUF file"),
        (lambda file: cut(file, -1), "truncated in tensor"),
        (nan, "enc.blk.0.attn_norm.weight"),
        (other_architecture, "llama"),
    ],
    ids=["header", "no-gguf", "last-byte", "nan", "architecture"],
)
def test_a_file_that_is_broken_has_failed(q4_k: Files, tmp_path: Path, damage: Damage, says: str) -> None:
    (tmp_path / "tok.gguf").write_bytes(q4_k.tokenizer.read_bytes())
    damage(tmp_path / "tok.gguf")
    found, report = look(tmp_path, of_tokenizer("tok", tmp_path / "tok.gguf"))
    assert found.state == FAILED
    assert says in json.dumps([report["lint"], found.problems])
    assert found.files[0].size == (tmp_path / "tok.gguf").stat().st_size


def test_a_pair_that_does_not_fit_has_failed(q4_k: Files, tmp_path: Path) -> None:
    found, _ = look(tmp_path, of_pair("asr", Files(q4_k.tokenizer, q4_k.lm)))
    assert found.state == FAILED
    swapped = f"{q4_k.lm} is a speech lm, and {q4_k.tokenizer} its audio tokenizer: these two are swapped"
    assert swapped in found.problems[0]


def test_a_pair_of_another_model_than_the_reference_has_failed(
    q4_k: Files, tmp_path: Path, small_lm: Path, small_tokenizer: Path
) -> None:
    reference = {"reference": small_lm, "reference_tokenizer": small_tokenizer}
    found, report = look(tmp_path, of_pair("asr", q4_k, **reference))
    assert (found.state, report) == (FAILED, {})
    assert "is another model: small-lm, with num_heads 4" in found.problems[0]
    assert f"expected tiny as it is in {q4_k.lm}, with num_heads 2" in found.problems[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"file": "gone.gguf"}, "gone.gguf: no such file"),
        ({"tokenizer": "gone.gguf"}, "gone.gguf: no such file"),
        (
            {"reference": "gone.safetensors"},
            "gone.safetensors: was taken for a path, and there is no such file or folder; expected a file of",
        ),
        ({"reference": JFK}, "jfk.wav: truncated: 352078 bytes, header says"),
        ({"reference": "half.safetensors"}, "reference: lacks the stages tok_pool"),
        ({"audio": "gone.wav"}, "gone.wav"),
        ({"audio": "other.wav"}, "other.wav: is not the clip that the reference was made from"),
        ({"language": "chinese"}, "chinese, the reference was made with english"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_is_not_the_files_fault_leaves_them_unchecked(
    q4_k: Files, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    half = load_reference(TINY_REFERENCE)
    del half.stages["tok_pool"]
    half.save(tmp_path / "half.safetensors")
    (tmp_path / "other.wav").write_bytes(JFK.read_bytes()[:100_044])
    found, _ = look(tmp_path, of_pair("asr", q4_k, **change))
    assert (found.state, found.report) == (UNCHECKED, False)
    assert says in found.problems[0]


def test_a_speech_lm_needs_an_audio_tokenizer(q4_k: Files, tmp_path: Path) -> None:
    found, _ = look(tmp_path, of_tokenizer("asr", q4_k.lm))
    assert found.state == UNCHECKED
    assert found.problems[0].endswith(
        "is of the role speech lm; give the key tokenizer, the file of its audio tokenizer"
    )


# ── what only some models have ───────────────────────────────────────────────────────────────────────────────────


def of_adapted(file: Path, **more: Any) -> str:
    return toml({"name": "asr", "file": file, "reference": "tiny-qwen3", **more})


def test_a_file_of_an_adapter_is_compared_with_its_sum(adapted: Path, tmp_path: Path) -> None:
    asked = {"adapter": ADAPTER, "context": "Kennedy", "attention": "full"}
    found, report = look(tmp_path, of_adapted(adapted, **asked))
    assert (found.state, list(found.problems)) == (PASSED, [])
    [task] = [check["task"] for check in report["checks"]]
    assert (task["context"], task["attention"]) == ("Kennedy", "full")


def test_a_file_of_another_adapter_has_failed(adapted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ADAPTER, other)
    path = other / "adapter_config.json"
    path.write_text(path.read_text() + "\n")
    for adapter, found_there in (("other", "has the adapter other"), ("none", "has no adapter")):
        found, report = look(tmp_path, of_adapted(adapted, adapter=adapter))
        assert (found.state, report) == (FAILED, {})
        [problem] = found.problems
        assert found_there in problem
        assert f"expected the adapter {ADAPTER.name} (adapter_model.safetensors " in problem


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"adapter": "gone"}, "gone: holds no adapter_config.json"),
        ({"adapter": ADAPTER}, "is a stored reference, whose weights are what they are"),
        ({"context": "Kennedy"}, "--context: does not concern mimo_asr; leave it out"),
        ({"attention": "full"}, "--attention: does not concern mimo_asr; leave it out"),
    ],
)
def test_what_a_target_asks_for_must_be_there(
    adapted: Path, q4_k: Files, tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    of_mimo = of_pair("asr", q4_k, **asked)
    found, _ = look(tmp_path, of_adapted(adapted, **asked) if asked.get("adapter") == "gone" else of_mimo)
    assert found.state == UNCHECKED
    assert says in found.problems[0]


# ── from the Hub ─────────────────────────────────────────────────────────────────────────────────────────────────

FULL_DISK = """
import functools
from mimo_nightly import worker
worker.fetch = functools.partial(worker.fetch, free=lambda folder: 0)
worker.main()
"""


@pytest.fixture
def published(q4_k: Files, tmp_path: Path) -> Path:
    """A repository of a pair."""
    folder = tmp_path / "repo"
    folder.mkdir()
    for file in q4_k:
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def of_repo(q4_k: Files) -> str:
    names = {"file": q4_k.lm.name, "tokenizer": q4_k.tokenizer.name}
    return toml({"name": "asr", "repo": "some/asr", **names, "reference": TINY_REFERENCE})


def test_files_of_the_hub_are_fetched_and_run(
    q4_k: Files, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({"some/asr": {"main": published}}) as hub:
        for name, value in environment(hub, tmp_path).items():
            monkeypatch.setenv(name, value)
        found = check_in_subprocess(job(tmp_path, of_repo(q4_k)))
    report = json.loads((tmp_path / "asr.json").read_bytes())
    assert (found.state, found.scope) == (PASSED, WHOLE), found
    assert {row.revision for row in found.files} == {commit("main")}
    assert report["checks"][0]["files"][0]["sha256"] == found.files[0].sha256


def test_a_file_that_is_named_after_its_main_file_is_found_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted(tmp_path / "files", "--runtime", "llama.cpp", "--outtype", "q4_k")
    main, mmproj = "Qwen3-ASR-Q4_K.gguf", "mmproj-Qwen3-ASR-Q8_0.gguf"
    about = {"name": "asr", "repo": "some/asr", "reference": "tiny-qwen3", "language": "english"}
    with serve({"some/asr": {"main": folder}}) as hub:
        for name, value in environment(hub, tmp_path).items():
            monkeypatch.setenv(name, value)
        for named in ({}, {"mmproj": mmproj}):
            found = check_in_subprocess(job(tmp_path, toml({**about, "file": main, **named})))
            assert (found.state, [row.name for row in found.files]) == (PASSED, [main, mmproj]), found
        downloads = [asked.file for asked in hub.asked if asked.is_download]
    assert sorted(downloads) == sorted([main, mmproj]), "each once"


@pytest.mark.parametrize("damaged", [False, True])
def test_where_the_disk_has_no_room_the_header_is_examined(
    q4_k: Files, published: Path, tmp_path: Path, damaged: bool
) -> None:
    """What is published does pass by it, but does not count as run; what is wrong with the header fails."""
    if damaged:
        other_architecture(published / q4_k.lm.name)
    with serve({"some/asr": {"main": published}}) as hub:
        worker = subprocess.Popen(
            [sys.executable, "-c", FULL_DISK], env=environment(hub, tmp_path), stdin=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert worker.stdin
        worker.stdin.write(json.dumps(asdict(job(tmp_path, of_repo(q4_k)))) + "\n")
        worker.stdin.flush()
        assert worker.wait() == 0
        worker.stdin.close()
    found = json.loads((tmp_path / "asr.found").read_bytes())
    assert (found["state"], found["scope"]) == (FAILED if damaged else PASSED, HEADER)
    report = json.loads((tmp_path / "asr.json").read_bytes())
    assert [part["passed"] for part in report["lint"]] == [not damaged, True]
    assert report["checks"] == []


# ── ends that are none ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("sys.exit(1)", "crashed with exit status 1"),
        ("os._exit(2)", "crashed with exit status 2"),
        (
            "import mimo_nightly.process; mimo_nightly.process.json.loads = None",
            "ended with an internal error, exit status 3",
        ),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL, perhaps because the memory was full"),
        ("os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
)
def test_a_crash_leaves_the_files_unchecked(
    q4_k: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, says: str
) -> None:
    """However it ends; its log says why, and so does the result."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    (tmp_path / "sitecustomize.py").write_text(f"import os, sys\nprint('last words', flush=True)\n{end}\n")
    found = check_in_subprocess(job(tmp_path, of_pair("asr", q4_k)))
    assert (found.state, found.report) == (UNCHECKED, False)
    assert found.problems[0].startswith(says)
    assert last_line(tmp_path / "asr.log") in found.problems[0]


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[" * 100_000, b"null", b"[]", b'{"state": "fine"}', b"\xff",
     b'{"state": "passed", "scope": "whole", "problems": [1], "files": [], "report": false}',
     b'{"state": "passed", "scope": "whole", "problems": [], "files": [{"name": 1}], "report": false}',
     b'{"state": "passed", "scope": "whole", "problems": [], "files": [7], "report": "yes"}'],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_leaves_the_files_unchecked(
    q4_k: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    (tmp_path / "sitecustomize.py").write_text(f"import os\nopen('asr.found', 'wb').write({answer!r})\nos._exit(0)\n")
    found = check_in_subprocess(job(tmp_path, of_pair("asr", q4_k)))
    assert (found.state, found.report) == (UNCHECKED, False)
    assert found.problems[0].startswith(f"its process wrote an invalid result: {tmp_path}/asr.found: ")


def test_nothing_is_written_through_a_planted_link(q4_k: Files, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for kind in ("log", "found", "found.part", "json", "json.part", "html", "html.part"):
        (tmp_path / f"asr.{kind}").symlink_to(tmp_path / "mine")
    found = check_in_subprocess(job(tmp_path, of_pair("asr", q4_k)))
    assert found.state == PASSED
    assert (tmp_path / "mine").read_text() == "mine"
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("log", "last"),
    [(b"", ""), (b"\n\n", ""), (b"one\ntwo\n\n", "two"), (b"10%\r20%\r", "20%"), (b"x" * 5000, "x" * 300),
     (b"ok\n\xff\x1b[31mred", "\N{REPLACEMENT CHARACTER}\\x1b[31mred")],
    ids=["empty", "blank", "lines", "progress", "long", "bytes"],
)  # fmt: skip
def test_the_last_words_of_a_log(tmp_path: Path, log: bytes, last: str) -> None:
    (tmp_path / "a.log").write_bytes(log)
    assert last_line(tmp_path / "a.log") == last
