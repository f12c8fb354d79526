"""Write what is generated of the documents, docs/options.md and blocks of the README: `python -m tools.documents`."""

from pathlib import Path

from benchmarks.document import insert
from mimo_families.registry import SYSTEMS

from .options import DOCUMENT, document
from .runtimes import lines

README = Path(__file__).parents[2] / "README.md"


def readme() -> str:
    """The README with its generated blocks as they are now."""
    return insert(README.read_text(encoding="utf-8"), "runtimes", lines(SYSTEMS))


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
    DOCUMENT.write_text(document(), encoding="utf-8")
