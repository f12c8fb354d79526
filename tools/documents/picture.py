"""Draw a run of `make demo` as docs/images/demo.svg: `python -m tools.documents.picture`, with the extra `docs`.

The output is that of a real run on a terminal. Fonts that the picture would load from elsewhere are taken out of it.
"""

import io
import os
import pty
import re
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
TITLE = "make demo"
COMMAND = ["make", "--no-print-directory", "demo"]
COLUMNS = 112
FONT_FACE = re.compile(r"@font-face \{.*?\n\s*\}", re.DOTALL)


def main() -> None:
    """Run the command, in an environment that is there already, and write the picture."""
    subprocess.run(["make", "--silent", ".venv/package"], cwd=ROOT, check=True)
    text = Text.assemble(("$ ", "bold green"), (TITLE, "bold"), "\n", on_terminal(COMMAND))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(text, highlight=False)
    svg = console.export_svg(title=TITLE, unique_id="demo")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(lean(svg), encoding="utf-8")


def on_terminal(command: list[str]) -> Text:
    """What a command prints to a terminal; its progress, on standard error, is not shown. Raises CalledProcessError."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        printed = b"".join(chunks(ours))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed)
    return Text.from_ansi(printed.decode().replace("\r\n", "\n"))


def chunks(terminal: int) -> list[bytes]:
    """Everything that is written to a terminal until its other side is closed, which Linux reports as an error."""
    found = []
    try:
        while chunk := os.read(terminal, 65536):
            found.append(chunk)
    except OSError:
        pass
    return found


def lean(svg: str) -> str:
    """The picture without fonts from elsewhere, comments, and white space at the ends of lines."""
    svg = re.sub(r"<!--.*?-->", "", FONT_FACE.sub("", svg)).replace("Fira Code, monospace", "monospace")
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    main()
