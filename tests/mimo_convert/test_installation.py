"""Where texts tell people to install from: what the project's metadata says, and no name that nobody has registered."""

import re
from pathlib import Path

import pytest

from mimo_convert.installation import PROJECT, choose_home_page, choose_installation, installation

ROOT = Path(__file__).parents[2]
PIP_INSTALL = re.compile(r"pip install ([^`|<]*)")
INDEX = "Download, https://index.example/mimo-convert"
SOURCE = "Git-Hub, https://git.example/o/mimo-convert"  # labels are compared without punctuation and case
OTHER = "GGUF format, https://example.org/gguf.md"


@pytest.mark.parametrize(
    ("urls", "extra", "version", "line"),
    [
        ([OTHER], "", "", "pip install /path/to/mimo-convert  # a checkout of mimo-convert"),
        ([], "reference", "0.7.0",
         "pip install '/path/to/mimo-convert[reference]'  # a checkout of mimo-convert 0.7.0"),
        ([SOURCE], "", "", "pip install 'mimo-convert @ git+https://git.example/o/mimo-convert'"),
        ([SOURCE], "reference", "0.7.0",
         "pip install 'mimo-convert[reference] @ git+https://git.example/o/mimo-convert@v0.7.0'"),
        ([SOURCE, INDEX], "", "", "pip install mimo-convert"),
        ([INDEX], "reference", "0.7.0", "pip install 'mimo-convert[reference]==0.7.0'"),
    ],
)  # fmt: skip
def test_metadata_decides_where_from(urls: list[str], extra: str, version: str, line: str) -> None:
    assert choose_installation(urls, extra, version).line == line


@pytest.mark.parametrize("version", ["0.5.0; rm -rf ~", "1\nrm -rf ~", "$(id)", "-r evil", "0 1"])
def test_a_version_that_a_file_made_up_reaches_no_shell(version: str) -> None:
    """The version in a card is what a file says of itself."""
    for urls in ([], [SOURCE], [INDEX]):
        assert choose_installation(urls, "", version) == choose_installation(urls, "", "")


def test_within_a_sentence_the_note_is_in_parentheses() -> None:
    assert choose_installation([], "reference", "").phrase == (
        "pip install '/path/to/mimo-convert[reference]' (a checkout of mimo-convert)"
    )


@pytest.mark.parametrize(
    ("urls", "page"),
    [
        ([], ""),
        ([OTHER], ""),
        ([OTHER, SOURCE], "https://git.example/o/mimo-convert"),
        ([SOURCE, "Homepage, https://mimo.example/"], "https://mimo.example/"),
        ([INDEX], "https://index.example/mimo-convert"),
        (["Source, git@git.example:o/mimo-convert", INDEX], "https://index.example/mimo-convert"),
    ],
)
def test_a_link_leads_to_the_projects_page_and_nowhere_without_one(urls: list[str], page: str) -> None:
    assert choose_home_page(urls) == page


def documents() -> list[Path]:
    """What people read, and what they copy from."""
    return [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*") if path.is_file())]


def test_no_document_names_a_package_that_the_metadata_does_not() -> None:
    """As long as the name is registered nowhere, whoever registers it could have it installed."""
    allowed = {installation().requirement, installation("reference").requirement}
    found = [
        (path.name, word)
        for path in documents()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        for said in PIP_INSTALL.findall(line)
        for word in said.replace("'", "").split()
        if word.startswith(PROJECT) and word not in allowed
    ]
    assert found == []
