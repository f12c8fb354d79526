"""Bad files and places are one line and exit status 2; the process as a user starts it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.types import TYPES
from tests.gguf_edit import Key, rewrite
from tests.mimo_commands.invoked import check_one_line, names
from tests.readers import ggml_tensors

from .quantized import UP, Files, done, quantize, same, same_by_way_of


def folder(lm: Files, tmp_path: Path) -> Path:
    return tmp_path


def absent(lm: Files, tmp_path: Path) -> Path:
    return tmp_path / "absent.gguf"


def no_gguf(lm: Files, tmp_path: Path) -> Path:
    (tmp_path / "in.gguf").write_bytes(b"PK\3\4" + bytes(1000))
    return tmp_path / "in.gguf"


def empty(lm: Files, tmp_path: Path) -> Path:
    (tmp_path / "in.gguf").touch()
    return tmp_path / "in.gguf"


def other_architecture(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", architecture="llama")


def extra_tensor(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", extra="model.layers.0.attn.new.weight")


def both_layouts(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", extra="model.layers.0.attn.qkv.weight")


def missing_tensor(lm: Files, tmp_path: Path) -> Path:
    return rewrite(lm(True, "f16"), tmp_path / "in.gguf", tensors=lambda name: name != UP)


def lost_merges(lm: Files, tmp_path: Path) -> Path:
    """What a reader that takes `#` for the beginning of a comment leaves of the merges."""

    def without_hashes(key: Key) -> Key:
        is_merges = key.name == "tokenizer.ggml.merges"
        return key._replace(value=[m for m in key.value if not m.startswith("#")]) if is_merges else key

    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", keys=without_hashes)


def no_tokens(lm: Files, tmp_path: Path) -> Path:
    return rewrite(
        lm(False, "f16"), tmp_path / "in.gguf", keys=lambda key: None if key.name.endswith(".tokens") else key
    )


def lying_size(lm: Files, tmp_path: Path) -> Path:
    def wider(key: Key) -> Key:
        return key._replace(value=257) if key.name == "mimo_asr.llm.hidden_size" else key

    return rewrite(lm(False, "f16"), tmp_path / "in.gguf", keys=wider)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (folder, "is a folder"),
        (absent, "no such file"),
        (no_gguf, "not a GGUF file; expected a file that begins with the bytes GGUF"),
        (empty, "not a GGUF file"),
        (
            other_architecture,
            "key general.architecture is 'llama'; expected mimo_asr or mimo_tokenizer or qwen3asr or qwen3vl or clip",
        ),
        (extra_tensor, "extra tensor model.layers.0.attn.new.weight, unknown to mimo_asr"),
        (both_layouts, "extra tensor model.layers.0.attn.qkv.weight"),
        (missing_tensor, f"missing tensor {UP}"),
        (lost_merges, "key tokenizer.ggml.merges"),
        (no_tokens, "key tokenizer.ggml.tokens is missing"),
        (lying_size, "its sizes contradict each other|tensor llm.embed.weight has shape"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("option", ["--dry-run", "--force"])
def test_a_bad_file_is_one_line_and_nothing_is_written(
    lm: Files, tmp_path: Path, make: Callable[[Files, Path], Path], says: str, option: str
) -> None:
    source = make(lm, tmp_path)
    before = names(tmp_path)
    result = quantize(source, tmp_path / "out" / "x.gguf", "--outtype", "q8_0", option)
    check_one_line(result, source, says)
    assert names(tmp_path) == before


def test_a_file_cut_anywhere_is_refused(
    tokenizer: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tokenizer("q4_k").read_bytes()

    @settings(max_examples=25)
    @given(st.integers(0, 4000) | st.integers(0, len(whole) - 32))  # the header's length about, and anywhere
    def check(keep: int) -> None:
        folder = tmp_path_factory.mktemp("cut")
        source = folder / "in.gguf"
        source.write_bytes(whole[:keep])
        check_one_line(quantize(source, folder / "out" / "x.gguf"), source, "not a GGUF file|truncated")
        assert names(folder) == ["in.gguf"]

    check()


def test_a_file_that_is_there_is_kept_without_force(lm: Files, tmp_path: Path) -> None:
    there = tmp_path / "x.gguf"
    there.write_bytes(b"precious")
    arguments = [lm(False, "f16"), there, "--outtype", "q8_0"]
    says = "already exists, and was not made by this command: not a GGUF file; --force replaces it"
    check_one_line(quantize(*arguments), there, says)
    assert (there.read_bytes(), names(tmp_path)) == (b"precious", ["x.gguf"])
    assert same_by_way_of("f16", done(*arguments, "--force"), lm(False, "q8_0"))


def itself(source: Path) -> Path:
    return source


def by_another_way(source: Path) -> Path:
    return source.parent / ".." / source.parent.name / source.name


def symlink(source: Path) -> Path:
    link = source.with_name("link.gguf")
    link.symlink_to(source.name)
    return link


def hard_link(source: Path) -> Path:
    link = source.with_name("link.gguf")
    os.link(source, link)
    return link


@pytest.mark.parametrize("target_of", [itself, by_another_way, symlink, hard_link])
@pytest.mark.parametrize("options", [[], ["--force"], ["--dry-run"]], ids=" ".join)
def test_a_file_is_never_written_over_itself(
    lm: Files, tmp_path: Path, target_of: Callable[[Path], Path], options: list[str]
) -> None:
    source = Path(shutil.copy(lm(False, "f16"), tmp_path / "in.gguf"))
    target = target_of(source)
    before = names(tmp_path)
    result = quantize(source, target, "--outtype", "q8_0", *options)
    check_one_line(result, "OUT.gguf", f"would replace {target}: IN.gguf reads it; give another name")
    assert same(source, lm(False, "f16"))
    assert names(tmp_path) == before


def test_the_file_to_read_may_not_be_the_unfinished_file_of_what_is_written(lm: Files, tmp_path: Path) -> None:
    source = Path(shutil.copy(lm(False, "f16"), tmp_path / "x.gguf.part"))
    result = quantize(source, tmp_path / "x.gguf", "--outtype", "q8_0")
    check_one_line(result, "OUT.gguf", f"would replace {source}: IN.gguf reads it; give another name")
    assert same(source, lm(False, "f16"))


@pytest.mark.parametrize("target", [".", "/", "out", "out/", ".."])
@pytest.mark.parametrize("options", [[], ["--outtype", "q8_0", "--force"]], ids=" ".join)
def test_a_folder_is_no_name_for_a_file(
    lm: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    result = quantize(lm(False, "f16"), target, *options)
    check_one_line(result, Path(target), "is a folder; expected the name of the file to write")
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], [])


def test_folders_on_the_way_are_made_and_those_that_cannot_be_are_named(lm: Files, tmp_path: Path) -> None:
    assert same(done(lm(False, "f16"), tmp_path / "new" / "er" / "x.gguf"), lm(False, "f16"))
    (tmp_path / "file").touch()
    result = quantize(lm(False, "f16"), tmp_path / "file" / "x.gguf")
    check_one_line(result, tmp_path / "file", "cannot be made a folder: ")


SCRIPT = str(Path(sys.executable).with_name("mimo-quantize"))


def test_the_installed_command_does_it_in_one_line(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    command = [SCRIPT, lm(False, "f32"), out, "--outtype", "Q4_K", "--fuse-qkv", "--threads", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, ""), "no progress bar where there is no terminal"
    [line] = result.stdout.splitlines()
    assert line.startswith(f"{out}: {len(ggml_tensors(out))} tensors (")
    assert f"; {out.stat().st_size:,} bytes;" in line
    assert "rows of 48 are not a multiple of 256: f16" in line
    assert same(out, lm(True, "q4_k"))
    assert names(tmp_path) == ["x.gguf"]


KILLED_MIDWAY = """
import os, signal
from mimo_convert.write import flusher, journal
from mimo_commands.quantize import main
from quantize.recipes import parse_rule

