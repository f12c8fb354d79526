"""What version 0.5.0 wrote is what is written today: every type and layout, by the hashes of its files.

`python -m benchmarks.same_files` compares with that version itself, and says what differs.
"""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from quantize import simd

from .recorded import RECORDED, RECORDED_PAIRS, commands, digests, write_checkpoints

PROGRAMS = {"mimo-convert": mimo_convert, "mimo-quantize": mimo_quantize}


@pytest.mark.skipif(not simd.variants(), reason="without the kernels, blocks may be those of a ggml that rounds once")
@pytest.mark.parametrize("pair", RECORDED_PAIRS)
def test_every_file_is_as_0_5_0_wrote_it(tmp_path: Path, pair: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    write_checkpoints(tmp_path / "checkpoints")
    for program, arguments in commands(pair, tmp_path / "checkpoints", tmp_path / "out"):
        result = CliRunner().invoke(PROGRAMS[program], arguments)
        assert result.exit_code == 0, f"{program} {' '.join(arguments)}: {result.output}"
    assert digests(tmp_path / "out", pair) == {name: recorded[name] for name in recorded if name.startswith(f"{pair}/")}
    shutil.rmtree(tmp_path / "out")  # half a gigabyte
