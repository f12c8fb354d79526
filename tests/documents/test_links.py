"""Every link between documents leads somewhere, every page is in the index, and lines are of a width to be read."""

from pathlib import Path

import pytest

from .markdown import DOCS, PAGES, README, ROOT, anchor, anchors, blocks, links

WIDTH = 120
README_LINES = 150
names = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


@names
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if ":" in target.partition("/")[0]:
            continue  # an address
        path, _, name = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{target}: no such file, or a folder, which the site cannot show"
        assert there.is_relative_to(ROOT), target
        assert not name or name in anchors(there), f"{target}: no such heading"


def test_anchors_are_those_of_github() -> None:
    assert [anchor(heading) for heading in ("What it costs", "Speech LM: `x` = `a_b`, `c-<d>.gguf`", "A, b & c")] == [
        "what-it-costs", "speech-lm-x--a_b-c-dgguf", "a-b--c",
    ]  # fmt: skip


def test_the_index_lists_every_page_once() -> None:
    listed = [(DOCS / target).resolve() for target in links(DOCS / "README.md")]
    assert sorted(listed) == sorted(page for page in PAGES if page != DOCS / "README.md")


def test_the_readme_is_a_quickstart() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_lines_are_wrapped(page: Path) -> None:
    """But for tables, code, pictures, and what is generated between two marks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    code = {block.line + n for block in blocks(page) for n in range(block.text.count("\n") + 2)}
    marks = [number for number, line in enumerate(lines, 1) if line.startswith("<!-- ") and line.endswith(" -->")]
    generated = {number for begin, end in zip(marks[::2], marks[1::2], strict=False) for number in range(begin, end)}
    assert not [
        f"{page.name}:{number}: {len(line)}"
        for number, line in enumerate(lines, 1)
        if len(line) > WIDTH and number not in code | generated and not line.startswith(("|", "!["))
    ]