flusher.FLUSH_BYTES = 1 << 16
add = journal.Journal.add

def add_and_die(self, chunks):
    add(self, chunks)
    if len(self.done) > 20:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.add = add_and_die
main()
"""


def test_a_run_that_was_killed_goes_on_where_it_stopped(lm: Files, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    arguments = [str(lm(False, "f32")), str(out), "--outtype", "q4_k"]
    killed = subprocess.run([sys.executable, "-c", KILLED_MIDWAY, *arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert names(tmp_path) == ["x.gguf.part", "x.gguf.part.journal"]
    result = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, f"{out}.part: resuming where an earlier run stopped\n")
    assert same(out, lm(False, "q4_k"))
    assert names(tmp_path) == ["x.gguf"]


def test_help_tells_every_type_and_exit_status() -> None:
    text = " ".join(quantize("--help").stdout.split())
    assert " ".join(TYPES) in text
    for option in (
        "--fuse-qkv",
        "--split-qkv",
        "--tensor-type REGEX=TYPE",
        "--recipe NAME_OR_FILE",
        "--asr-only",
        "--force",
    ):
        assert option in text
    assert "Exit status: 0 written; 2 bad input or usage" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in.gguf"], "Missing argument 'OUT.gguf'"),
        (["in.gguf", "out.gguf", "--outtype", "q9_z"], "'q9_z' is not one of 'f32', 'f16', 'bf16', 'q8_0'"),
        (["in.gguf", "out.gguf", "--threads", "0"], "0 is not in the range"),
        (["in.gguf", "out.gguf", "--unfuse-qkv"], "No such option"),
    ],
)
def test_wrong_usage_is_click_s_usage_message_and_exit_2(arguments: list[str], says: str) -> None:
    result = quantize(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert says in result.stderr.splitlines()[-1]
