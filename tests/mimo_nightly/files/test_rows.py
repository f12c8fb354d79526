"""A target whose rows are compared with its checkpoint: given the importance matrix by bytes, without by error; whose
fault it is where that cannot be done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.disk import sha256_of
from mimo_convert.formats.hessians import folder_of
from mimo_convert.formats.imatrix import read_calibration
from mimo_nightly.config import read_config
from mimo_nightly.history import FAILED, PASSED, UNCHECKED
from mimo_nightly.process import Found, Job, check_in_subprocess
from mimo_nightly.run import versions_of
from mimo_nightly.worker import check_target
from tests.hub_server import environment, serve
from tests.mimo_commands.invoked import invoke
from tests.mimo_convert.budget.made_up import written_calibration
from tests.mimo_convert.formats.moments import write_calibrated
from tests.mimo_nightly.nightly_runs import Files, of_pair, toml, write_config
from tests.opened import TINY_ASR, TINY_REFERENCE
from tests.runtime_check.tensors.compared import DOWN, flip, put

BYTES, ERROR = "bytes", "error"


def converted(folder: Path, *arguments: Any) -> Files:
    """The pair of `tiny` in a folder of its own."""
    result = invoke("tiny", *arguments, "--out", folder, "--no-check")
    assert result.exit_code == 0, result.output
    [lm], [tokenizer] = folder.glob("mimo-asr-*.gguf"), folder.glob("mimo-tokenizer-*.gguf")
    return Files(lm, tokenizer)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `tiny`, with second moments."""
    return write_calibrated(TINY_ASR, tmp_path_factory.mktemp("calibration") / "c.gguf")


@pytest.fixture(scope="module")
def weighted(calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return converted(tmp_path_factory.mktemp("weighted"), "--outtype", "q4_k", "--imatrix", calibration)


def look(folder: Path, target: str) -> tuple[Found, Mapping[str, Any]]:
    """What is found of a target called asr, and its report."""
    found = check_target(Job(read_config(write_config(folder, target)).targets[0], str(folder / "cache"), str(folder)))
    return found, json.loads((folder / "asr.json").read_bytes())


def judged(report: Mapping[str, Any]) -> list[str]:
    """How each file was compared, and what was wrong with it."""
    return [
        text
        for one in report["tensors"]
        for text in (one["judged_by"], *one["findings"], *(x for of in one["tensors"] for x in of["findings"]))
    ]


def test_given_the_imatrix_every_byte_counts_and_without_rows_are_judged_by_their_error(
    weighted: Files, calibration: Path, tmp_path: Path
) -> None:
    found, report = look(tmp_path, of_pair("asr", weighted, rows="tiny", imatrix=calibration))
    assert (found.state, list(found.problems), judged(report)) == (PASSED, [], [BYTES])
    assert len(report["checks"]) == 1
    changed = Files(tmp_path / "changed.gguf", weighted.tokenizer)
    changed.lm.write_bytes(weighted.lm.read_bytes())
    put(DOWN, flip(3, 100, 1))(changed.lm)
    found, report = look(tmp_path, of_pair("asr", changed, rows="tiny", imatrix=calibration))
    assert found.state == FAILED
    assert judged(report)[1].startswith("row 3 is not what our kernels make of the source with the imatrix: block 0")
    found, report = look(tmp_path, of_pair("asr", weighted, rows="tiny"))
    assert (found.state, judged(report)) == (PASSED, [ERROR])
    found, report = look(tmp_path, of_pair("asr", weighted))
    assert (found.state, report["tensors"]) == (PASSED, [])


def test_error_feedback_is_reproduced_by_the_second_moments_beside_the_imatrix(
    calibration: Path, tmp_path: Path
) -> None:
    files = converted(tmp_path / "made", "--outtype", "q4_k", "--imatrix", calibration, "--feedback")
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(calibration.read_bytes())
    assert not folder_of(alone).exists()
    for imatrix, by in ((calibration, BYTES), (alone, ERROR)):
        found, report = look(tmp_path, of_pair("asr", files, rows="tiny", imatrix=imatrix))
        assert (found.state, judged(report)) == (PASSED, [by])


def test_a_file_of_a_size_is_reproduced_by_its_calibration(tmp_path: Path) -> None:
    calibration = written_calibration("tiny", tmp_path / "voices.gguf")
    files = converted(tmp_path / "made", "--target-size", "3.8MB", "--calibration", calibration)
    found, report = look(tmp_path, of_pair("asr", files, rows="tiny", imatrix=calibration))
    assert (found.state, judged(report)) == (PASSED, [BYTES])


def test_another_imatrix_leaves_the_file_unchecked_beside_its_report(
    weighted: Files, calibration: Path, tmp_path: Path
) -> None:
    other = written_calibration("tiny", tmp_path / "other.gguf")
    found, report = look(tmp_path, of_pair("asr", weighted, rows="tiny", imatrix=other))
    hashes = [read_calibration(path).sha256 for path in (other, calibration)]
    assert (found.state, judged(report), len(report["checks"])) == (UNCHECKED, [], 1)
    assert list(found.problems) == [
        f"rows: {other}: has the sha256 {hashes[0]}; expected {hashes[1]}, as {weighted.lm} records; give the file "
        "that it was made with"
    ]
    found, _ = look(tmp_path, of_pair("asr", weighted, rows="tiny", imatrix=tmp_path / "gone.gguf"))
    assert found.state == UNCHECKED
    assert found.problems[0].startswith(f"rows: {tmp_path / 'gone.gguf'}: no such file; expected an importance matrix")


def test_a_file_of_another_model_than_its_rows_has_failed(weighted: Files, small_lm: Path, tmp_path: Path) -> None:
    found = check_target(
        Job(read_config(write_config(tmp_path, of_pair("asr", weighted, rows=small_lm))).targets[0], "", str(tmp_path))
    )
    assert found.state == FAILED
    assert found.problems[0].startswith("rows: ")


def test_the_imatrix_may_lie_in_the_repository(
    weighted: Files, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    for file in (*weighted, calibration):
        (repo / file.name).write_bytes(file.read_bytes())
    names = {"file": weighted.lm.name, "tokenizer": weighted.tokenizer.name, "imatrix": calibration.name}
    target = toml({"name": "asr", "repo": "some/asr", **names, "reference": TINY_REFERENCE, "rows": "tiny"})
    config = read_config(write_config(tmp_path, target))
    with serve({"some/asr": {"main": repo}}) as hub:
        for name, value in environment(hub, tmp_path).items():
            monkeypatch.setenv(name, value)
        found = check_in_subprocess(Job(config.targets[0], str(tmp_path / "cache"), str(tmp_path)))
    report = json.loads((tmp_path / "asr.json").read_bytes())
    assert (found.state, list(found.problems), judged(report)) == (PASSED, [], [BYTES])
    assert [row.name for row in found.files] == [file.name for file in weighted]


def test_a_run_records_the_imatrix_of_this_disk(weighted: Files, calibration: Path, tmp_path: Path) -> None:
    [target] = read_config(write_config(tmp_path, of_pair("asr", weighted, rows="tiny", imatrix=calibration))).targets
    assert versions_of(target)["imatrix"] == sha256_of(calibration)[:12]
