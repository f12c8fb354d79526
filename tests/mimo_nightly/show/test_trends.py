"""`mimo-check history`: text for a terminal, whose numbers are the history's own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_nightly.history import PASSED, History, Problem, TargetResult
from mimo_nightly.show.trends import as_text
from quantize.errors import InputError
from tests.mimo_nightly import made_up


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    made = made_up.history(tmp_path_factory.mktemp("history"), unfinished=True)
    yield made
    made.close()


def test_every_target_has_a_line(history: History) -> None:
    lines = as_text(history).splitlines()
    assert re.split(r"  +", lines[0]) == ["target", "state", "since", "runs", "last good", "words", "cosine", "KL"]
    rows = [re.split(r"  +| (?=\d{4}-)", line) for line in lines[1:] if line and line[0] != " "]
    assert [row[:5] for row in rows[:5]] == [
        ["asr-q4_k", "PASS", "2026-10-12", "41", "2026-11-21"],
        ["hub-asr-q8_0", "FAIL", "2026-11-13", "9", "2026-11-12"],
        ["audio-instruct", "NOT CHECKED", "2026-11-18", "3", "2026-11-17"],
        ["asr-f16", "HEADER ONLY", "2026-10-12", "40", "–"],
        ["asr-q5_0", "PASS", "2026-10-12", "20", "2026-10-31"],
    ]
    last = history.results_of_target(made_up.FALLEN)[-1]
    lowest = min(row.cos_min for row in last.stages if row.cos_min is not None)
    assert rows[1][5:] == ["36.4%", f"{lowest:.6f}".replace("-", "−"), "2.500000"]
    assert "  changed 2026-11-13: mimo-asr-q8_0.gguf: sha256 4b8f03c2d9e4… → 5b8f03c2d9e4…, revision" in "\n".join(
        lines
    )
    assert lines[-1] == "Run 41, begun 2026-11-21 03:00 UTC, has not finished."


def test_a_targets_runs_are_the_historys(history: History) -> None:
    text = as_text(history, made_up.FALLEN)
    assert text.startswith("hub-asr-q8_0  FAIL since 2026-11-13, 9 runs; last good run 32, 2026-11-12\n  layer_20: cos")
    assert "  … and 24 more" in text
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d+  2026-", line)]
    results = history.results_of_target(made_up.FALLEN, 20)
    assert len(rows) == len(results) == 20
    for row, result in zip(rows, results, strict=True):
        of_stage = {stage.stage: stage for stage in result.stages}
        layers = [stage.cos_min for stage in result.stages if stage.stage.startswith("layer_")]
        assert row == [
            str(result.run), *result.started[:16].split("T"), {"passed": "PASS"}.get(result.state, "FAIL"),
            f"{int(result.seconds + 0.5) // 60}:{int(result.seconds + 0.5) % 60:02}",
            result.files[0].sha256[:8] + "*" * (result.run in (made_up.NEW_NUMPY, made_up.FELL)),
            f"{of_stage['transcript'].error_rate:.1%}", f"{of_stage['tok_codes'].agreement:.2%}",
            f"{min(value for value in layers if value is not None):.6f}".replace("-", "−"),
            f"{of_stage['prefill_last_hidden'].cos_mean:.6f}", f"{of_stage['steps'].kl_mean:.6f}",
        ]  # fmt: skip
    assert f"  run {made_up.NEW_NUMPY}: numpy 2.4.5 → 2.4.6\n" in text


def test_every_stage_has_a_line_that_shows_where_it_fell(history: History) -> None:
    lines = {line.split("  ")[0]: line for line in as_text(history, made_up.FALLEN).splitlines()}
    runs = [run.run for run in history.runs()][-30:]
    results = {result.run: result for result in history.results_of_target(made_up.FALLEN)}
    for row in results[41].stages:
        name = {"tok_codes": "tok_codes, agreement", "steps": "steps, KL divergence", "cached": "cached, relative RMSE"}
        line = lines[name.get(row.stage, row.stage)]
        [drawn] = re.findall(r"[▁▂▃▄▅▆▇█·]+", line)
        assert len(drawn) == len(runs)
        fell = row.stage in ("steps", "transcript", "prefill_last_hidden", "prefill_text_logits_step0") or (
            row.stage.startswith("layer_") and not row.passed
        )
        assert line.endswith(f"worse: run {made_up.FELL}") == fell
        if row.cos_mean is not None:
            first = next(stage for stage in results[runs[0]].stages if stage.stage == row.stage)
            assert f"{first.cos_mean:.6f} → {row.cos_mean:.6f}" in line
        if fell:
            assert drawn[runs.index(made_up.FELL) :] == "▁" * (41 - made_up.FELL + 1)
            assert "▁" not in drawn[: runs.index(made_up.FELL)]


def test_what_was_not_measured_is_a_gap(history: History) -> None:
    text = as_text(history, made_up.GOOD)
    drawn = {found[0]: found[1] for found in re.findall(r"^(\S+) +([▁-█·]{30})", text, re.M)}
    assert drawn["layer_30"] == "█" * 6 + "···" + drawn["layer_30"][9:]
    assert "·" not in drawn["layer_10"]
    assert "nan" not in as_text(history, made_up.AWAY)


@pytest.mark.parametrize("target", [None, *made_up.NAMES[:4], made_up.RETIRED])
def test_no_line_is_wider_than_a_hundred_columns(history: History, target: str | None) -> None:
    assert max(map(len, as_text(history, target).splitlines())) <= 100


def test_names_and_problems_cannot_command_the_terminal(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    hostile = "\x1b[2J\u202e" + "x" * 200
    history.record(TargetResult(history.begin("", ""), hostile, "", 1.0, "failed", problems=[Problem(hostile)]))
    for text in (as_text(history), as_text(history, hostile)):
        assert "\\x1b" in text
        assert all(line.isprintable() for line in text.splitlines())
        assert max(map(len, text.splitlines())) <= 100


def test_an_unknown_target_lists_the_known(history: History) -> None:
    with pytest.raises(InputError, match=r"has no target 'asr'; expected one of asr-q4_k, hub-asr-q8_0"):
        as_text(history, "asr")


def test_an_empty_history_and_one_of_a_single_run(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    assert as_text(history) == "There are no runs as yet."
    with pytest.raises(InputError, match="none as yet"):
        as_text(history, "asr")
    history.record(TargetResult(history.begin("2026-11-21T03:00:00Z", ""), "asr", "2026-11-21T03:00:00Z", 1.0, PASSED))
    assert as_text(history, "asr").startswith("asr  PASS since 2026-11-21, one run; last good run 1, 2026-11-21\n")
