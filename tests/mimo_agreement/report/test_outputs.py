"""Outputs are written whole, each by its own option."""

from dataclasses import fields
from pathlib import Path

import pytest

from mimo_agreement.report.csv_report import as_csv
from mimo_agreement.report.json_report import read_agreement
from mimo_agreement.report.junit import as_junit
from mimo_agreement.report.outputs import NO_OUTPUTS, Outputs
from mimo_agreement.report.page.page import as_html
from quantize.errors import InputError

from .. import made_up

NAMES = [one.name for one in fields(Outputs)]


def test_all_outputs_have_the_same_agreement(tmp_path: Path) -> None:
    outputs = Outputs(**{name: tmp_path / f"out.{name}" for name in NAMES})
    outputs.check()
    outputs.write(made_up.agreement())
    assert read_agreement(tmp_path / "out.json") == made_up.agreement()
    assert (tmp_path / "out.junit").read_bytes() == as_junit(made_up.agreement())
    assert (tmp_path / "out.csv").read_bytes().decode() == as_csv(made_up.agreement())
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == as_html(made_up.agreement())


def test_none_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    NO_OUTPUTS.write(made_up.agreement())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        Outputs(**{name: tmp_path / "none" / "out"}).check()
