"""Reports of what the statistics make of answers: whatever was measured, all of them can be written and read."""

import json
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_agreement.records import Agreement, Answer, ModelFiles, Pair, SpokenClip
from mimo_agreement.report.csv_report import as_csv
from mimo_agreement.report.json_report import agreement_of as read_back
from mimo_agreement.report.json_report import json_text
from mimo_agreement.report.junit import as_junit
from mimo_agreement.report.page.page import as_html
from mimo_agreement.report.table import agreement_as_text
from mimo_agreement.statistics.agreement import agreement_of

FILES = [ModelFiles(f"{name}.gguf", name * 64, 10**9 * (1 + i), name, 4.5) for i, name in enumerate("abc")]
CONDITIONS = ["clean", "speed:1.1"]
WORDS = st.lists(st.sampled_from(["ask", "not", "what", "twenty", "你好", "…"]), max_size=6).map(" ".join)
ANSWERS = st.builds(
    Answer, WORDS, st.integers(0, 9), st.booleans(), st.sampled_from(["", "ask"]), st.floats(0.1, 30),
    st.just({"prefill_s": 0.5}), st.just({"mapped": 10**9}), st.one_of(st.none(), st.floats(0, 5)), st.integers(0, 9),
)  # fmt: skip


def measured(texts: Sequence[str | None], answers: Mapping[tuple[int, int, int], Answer]) -> Agreement:
    """The agreement of answers by the numbers of file, clip and condition."""
    clips = [SpokenClip(f"{i}.wav", f"{i:064}", 3.0, text, f"{i:064}", "english") for i, text in enumerate(texts)]
    pairs = [
        (Pair(FILES[f].sha256, "", clips[i].sha256, CONDITIONS[c], 0, "", ""), answer)
        for (f, i, c), answer in answers.items()
    ]
    return agreement_of(FILES, clips, CONDITIONS, pairs, baseline=FILES[-1].sha256, seed=0)


@st.composite
def agreements(draw: st.DrawFn) -> Agreement:
    texts = draw(st.lists(st.one_of(st.none(), WORDS), min_size=1, max_size=3))
    places = [(f, i, c) for f in range(len(FILES)) for i in range(len(texts)) for c in range(len(CONDITIONS))]
    missing = draw(st.sets(st.sampled_from(places), max_size=1))
    return measured(texts, {place: draw(ANSWERS) for place in places if place not in missing})


@settings(max_examples=25, deadline=None)
@given(agreements())
def test_all_reports_can_be_made_and_the_json_read_back(found: Agreement) -> None:
    assert read_back(json.loads(json_text(found)), "agreement.json") == found
    assert found.verdict in agreement_as_text(found)
    assert "</html>" in as_html(found)
    assert as_junit(found).endswith(b"</testsuites>\n")
    assert as_csv(found).count("\r\n") == 1 + len(found.rows)


def test_a_file_against_itself_differs_by_nothing() -> None:
    said = Answer("ask not what", 3, True, "", 3.0)
    found = measured(["ask now what"] * 2, {(f, i, c): said for f in range(3) for i in range(2) for c in range(2)})
    lines = agreement_as_text(found).splitlines()
    assert next(line for line in lines if "a.gguf" in line).count("+0.00") == 3
    assert "worse" not in agreement_as_text(found)
