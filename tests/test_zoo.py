"""Every defect of the zoo is caught, by each command that docs/defects.md says, with the words that it says; and the
files that the defects are made of pass."""

import shutil
from pathlib import Path

import pytest

from .zoo import AGAINST, COMMANDS, DOCUMENT, RUN, Bases, Defect, check, defects, document, reasons

ZOO = defects()
BASES = sorted({defect.on for defect in ZOO})


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("zoo"))


@pytest.mark.parametrize("defect", ZOO, ids=lambda defect: defect.name)
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
    if command in (RUN, AGAINST) or base.sound is None:
        result = check(*base.options(command, base.file))
        assert result.exit_code == 0, result.output
        assert result.stdout.rstrip().endswith("PASS")


def test_the_document_shows_the_zoo_as_it_is() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python -m tests.zoo writes it"
    assert len(ZOO) >= 60
    assert len({defect.name for defect in ZOO}) == len(ZOO)
