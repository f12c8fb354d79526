"""Agreement as CSV: a row a file and condition, which a spreadsheet reads, and takes for no formula."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.records import ALL_CONDITIONS, Agreement
from mimo_agreement.report.csv_report import COLUMNS, as_csv
from tests.documents.markdown import DOCS

from .. import made_up


def rows_of(agreement: Agreement) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(agreement), newline="")))


def named(agreement: Agreement, name: str) -> Agreement:
    """The agreement with another name of its first file."""
    return replace(agreement, files=(replace(agreement.files[0], file=f"/models/{name}"), *agreement.files[1:]))


def test_there_is_a_row_for_each_file_in_each_condition_and_over_all() -> None:
    rows = rows_of(made_up.agreement())
    expected = {
        (f"mimo-asr-{name}.gguf", condition)
        for name in made_up.TYPES
        for condition in (*made_up.CONDITIONS, ALL_CONDITIONS)
    }
    assert {(row["file"], row["condition"]) for row in rows} == expected
    assert len(rows) == len(expected)


def test_numbers_are_those_of_the_record() -> None:
    found = made_up.agreement()
    for row, record in zip(rows_of(found), found.rows, strict=True):
        assert float(row["wer"]) == record.wer.value
        assert float(row["difference_high"]) == record.difference.high
        assert record.kl is not None
        assert float(row["kl_low"]) == record.kl.low
        assert int(row["substitutions"]) == record.errors.substitutions
        assert int(row["baseline_words"]) == record.beside_baseline.words
        assert row["is_worse"] == str(int(record.is_worse))
        assert row["is_baseline"] == str(int(record.file == found.baseline))
        assert row["on_front_wer"] == str(int(record.file in found.front_wer))


def test_what_is_not_known_is_empty() -> None:
    found = made_up.without_texts()
    rows = rows_of(replace(found, rows=tuple(replace(row, kl=None, real_time=None) for row in found.rows)))
    for row in rows:
        assert [row[name] for name in ("wer", "wer_low", "wer_high", "kl", "kl_low", "real_time")] == [""] * 6
        assert row["disagreement"]


def test_lines_end_as_in_the_rfc() -> None:
    text = as_csv(made_up.agreement())
    assert text.count("\r\n") == text.count("\n") == 1 + len(made_up.agreement().rows)
    assert text.startswith(",".join(COLUMNS) + "\r\n")


@pytest.mark.parametrize("name", ["=1+1.gguf", "+1.gguf", "-2.gguf", "@SUM(A1).gguf"])
def test_a_name_is_no_formula(name: str) -> None:
    assert rows_of(named(made_up.agreement(), name))[0]["file"] == f"'{name}"


def test_negative_numbers_stay_numbers() -> None:
    assert any(row["difference_low"].startswith("-") for row in rows_of(made_up.agreement()))


@given(st.text(min_size=1, max_size=20).filter(lambda name: "/" not in name and name not in (".", "..")))
def test_any_name_stays_in_its_cell(name: str) -> None:
    rows = rows_of(named(made_up.agreement(), name))
    assert len(rows) == len(made_up.agreement().rows)
    for row in rows:
        assert set(row) == set(COLUMNS)
        assert row["file"].isprintable()
        assert not row["file"].startswith(("=", "+", "-", "@"))


def test_every_column_is_documented() -> None:
    text = (DOCS / "agreement.md").read_text(encoding="utf-8")
    for name in COLUMNS:
        plain = name.removesuffix("_low").removesuffix("_high")
        assert f"`{plain}`" in text, plain
