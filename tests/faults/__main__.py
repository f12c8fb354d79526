"""Write the table of injected defects into docs/defects.md: `python -m tests.faults`."""

from .document import DOCUMENT, document

DOCUMENT.write_text(document(), encoding="utf-8")
