"""Completion as docs/completion.md sets it up, in bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .markdown import DOCS, blocks

COMPLETE = """
. ~/.bashrc
compopt() { :; }  # is for functions that the shell calls by itself
complete -p mimo-convert mimo-quantize mimo-calibrate mimo-check mimo-publish > /dev/null
complete_line() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "_mimo_${1#mimo-}_completion" "$1"
    echo "${COMPREPLY[*]}"
}
complete_line mimo-check tra
complete_line mimo-check LM.gguf --reference-d
complete_line mimo-check LM
complete_line mimo-convert tiny --outtype q4
complete_line mimo-quantize --spl
complete_line mimo-calibrate tiny --synth
complete_line mimo-publish folder --pri
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_all_commands(tmp_path: Path) -> None:
    [set_up] = [block.text for block in blocks(DOCS / "completion.md") if "bash_source" in block.text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOME": str(tmp_path)}
    shell = ["bash", "-eu", "-c", set_up + COMPLETE]
    ended = subprocess.run(shell, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "transcribe", "--reference-dtype", "", "q4_k q4_1 q4_0", "--split-qkv", "--synthetic-minutes", "--private",
    ]  # fmt: skip
