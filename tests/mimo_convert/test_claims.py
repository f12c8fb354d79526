"""No output is an input, or another output."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.claims import Claims
from quantize.errors import InputError


def itself(path: Path) -> Path:
    return path


def by_a_detour(path: Path) -> Path:
    (path.parent / "folder").mkdir()
    return path.parent / "folder" / ".." / path.name


def by_a_symbolic_link(path: Path) -> Path:
    link = path.with_name("link")
    link.symlink_to(path.name)
    return link


def by_a_link_of_its_folder(path: Path) -> Path:
    link = path.parent.with_name("linked")
    link.symlink_to(path.parent)
    return link / path.name


def by_a_hard_link(path: Path) -> Path:
    link = path.with_name("hard")
    os.link(path, link)
    return link


NAMES = [itself, by_a_detour, by_a_symbolic_link, by_a_link_of_its_folder]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "m.gguf"
    path.write_text("weights")
    return path


@pytest.mark.parametrize("other", [*NAMES, by_a_hard_link])
@pytest.mark.parametrize("reads_first", [True, False])
def test_an_output_that_is_an_input_by_any_name_is_refused(
    file: Path, other: Callable[[Path], Path], reads_first: bool
) -> None:
    claims = Claims()
    steps = [lambda: claims.reads("FILE.gguf", file), lambda: claims.writes("--json", other(file))]
    first, second = steps if reads_first else reversed(steps)
    first()
    with pytest.raises(InputError, match=r"^--json: would replace .*: FILE.gguf reads it; give another name$"):
        second()


@pytest.mark.parametrize("other", NAMES)
@pytest.mark.parametrize("there", [True, False])
def test_two_outputs_of_one_file_are_refused(file: Path, other: Callable[[Path], Path], there: bool) -> None:
    if not there:
        file.unlink()
    claims = Claims()
    claims.writes("--json", file)
    with pytest.raises(InputError, match=r"^--html: would replace .*: --json writes it, too; give another name$"):
        claims.writes("--html", other(file))


def test_files_of_a_folder_that_is_read_are_inputs_and_others_beside_them_are_not(file: Path) -> None:
    claims = Claims()
    claims.reads("MODEL", file.parent)
    claims.writes("--json", file.parent / "report.json")
    with pytest.raises(InputError, match="MODEL reads it"):
        claims.writes("--html", file)


def test_what_two_options_read_is_nobodys_loss(file: Path) -> None:
    claims = Claims()
    claims.reads("MODEL", file)
    claims.reads("--reference", file)


def test_a_device_may_be_written_to_by_several() -> None:
    claims = Claims()
    claims.writes("--json", Path("/dev/null"))
    claims.writes("--html", Path("/dev/null"))


def test_a_file_that_is_renewed_may_be_read_before(file: Path) -> None:
    claims = Claims()
    claims.reads("--report", file)
    claims.writes("what is published", file, rereads=["--report"])
    with pytest.raises(InputError, match="what is published writes it, too"):
        claims.writes("--json", file)


@pytest.mark.parametrize("path", ["absent/x", "a\0b", "x" * 5000])
def test_a_name_of_nothing_is_for_others_to_refuse(path: str) -> None:
    claims = Claims()
    claims.reads("FILE", Path(path))
