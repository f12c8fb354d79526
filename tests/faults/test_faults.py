"""Every injected defect is caught, by each command that docs/defects.md names, with the words that it shows; and the
clean files that the defects are injected into pass."""

import shutil
from pathlib import Path

import pytest

from .bases import COMMANDS, Bases, check, reasons
from .defect import Defect
from .document import DOCUMENT, defects, document

DEFECTS = defects()
BASES = sorted({defect.on for defect in DEFECTS})


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_is_caught_and_what_is_wrong_is_named(
    bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: Defect
) -> None:
    base = bases[defect.on]
    file = base.file
    if defect.damage:
        file = Path(shutil.copy(file, tmp_path))
        defect.damage(file)
    if defect.replace:
        defect.replace(monkeypatch)
    else:
        bases.encode_once(monkeypatch)
    assert defect.says, "nothing catches it"
    for command, text in defect.says.items():
        result = check(*base.options(command, file))
        found = reasons(command, result)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == (2 if text == defect.opening else result.exit_code)
        assert result.exit_code in (1, 2)
        looked_at = found[:1] if defect.replace else found  # of a run, the first is what is at fault
        assert any(text in line for line in looked_at), (command, found)
        if result.exit_code == 2:
            assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_defects_are_made_of_passes(bases: Bases, name: str, command: str) -> None:
    base = bases[name]
    if command in base.commands:
        result = check(*base.options(command, base.file))
        assert result.exit_code == 0, result.output
        assert result.stdout.rstrip().endswith("PASS")


def test_the_document_shows_every_defect() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python -m tests.faults writes it"
    assert len(DEFECTS) >= 60
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
