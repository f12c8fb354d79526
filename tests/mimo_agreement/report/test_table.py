"""Agreement in the terminal: every file, smallest first, and the verdict at the end."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.records import CHARACTERS
from mimo_agreement.report.table import agreement_as_text, aligned

from .. import made_up


def test_files_stand_by_size_and_the_verdict_last() -> None:
    lines = agreement_as_text(made_up.agreement()).splitlines()
    assert lines[0] == "7 files on 4 clips of 2 recordings or speakers, 0.7 minutes, in 3 conditions: 2,400 words"
    assert [line.removeprefix("*").split()[0] for line in lines[2:9]] == [
        f"mimo-asr-{name}.gguf" for name in made_up.TYPES
    ]
    assert lines[-1] == made_up.agreement().verdict
    assert "9.40% (7.99 … 10.81%)" in lines[2]
    assert "+4.21 worse (+3.81 … +4.61)" in lines[2]
    assert "(baseline)" in lines[8]


def test_the_front_is_marked() -> None:
    found = made_up.agreement()
    lines = agreement_as_text(found).splitlines()[2:9]
    starred = {line.split()[1] for line in lines if line.startswith("*")}
    assert starred == {f"mimo-asr-{name}.gguf" for name in made_up.TYPES if made_up.sha(name) in found.front_wer}
    assert "mimo-asr-q4_0.gguf" not in starred


def test_each_condition_has_a_column() -> None:
    text = agreement_as_text(made_up.agreement())
    head = next(line for line in text.splitlines() if line.startswith("WER "))
    assert head.split() == ["WER", *made_up.CONDITIONS]
    assert "16.92%" in text
    assert "noise" not in agreement_as_text(made_up.of_one_condition())


def test_without_texts_disagreement_takes_the_place_of_errors() -> None:
    head = agreement_as_text(made_up.without_texts()).splitlines()[1]
    assert "WER to baseline" in head
    assert "difference" not in head
    assert "of the baseline’s transcripts, as the texts are not known" in agreement_as_text(made_up.without_texts())


def test_what_was_not_measured_has_no_column() -> None:
    found = made_up.agreement()
    rows = tuple(replace(row, kl=None, real_time=None, peak_memory=0) for row in found.rows)
    head = agreement_as_text(replace(found, rows=rows)).splitlines()[1]
    assert not {"KL", "real", "memory"} & set(head.split())


def test_characters_are_called_so() -> None:
    text = agreement_as_text(replace(made_up.agreement(), unit=CHARACTERS))
    assert "CER" in text
    assert "WER" not in text.replace(made_up.agreement().verdict, "")
    assert "2,400 characters" in text


def test_what_has_no_answer_is_named_with_notes() -> None:
    lines = agreement_as_text(made_up.unanswered()).splitlines()
    named = "NO ANSWER: mimo-asr-q3_k.gguf on clip-3.wav, reverb:0.6s, after 3 tries: killed by SIGSEGV"
    assert lines[-3:-1] == [named, *made_up.unanswered().notes]


def test_names_do_not_reach_the_terminal_raw() -> None:
    found = made_up.unanswered()
    files = tuple(replace(file, file=f"\x1b[2J{file.file}") for file in found.files)
    bad = tuple(replace(one, clip="a\x1bb", reason="c\nd") for one in found.quarantined)
    text = agreement_as_text(replace(found, files=files, quarantined=bad, verdict="\x1b[0m"))
    assert "\x1b" not in text
    assert "a\\x1bb" in text


def test_files_of_one_name_are_told_apart() -> None:
    found = made_up.agreement()
    files = tuple(replace(file, file=f"/{i}/same.gguf") for i, file in enumerate(found.files))
    text = agreement_as_text(replace(found, files=files))
    assert f"same.gguf {made_up.sha('q2_k')[:8]}…" in text


cells = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=9)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5))
def test_columns_are_aligned(rows: list[tuple[str, str, str]]) -> None:
    lines = aligned(rows, n_left=1)
    assert len(set(map(len, lines))) == 1
    assert [tuple(line.split()) for line in lines] == rows
