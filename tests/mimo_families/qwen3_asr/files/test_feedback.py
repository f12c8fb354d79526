"""Error feedback of a model whose head is its embedding: one source, two tensors of a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mimo_commands.calibrate import main as mimo_calibrate
from mimo_commands.check import main as mimo_check
from mimo_convert.plan.feedback import feedback_of_text
from quantize.feedback.choice import PLAIN
from quantize.feedback.library import variants
from tests.readers import gguf_metadata, gguf_tensors

from ..tiny_clips import converted, known_clips


@pytest.mark.skipif(not variants(), reason="no kernels for this platform")
def test_both_tensors_of_a_tied_head_are_as_the_file_records_and_its_check_finds(tmp_path: Path) -> None:
    manifest, calibration, random = tmp_path / "clips.jsonl", tmp_path / "speech.gguf", np.random.default_rng(0)
    with manifest.open("w") as lines:
        for i, clip in enumerate(3 * [clip for clip in known_clips() if clip.language == "English"][1:]):
            wave, rate = soundfile.read(clip.path, dtype="float32")
            noisy = wave + np.float32(0.001 * (i + 1)) * random.standard_normal(len(wave), np.float32)
            soundfile.write(tmp_path / f"{i}.wav", np.clip(noisy, -1, 1), rate)
            lines.write(json.dumps({"audio": f"{i}.wav", "text": clip.text}) + "\n")
    options = ["--audio", str(manifest), "--language", "english", "--hessian", "-o", str(calibration)]
    result = CliRunner().invoke(mimo_calibrate, ["tiny-qwen3", *options])
    assert result.exit_code == 0, result.output
    converted(tmp_path, "--outtype", "q4_k", "--imatrix", str(calibration), "--feedback")
    file = tmp_path / "qwen3-asr-q4_k.gguf"
    methods = feedback_of_text(str(gguf_metadata(file)["mimo_convert.feedback"]))
    tensors = gguf_tensors(file)
    embedding, head = "token_embd.weight", "output.weight"
    assert methods[embedding] == methods[head] != PLAIN
    assert bytes(tensors[embedding].data) == bytes(tensors[head].data)
    checked = CliRunner().invoke(mimo_check, [str(file), "--checkpoint", "tiny-qwen3", "--imatrix", str(calibration)])
    assert checked.exit_code == 0, checked.output
