"""Lines, strips and blocks: one column a run."""

import re

from mimo_nightly.show.figures import COSINE, FAIL, PASS, Series
from mimo_nightly.show.sparklines import blocks, line, strip
from runtime_check.gate import LAYER

FALLING = Series("lm", "a", "layer_00", LAYER, COSINE, [0.99, 0.99, None, 0.9, 0.0], failed={4})


def test_blocks_are_high_where_it_is_good() -> None:
    assert blocks(FALLING) == "██·▅▁"
    assert blocks(Series("lm", "a", "layer_00", LAYER, COSINE, [0.5, 0.500001])) == "██"


def test_a_line_has_gaps_rings_and_strokes() -> None:
    svg = line(FALLING, "", changed={3})
    assert re.findall(r'class="(\w+)', svg) == ["spark", "change", "join", "end", "failed"]
    [joined] = re.findall(r'class="join mean" d="([^"]*)"', svg)
    assert joined.count("M") == 2  # before and after the gap
    ys = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", joined)]
    assert ys == sorted(ys)  # downwards
    assert 'width="30"' in svg


def test_a_stage_that_failed_without_a_number_has_its_ring_at_the_bottom() -> None:
    svg = line(Series("lm", "a", "layer_00", LAYER, COSINE, [0.99, None], failed={1}), "")
    assert re.search(r'class="failed" d="M9 20\.0', svg)


def test_a_strip_has_a_cell_a_run_which_says_what_it_is() -> None:
    svg = strip("<runs>", [PASS, None, FAIL], ["run 1", "", "run 3: <new>"], changed={2})
    assert re.findall(r'class="cell ([^"]*)".*?<title>([^<]*)</title>', svg) == [
        ("pass", "run 1"), ("fail", "run 3: &lt;new&gt;"),
    ]  # fmt: skip
    assert "<title>&lt;runs&gt;</title><desc>1 PASS, 1 FAIL, the oldest first</desc>" in svg
