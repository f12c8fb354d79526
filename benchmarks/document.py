"""Measured lines in their places in documents."""

import re
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def insert(text: str, name: str, lines: list[str]) -> str:
    """The document with `lines` between the two marks called `name`."""
    mark = f"<!-- {name} -->\n"
    assert mark in text, f"no place for {name}"
    body = "\n".join(lines)
    return re.sub(f"{mark}.*?{mark}", lambda _: f"{mark}{body}\n{mark}", text, flags=re.DOTALL)


def insert_lines(name: str, lines: list[str], document: Path = BENCHMARKS) -> None:
    """Print `lines`, and put them into a document."""
    print("\n".join(lines))
    document.write_text(insert(document.read_text(encoding="utf-8"), name, lines), encoding="utf-8")
