"""Agreement as JSON: what is written is read back, and anything else is refused with what to do."""

import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimo_agreement import records
from mimo_agreement.records import Agreement
from mimo_agreement.report.json_report import agreement_of, json_text, read_agreement
from quantize.errors import InputError
from runtime_check.run.compare.fidelity import Estimate
from tests.documents.markdown import DOCS

from .. import made_up

MADE = [made_up.agreement, made_up.without_texts, made_up.unanswered, made_up.of_one_condition]


def values_of(agreement: Agreement) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json_text(agreement))
    return found


@pytest.mark.parametrize("make", MADE)
def test_what_is_written_is_read_back(tmp_path: Path, make: Callable[[], Agreement]) -> None:
    path = tmp_path / "agreement.json"
    path.write_text(json_text(make()), encoding="utf-8")
    assert read_agreement(path) == make()


def test_the_schema_stands_first() -> None:
    values = values_of(made_up.agreement())
    assert next(iter(values.items())) == ("schema", "mimo-check agreement 1")


def test_numbers_that_are_not_finite_are_null() -> None:
    found = made_up.agreement()
    rows = (replace(found.rows[0], wer=Estimate(math.nan, -math.inf, math.inf)), *found.rows[1:])
    values = values_of(replace(found, rows=rows))
    assert values["rows"][0]["wer"] == {"value": None, "low": None, "high": None}


def test_names_that_are_not_utf_8_can_be_written() -> None:
    found = made_up.agreement()
    files = (replace(found.files[0], file="\udcff.gguf"), *found.files[1:])
    assert values_of(replace(found, files=files))["files"][0]["file"] == "\udcff.gguf"


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.pop(key)


def with_value(*where: Any, value: Any) -> Callable[[dict[str, Any]], object]:
    """Put a value at a place, keys and numbers, into the data."""

    def change(values: Any) -> None:
        for key in where[:-1]:
            values = values[key]
        values[where[-1]] = value

    return change


WRONG = [
    (without("schema"), "has the schema None; expected 'mimo-check agreement 1'"),
    (with_value("schema", value="mimo-check report 2"), "has the schema 'mimo-check report 2'; expected"),
    (without("rows"), "rows is {"),
    (with_value("seed", value="many"), "seed is 'many'; expected Input should be a valid integer"),
    (with_value("rows", 0, "clips", value=None), "rows.0.clips is None; expected Input should be a valid integer"),
    (with_value("rows", 0, "seconds", value=math.nan), "rows.0.seconds is None; expected"),
    (with_value("files", value=[]), "baseline names the file"),
    (with_value("baseline", value="f16"), "baseline names the file 'f16'; expected the SHA-256 of one of its files"),
    (with_value("smallest", value=""), "smallest names the file ''"),
    (with_value("front_wer", 0, value="0"), "front_wer names the file '0'"),
    (with_value("front_kl", 0, value="0"), "front_kl names the file '0'"),
    (with_value("rows", 0, "file", value="x"), "rows names the file 'x'"),
    (with_value("worst", 0, "file", value="x"), "worst names the file 'x'"),
    (with_value("quarantined", 0, "file", value="x"), "quarantined names the file 'x'"),
    (with_value("rows", 0, "condition", value="dry"), "1 rows of the file"),
    (with_value("conditions", value=["clean"]), "in 'noise:babble:5dB'; expected 0"),
    (lambda values: values["rows"].append(values["rows"][0]), "2 rows of the file"),
    (lambda values: values["rows"].pop(), "0 rows of the file"),
    (lambda values: values["files"].append(values["files"][0]), "is there twice"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_anything_else_is_refused(change: Callable[[dict[str, Any]], object], said: str) -> None:
    values = values_of(made_up.unanswered())
    change(values)
    with pytest.raises(InputError) as caught:
        agreement_of(values, "agreement.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("agreement.json: ")
    if "schema" not in said:
        assert "make it again with mimo-check agreement --json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agreement.json"
    path.write_text(text)
    with pytest.raises(InputError, match="expected what mimo-check agreement --json wrote"):
        read_agreement(path)


places = st.sampled_from([
    (name, key)
    for name in ("files", "rows", "clips", "worst", "quarantined")
    for key in values_of(made_up.unanswered())[name][0]
])  # fmt: skip
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({})
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(place=places, value=anything)
def test_a_wrong_value_is_refused_or_harmless(place: tuple[str, str], value: object) -> None:
    """Whatever is read can be shown."""
    from mimo_agreement.report.csv_report import as_csv
    from mimo_agreement.report.junit import as_junit
    from mimo_agreement.report.page.page import as_html
    from mimo_agreement.report.table import agreement_as_text

    values = values_of(made_up.unanswered())
    values[place[0]][0][place[1]] = value
    try:
        found = agreement_of(values, "agreement.json")
    except InputError:
        return
    assert as_html(found)
    assert as_csv(found)
    assert as_junit(found)
    assert agreement_as_text(found)
    assert agreement_of(values_of(found), "again") == found


def test_every_key_is_documented() -> None:
    text = (DOCS / "json.md").read_text(encoding="utf-8").partition("\n## Agreement\n")[2].partition("\n## ")[0]
    shown = (
        records.Agreement, records.Row, records.ModelFiles, records.SpokenClip, records.WorstClip, records.Quarantined,
    )  # fmt: skip
    assert all(is_dataclass(record) for record in shown)
    for record in shown:
        for one in fields(record):
            assert f"`{one.name}`" in text, f"{record.__name__}.{one.name}"
