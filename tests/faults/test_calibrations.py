"""Every defect of an importance matrix, a calibration or a recipe is refused, or told, by the command and with the
words that docs/defects.md shows."""

from pathlib import Path

import pytest

from .calibrations import CALIBRATIONS, CalibrationDefect


@pytest.mark.parametrize("defect", CALIBRATIONS, ids=lambda defect: defect.name)
def test_a_defect_is_refused_and_what_is_wrong_is_named(tmp_path: Path, defect: CalibrationDefect) -> None:
    result = defect.run(tmp_path)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert defect.says in (result.stderr if defect.refused else result.output), result.output
    assert result.exit_code == (2 if defect.refused else 0)
    if defect.refused:
        assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1
        assert not (tmp_path / "out.gguf").exists()
