"""The same command, run again: files that it made are not written again, whatever it was that ended it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mimo_commands.convert import main
from mimo_commands.quantize import main as mimo_quantize
from mimo_convert.write.made import MADE
from tests.gguf_edit import patch
from tests.system.signals import heed_interrupts

from ..invoked import check_one_line, invoke

FILES = ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]
TINY = ["tiny", "--outtype", "q4_k"]


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def made(folder: Path) -> list[str]:
    """What is said of files that are there."""
    return [f"{folder / name}: {MADE}" for name in FILES]


def test_after_an_interrupt_in_the_check_the_same_command_checks_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("mimo-convert"), *TINY, "--out", out]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout
    while "lint rules hold" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert (process.returncode, said) == (130, "interrupted: the files are written; the same command checks them\n")
    before = inodes(out)
    assert sorted(before) == FILES

    report = tmp_path / "r.json"
    again = convert(*TINY, "--out", out, "--json", report)
    assert (again.exit_code, again.stderr.splitlines(), inodes(out)) == (0, made(out), before)
    assert "\nPASS\n" in again.stdout

    once_more = convert(*TINY, "--out", out, "--no-check", "--json", report)
    assert (once_more.exit_code, once_more.stderr.splitlines(), inodes(out)) == (0, made(out), before)


def test_a_file_that_was_altered_since_it_was_reported_is_named(tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "r.json"
    assert convert(*TINY, "--out", out, "--json", report).exit_code == 0
    lm = out / FILES[0]
    data = lm.read_bytes()
    patch(lm, "model.layers.1.ffn.down.weight", 0, np.zeros(8, np.uint8))
    altered = lm.read_bytes()
    again, sha256 = [*TINY, "--out", out, "--json", report], "[0-9a-f]{64}"
    check_one_line(convert(*again), lm, f"was altered: its sha256 is {sha256}; expected {sha256}, by {report}; --force")
    assert lm.read_bytes() == altered
    assert convert(*again, "--force").exit_code == 0
    assert lm.read_bytes() == data


def test_a_record_of_other_options_says_nothing_of_a_file(tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "r.json"
    assert convert(*TINY, "--out", out, "--json", report).exit_code == 0
    fused = [*TINY, "--out", out, "--fuse-qkv", "--no-check"]
    assert convert(*fused, "--force").exit_code == 0
    again = convert(*fused, "--json", report)
    assert (again.exit_code, again.stderr.splitlines()) == (0, made(out))


def test_checksums_beside_the_files_are_held_to(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q8_0", "--out", out]
    assert invoke(*arguments).exit_code == 0
    files = sorted(out.iterdir())
    sums = subprocess.run(["sha256sum", *(file.name for file in files)], cwd=out, capture_output=True, check=True)
    (out / "SHA256SUMS").write_bytes(sums.stdout)
    assert invoke(*arguments).exit_code == 0
    patch(files[0], "model.layers.1.ffn.down.weight", 0, np.zeros(8, np.uint8))
    check_one_line(invoke(*arguments), files[0], f"was altered: .*, by {out / 'SHA256SUMS'}; --force makes it anew")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fuse-qkv"], "with separate Q, K and V; expected fused QKV (--fuse-qkv)"),
        (["--quantizer", "ggml"], "with the quantizer simd; expected ggml"),
    ],
)
def test_other_options_are_said(lm: Path, tokenizer: Path, tmp_path: Path, options: list[str], says: str) -> None:
    out = tmp_path / "out"
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q8_0", "--out", out, "--quantizer", "simd"]
    assert invoke(*arguments).exit_code == 0
    before = inodes(out)
    result = invoke(*arguments, *options)
    check_one_line(result, out / "mimo-asr-q8_0.gguf", f"already exists, {says}; --force replaces it")
    assert inodes(out) == before


def test_a_dry_run_says_what_is_there(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q8_0", "--out", tmp_path / "out"]
    assert invoke(*arguments).exit_code == 0
    plan = invoke(*arguments, "--outtype", "f16", "--dry-run")
    described = plan.stdout.split("\n\n")[0].splitlines()[1:]
    notes = {line.partition(": ")[0]: line.endswith(MADE) for line in described}
    assert notes == {
        f"mimo-{role}-{name}.gguf": name == "q8_0" for role in ("asr", "tokenizer") for name in ("q8_0", "f16")
    }


def test_mimo_quantize_too(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    assert invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / "f16").exit_code == 0
    source, target = tmp_path / "f16" / "mimo-asr-f16.gguf", tmp_path / "x.gguf"
    runs = [CliRunner().invoke(mimo_quantize, [str(source), str(target), "--outtype", "q4_k"]) for _ in range(2)]
    assert [run.exit_code for run in runs] == [0, 0]
    assert [run.stderr for run in runs] == ["", f"{target}: {MADE}\n"]
    other = CliRunner().invoke(mimo_quantize, [str(source), str(target), "--outtype", "q5_k"])
    check_one_line(other, target, "already exists, with the type q4_k; expected q5_k; --force replaces it")
