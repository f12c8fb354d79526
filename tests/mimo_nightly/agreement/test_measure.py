"""Targets with an agreement set, on real files: those within the tolerance, beyond it, and what cannot be measured."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mimo_agreement.records import Row
from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.registry import families
from mimo_nightly.agreement.measure import measure_target
from mimo_nightly.config import read_config
from mimo_nightly.files.fetch import Fetched
from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, WHOLE, FileRow
from mimo_nightly.process import Found, Job, check_in_subprocess
from mimo_nightly.worker import check_target, other_file
from quantize.errors import InputError
from tests.hub_server import environment, serve
from tests.mimo_agreement.cluster.clusters import cluster_in
from tests.mimo_agreement.spoken import BETTER, SMALLER, TOKENIZER, cut_clips, tiny_files
from tests.mimo_nightly.nightly_runs import Files, found, of_pair, run, toml, write_config
from tests.opened import TINY_REFERENCE

CLIPS = 7  # on two of which the smaller file hears something else


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tiny files of two types (spoken.py)."""
    return tiny_files(tmp_path_factory)


def target(tiny: Path, **agreement: Any) -> str:
    """The smaller file, with an agreement set beside it."""
    wanted = {"audio": "clips/clips.jsonl", "baseline": tiny / BETTER, "language": "english", **agreement}
    return of_pair("asr", Files(tiny / SMALLER, tiny / TOKENIZER), agreement=wanted)


def test_a_file_beyond_its_tolerance_fails_and_nothing_is_run_twice(tiny: Path, tmp_path: Path) -> None:
    cut_clips(tmp_path / "clips", CLIPS)
    config = write_config(tmp_path, target(tiny, tolerance=1))
    outputs = "--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md"
    ended = run("nightly", config, *outputs)
    assert ended.status == 1, ended.stderr
    result = found(config, 1)["asr"]
    [problem] = [problem.text for problem in result.problems]
    assert re.fullmatch(
        rf"agreement, clean: \S+ points from the baseline, at most \+\S+ by the 95 % interval; expected at most \+1; "
        rf"WER \S+% on {CLIPS} clips, of {BETTER} \(sha256 \w{{12}}…\) \S+%",
        problem,
    )
    assert (result.state, len(result.stages) > 5) == (FAILED, True)
    assert all(row.passed for row in result.stages), "it is the words that are wrong"
    assert problem in ended.of("asr")
    assert problem in (tmp_path / "junit.xml").read_text()
    assert "points from the baseline" in (tmp_path / "summary.md").read_text()
    page = (tmp_path / "pages/index.html").read_text()
    assert problem in page
    assert 'href="runs/1/asr.agreement.html"' in page
    assert BETTER in (tmp_path / "pages/runs/1/asr.agreement.html").read_text()

    write_config(tmp_path, target(tiny, tolerance=100))
    assert run("nightly", config).status == 0
    log = (tmp_path / "pages/runs/2/asr.log").read_text()
    assert f"history.sqlite.agreement: {2 * CLIPS} of {2 * CLIPS} answers are there" in log
    assert found(config, 2)["asr"].state == PASSED


def job(folder: Path, text: str) -> Job:
    config = read_config(write_config(folder, text))
    return Job(config.targets[0], str(config.cache), str(folder), str(config.answers))


def test_what_cannot_be_measured_leaves_the_file_unchecked_with_its_report(tiny: Path, tmp_path: Path) -> None:
    cut_clips(tmp_path / "clips", 1)
    soundfile.write(tmp_path / "clips" / "0.wav", [0.0] * 16000, 16000)
    for agreement, says in (
        ({"baseline": "gone.gguf"}, f"agreement: {tmp_path}/gone.gguf: no such file"),
        ({"conditions": ["noise:white:5dB"]}, f"agreement, noise:white:5dB: {SMALLER} has no answer to 0.wav: "),
    ):
        checked = check_target(job(tmp_path, target(tiny, **agreement)))
        assert (checked.state, checked.report) == (UNCHECKED, True)
        assert says in checked.problems[0]


def test_a_set_on_a_cluster_gives_what_this_machine_gives(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    manifest = cut_clips(tmp_path / "clips", 2)
    members = {SYSTEM.family.role: tiny / SMALLER, SYSTEM.companions[0].role: tiny / TOKENIZER}

    def rows(**more: Any) -> Sequence[Row]:
        asked = job(tmp_path, target(tiny, **more)).target
        assert asked.agreement
        files = OpenFiles(families())
        return measure_target(asked, asked.agreement, SYSTEM, members, tiny / BETTER, files, None).rows

    with cluster_in(tmp_path) as cluster:
        cluster.start_worker("--root", tiny, "--root", manifest.parent)
        there = rows(cluster=cluster.address)
    assert [replace(row, real_time=None, peak_memory=0) for row in there] == [
        replace(row, real_time=None, peak_memory=0) for row in rows()
    ]


def test_a_cluster_out_of_reach_leaves_the_file_unchecked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("mimo_agreement.cluster.client")
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    monkeypatch.setattr(client, "CONNECT", 0.2)
    cut_clips(tmp_path / "clips", 1)
    checked = check_target(job(tmp_path, target(tiny, cluster="tcp://127.0.0.1:9")))
    assert checked.state == UNCHECKED
    assert "agreement: cluster: tcp://127.0.0.1:9 is out of reach for 0.1 s" in checked.problems[0]
    assert "the next run resumes" in checked.problems[0]


def of_repo(folder: Path) -> Job:
    return job(folder, toml({
        "name": "asr", "repo": "some/asr", "file": SMALLER, "tokenizer": TOKENIZER, "reference": TINY_REFERENCE,
        "agreement": {"audio": "clips/clips.jsonl", "baseline": BETTER, "tolerance": 100},
    }))  # fmt: skip


def test_the_baseline_of_a_repository_is_fetched_from_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_clips(tmp_path / "clips", 2)
    with serve({"some/asr": {"main": tiny}}) as hub:
        for name, value in environment(hub, tmp_path).items():
            monkeypatch.setenv(name, value)
        checked = check_in_subprocess(of_repo(tmp_path))
        downloads = [asked.file for asked in hub.asked if asked.is_download]
    assert (checked.state, list(checked.problems)) == (PASSED, [])
    assert sorted(downloads) == sorted([SMALLER, TOKENIZER, BETTER]), "each once"
    assert BETTER in (tmp_path / "asr.agreement.json").read_text()


@pytest.mark.parametrize(
    ("fetched", "says"),
    [
        (Fetched("new", (), WHOLE, {}, ()), "some/asr@main: has changed during the run; run it again"),
        (Fetched("old", (), HEADER, {}, ()), f"some/asr/{BETTER}: the disk has no room for it"),
    ],
)
def test_a_baseline_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: Fetched, says: str
) -> None:
    monkeypatch.setattr("mimo_nightly.worker.fetch", lambda *_: fetched)
    asked = of_repo(tmp_path)
    assert asked.target.agreement
    before = Found(files=[FileRow(SMALLER, "0" * 64, 1, "old")])
    with pytest.raises(InputError, match=re.escape(says)):
        other_file(asked, asked.target.agreement.baseline, "the baseline", {}, OpenFiles(families()), before)
