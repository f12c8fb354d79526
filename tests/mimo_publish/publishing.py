"""`mimo-publish` of checked files, and what is on the Hub then."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mimo_commands.publish import main as mimo_publish
from tests.hub_server import Hub, environment, read

TOKEN, REPO = "hf_SecretSecretSecret", "alice/Tiny-GGUF"
LM, TOKENIZER = "Some/Tiny", "Some/Tiny-Tokenizer"
GGUFS = ["mimo-asr-q4_k.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-q4_k.gguf"]
PLOTS = ["layers-mimo-asr-q4_k.svg", "layers-mimo-asr-q8_0.svg"]
BESIDE = ["README.md", *PLOTS, "SHA256SUMS", "mimo-check.json"]


def publish(folder: Path, *options: str, yes: bool = True) -> tuple[int, str]:
    """mimo-publish with the report beside the folder: exit status, and all that was said."""
    arguments = [str(folder), "--to", REPO, "--report", str(folder.parent / "report.json"), *options]
    result = CliRunner().invoke(mimo_publish, [*arguments, "--yes"] if yes else arguments)
    assert TOKEN not in result.output
    return result.exit_code, result.output


def offered(said: str) -> str:
    """The command that was offered, as it was printed."""
    [line] = [line for line in said.splitlines() if line.startswith("  mimo-publish ")]
    return line


def run_as_printed(line: str, hub: Hub, home: Path) -> subprocess.CompletedProcess[str]:
    """Give a line to a shell in which the commands are installed."""
    env = environment(hub, home, TOKEN)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.parent / "report.json").read_text())
    return found


def change_report(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    report = report_of(folder)
    change(report)
    (folder.parent / "report.json").write_text(json.dumps(report))


def there(hub: Hub) -> dict[str, bytes]:
    """What the repository holds now; empty if there is none."""
    if REPO not in hub.written:
        return {}
    files = {name: read(file) for name, file in hub.written[REPO].commits[-1].files.items()}
    files.pop(".gitattributes", None)
    return files
