"""The examples of docs/api.md run, one after the other."""

import os
import subprocess
import sys
from pathlib import Path

from .markdown import ROOT, blocks


def test_the_examples_run_as_written(tmp_path: Path) -> None:
    examples = [block.text for block in blocks(ROOT / "docs" / "api.md") if block.language == "python"]
    assert len(examples) >= 4
    program = tmp_path / "examples.py"
    program.write_text("\n".join(examples), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert "And so, my fellow Americans" in ended.stdout
    assert "no-such-file.gguf: no such file" in ended.stdout
    assert "converting" in ended.stdout
