"""Conversions: every byte of every type against ggml and PyTorch, and what happens when something goes wrong midway."""

import errno
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write import chunks as module
from mimo_convert.write.convert import convert
from quantize.errors import InputError
from quantize.types import TYPES
from tests.contract import audio_tokenizer_names, contract_type, speech_lm_names
from tests.damage import edit_tensor, set_weight
from tests.opened import make_request, options_of
from tests.quantize.test_kernels import ggml_bytes
from tests.readers import checkpoint_tensors, ggml_tensors, gguf_metadata, gguf_tensors
from tests.synthetic import write_audio_tokenizer, write_speech_lm
from tests.system.signals import heed_interrupts

BLOCKS = {type.name: type.block for type in TYPES.values()}
UP, EMBED = "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"


def run(checkpoint: Path, out: Path, *outtypes: str, fuse: bool = False, threads: int = 2, force: bool = False) -> Path:
    """Convert one checkpoint; returns the folder."""
    request = make_request(open_checkpoint(str(checkpoint)), [TYPES[name] for name in outtypes], options_of(fuse))
    convert([request], out, threads=threads, force=force)
    return out


@pytest.fixture(scope="module")
def every_type(small_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The small speech LM in all 15 types, each layout in one run."""
    return {fused: run(small_lm, tmp_path_factory.mktemp("all"), *TYPES, fuse=fused) for fused in (False, True)}


def expected_tensor(sources: list[torch.Tensor], name: str, outtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes of a tensor of the file, by the contract, PyTorch and ggml."""
    whole = torch.cat(sources).float()
    type = contract_type(name, whole.shape, outtype, BLOCKS)
    rows = whole.reshape(len(whole) if whole.dim() > 1 else 1, -1).numpy()
    return type, tuple(whole.shape), ggml_bytes(TYPES[type], rows)


def check_file(path: Path, checkpoint: Path, names: dict[str, list[str]], outtype: str) -> None:
    tensors, found = checkpoint_tensors(checkpoint), gguf_tensors(path)
    assert found.keys() == names.keys()
    for name, sources in names.items():
        expected = expected_tensor([tensors[source] for source in sources], name, outtype)
        assert (found[name].type, found[name].shape, found[name].data) == expected, name
    assert found == ggml_tensors(path)


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_every_byte_is_ggmls_of_the_checkpoints_rows(
    small_lm: Path, every_type: dict[bool, Path], outtype: str, fused: bool
) -> None:
    names = speech_lm_names(2, 1, 1, fused=fused)
    check_file(every_type[fused] / f"mimo-asr-{outtype}.gguf", small_lm, names, outtype)


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "q4_k"])
def test_every_byte_of_an_audio_tokenizer_too(small_tokenizer: Path, tmp_path: Path, outtype: str) -> None:
    path = run(small_tokenizer, tmp_path, outtype) / f"mimo-tokenizer-{outtype}.gguf"
    check_file(path, small_tokenizer, audio_tokenizer_names(3, 3), outtype)
    types = {name: tensor.type for name, tensor in ggml_tensors(path).items()}
    assert {types[name] for name in types if "_codebook" in name} == {"f32"}
    conv = "f32" if outtype == "f32" else "f16"
    assert {types[f"encoder.{n}.weight"] for n in ("conv1", "conv2", "down_sample_layer.0")} == {conv}


def test_a_fused_tensor_is_the_separate_ones_end_to_end(every_type: dict[bool, Path]) -> None:
    for outtype in TYPES:
        separate, fused = (ggml_tensors(every_type[f] / f"mimo-asr-{outtype}.gguf") for f in (False, True))
        for kind in ("weight", "bias"):
            parts = [separate[f"model.layers.1.attn.{c}.{kind}"] for c in "qkv"]
            assert fused[f"model.layers.1.attn.qkv.{kind}"].data == b"".join(part.data for part in parts)


def test_a_bf16_file_of_a_bf16_checkpoint_keeps_every_bit(small_lm: Path, every_type: dict[bool, Path]) -> None:
    stored = ggml_tensors(every_type[False] / "mimo-asr-bf16.gguf")["llm.embed.weight"].data
    assert stored == checkpoint_tensors(small_lm)[EMBED].view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(("name", "file_type"), [("f32", 0), ("f16", 1), ("bf16", 32), ("q8_0", 7), ("q4_k", 14)])
def test_a_file_declares_its_type(every_type: dict[bool, Path], name: str, file_type: int) -> None:
    assert gguf_metadata(every_type[True] / f"mimo-asr-{name}.gguf")["general.file_type"] == file_type


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 1000, 10**9])
def test_threads_and_chunks_change_no_byte(
    small_lm: Path,
    every_type: dict[bool, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    chunk: int,
) -> None:
    monkeypatch.setattr(module, "CHUNK_WEIGHTS", chunk)
    run(small_lm, tmp_path, "q4_k", fuse=True, threads=threads)
    assert same_files(tmp_path, every_type[True], "mimo-asr-q4_k.gguf")


def test_several_types_in_one_run_equal_single_runs(
    small_lm: Path, every_type: dict[bool, Path], tmp_path: Path
) -> None:
    for outtype in ("f32", "bf16", "q6_k", "iq4_xs"):
        run(small_lm, tmp_path, outtype)
        assert same_files(tmp_path, every_type[False], f"mimo-asr-{outtype}.gguf")


def same_files(one: Path, other: Path, name: str) -> bool:
    return (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_checkpoints_of_other_float_types_are_read(tmp_path: Path, dtype: str) -> None:
    sizes = {"d_model": 64, "encoder_layers": 3, "encoder_ffn_dim": 64, "num_quantizers": 1, "codebook_size": [16]}
    folder = write_audio_tokenizer(tmp_path / "x", dtype=dtype, n_mels=16, **sizes)
    assert load_file(folder / "model.safetensors")["encoder.conv1.weight"].dtype == getattr(torch, f"float{dtype[1:]}")
    for outtype in ("f32", "f16", "q8_0"):
        path = run(folder, tmp_path, outtype) / f"mimo-tokenizer-{outtype}.gguf"
        check_file(path, folder, audio_tokenizer_names(3, 1), outtype)


@pytest.fixture
def lm(small_lm: Path, tmp_path: Path) -> Path:
    """A speech LM of one's own, to damage."""
    return shutil.copytree(small_lm, tmp_path / "small-lm")


def to_f32(lm: Path, name: str, row: int, value: float) -> None:
    """Make a tensor F32, so that it can hold any `value`, and put it there."""
    edit_tensor(lm, name, lambda tensor: tensor.float())
    set_weight(lm, name, row, value)


@pytest.mark.parametrize("value", [65520.0, -1e30])
@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q4_k", "bf16", "f32"])
def test_a_weight_beyond_f16_keeps_its_tensor_in_f32(lm: Path, tmp_path: Path, outtype: str, value: float) -> None:
    to_f32(lm, UP, 3, value)
    kept = ggml_tensors(run(lm, tmp_path, outtype) / f"mimo-asr-{outtype}.gguf")
    tensor = kept["model.layers.1.ffn.up.weight"]
    assert tensor.type == ("bf16" if outtype == "bf16" else "f32")
    if tensor.type == "f32":
        assert tensor.data == checkpoint_tensors(lm)[UP].numpy().tobytes()
    others = {t.type for name, t in kept.items() if len(t.shape) > 1 and name != "model.layers.1.ffn.up.weight"}
    assert ("f32" in others) == (outtype == "f32")


def test_a_weight_just_within_f16_does_not(lm: Path, tmp_path: Path) -> None:
    below = float(np.nextafter(np.float32(65520), np.float32(0)))
    to_f32(lm, UP, 3, below)
    stored = ggml_tensors(run(lm, tmp_path, "f16") / "mimo-asr-f16.gguf")["model.layers.1.ffn.up.weight"]
    assert stored.type == "f16"
    assert np.frombuffer(stored.data, np.float16).max() == 65504


def test_a_fused_tensor_stays_f32_for_a_weight_of_any_part(lm: Path, tmp_path: Path) -> None:
    to_f32(lm, "model.layers.0.self_attn.v_proj.weight", 0, 1e9)
    run(lm, tmp_path, "q4_k", "bf16", fuse=True)
    for outtype, expected in (("q4_k", "f32"), ("bf16", "bf16")):
        found = ggml_tensors(tmp_path / f"mimo-asr-{outtype}.gguf")
        assert found["model.layers.0.attn.qkv.weight"].type == expected
        assert found["model.layers.1.attn.qkv.weight"].type == outtype


def test_a_norm_beyond_f16_is_exact_as_ever(lm: Path, tmp_path: Path) -> None:
    to_f32(lm, "model.norm.weight", 0, 1e9)
    stored = ggml_tensors(run(lm, tmp_path, "f16") / "mimo-asr-f16.gguf")["llm.final_norm.weight"]
    assert np.frombuffer(stored.data, np.float32)[1] == 1e9


@pytest.mark.parametrize(
    ("value", "what"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (float("-inf"), "infinity")]
)
@pytest.mark.parametrize("outtype", ["f32", "q4_k"])
@pytest.mark.parametrize(("name", "row"), [(UP, 300), (EMBED, 511), ("model.norm.weight", 0)])
def test_what_is_no_number_stops_the_conversion(
    lm: Path, tmp_path: Path, name: str, row: int, value: float, what: str, outtype: str
) -> None:
    set_weight(lm, name, row, value)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"\.safetensors: tensor {name} holds {what} in row {row}; "):
        run(lm, out, outtype)
    assert not out.exists(), list(out.iterdir())


def test_nan_is_found_behind_a_weight_beyond_f16(lm: Path, tmp_path: Path) -> None:
    """The weight makes the conversion begin again; what is no number must still end it."""
    to_f32(lm, EMBED, 0, 1e9)
    set_weight(lm, "local_transformer_lm_heads.7.weight", 16, float("nan"))
    with pytest.raises(InputError, match=r"local_transformer_lm_heads\.7\.weight holds NaN in row 16"):
        run(lm, tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("with_neighbours", [False, True])
def test_a_file_that_is_there_is_kept_unless_forced(
    small_tokenizer: Path, tmp_path: Path, with_neighbours: bool
) -> None:
    there = tmp_path / "mimo-tokenizer-q8_0.gguf"
    there.write_bytes(b"precious")
    outtypes = ["f16", "q8_0"] if with_neighbours else ["q8_0"]
    with pytest.raises(InputError, match=f"^{there}: already exists, .*: not a GGUF file; --force replaces it$"):
        run(small_tokenizer, tmp_path, *outtypes)
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(there, b"precious")]
    run(small_tokenizer, tmp_path, *outtypes, force=True)
    check_file(there, small_tokenizer, audio_tokenizer_names(3, 3), "q8_0")


def test_what_an_interrupted_run_left_is_written_over(small_tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "mimo-tokenizer-f16.gguf.part").write_bytes(bytes(4) + b"x" * 10_000_000)
    run(small_tokenizer, tmp_path, "f16")
    assert [path.name for path in tmp_path.iterdir()] == ["mimo-tokenizer-f16.gguf"]
    check_file(tmp_path / "mimo-tokenizer-f16.gguf", small_tokenizer, audio_tokenizer_names(3, 3), "f16")


def test_a_forced_run_that_fails_keeps_the_file_that_was_there(lm: Path, tmp_path: Path) -> None:
    there = tmp_path / "out" / "mimo-asr-f16.gguf"
    there.parent.mkdir()
    there.write_bytes(b"precious")
    set_weight(lm, UP, 0, float("nan"))
    with pytest.raises(InputError, match="NaN"):
        run(lm, there.parent, "f16", force=True)
    assert [(path, path.read_bytes()) for path in there.parent.iterdir()] == [(there, b"precious")]


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "out"


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


def in_proc(tmp_path: Path) -> Path:
    return Path("/proc/out")


@pytest.mark.parametrize("place", [below_a_file, a_file, in_proc])
def test_a_folder_that_cannot_be_written_is_named(
    small_tokenizer: Path, tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    out = place(tmp_path)
    with pytest.raises(InputError, match=f"^{out}: cannot be made a folder: .*; choose another folder$"):
        run(small_tokenizer, out, "f16")


@pytest.mark.parametrize("name", ["mimo-tokenizer-f16.gguf", "mimo-tokenizer-f16.gguf.part"])
def test_a_folder_under_the_files_name_is_an_error_and_not_a_crash(
    small_tokenizer: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}: (cannot be written: Is a directory|exists and is not a file)"):
        run(small_tokenizer, tmp_path, "f16", force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A checkpoint whose weights are one hole in a file makes a plan that is larger than the disk."""
    disk = os.statvfs(tmp_path)
    folder = write_audio_tokenizer(tmp_path / "x", d_model=64, encoder_layers=3, n_mels=16, num_quantizers=1)
    ffn = disk.f_blocks * disk.f_frsize // (3 * 2 * 64 * 4) + 1
    grow_ffn(folder, ffn)
    with pytest.raises(InputError, match=r"out: [\d,]+ bytes are free; expected [\d,]+ for 1 file; make room"):
        run(folder, tmp_path / "out", "f32")
    assert not (tmp_path / "out").exists()


def grow_ffn(folder: Path, ffn: int) -> None:
    """Give an audio tokenizer's checkpoint `ffn` for its encoder_ffn_dim; the new weights are a hole in its file."""
    config = json.loads((folder / "config.json").read_text())
    d_model = config["d_model"]
    (folder / "config.json").write_text(json.dumps(config | {"encoder_ffn_dim": ffn}))
    shapes = {"fc1.weight": [ffn, d_model], "fc2.weight": [d_model, ffn], "fc1.bias": [ffn]}
    end, header = 0, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        shape = next((shape for key, shape in shapes.items() if name.endswith(key)), list(tensor.shape))
        begin, end = end, end + 2 * int(np.prod([int(n) for n in shape], dtype=object))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)


def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """mimo-convert as a process of its own."""
    command = [sys.executable, "-c", "from mimo_commands.convert import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("room", [0.0, 0.5, 0.99])
def test_a_disk_that_fills_leaves_nothing(small_tokenizer: Path, tmp_path: Path, room: float) -> None:
    """The kernel's own refusal, by a limit on the size of files: it stops every user, root too, on any file system."""
    size = (run(small_tokenizer, tmp_path / "whole", "f16") / "mimo-tokenizer-f16.gguf").stat().st_size
    limit = int(size * room)

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "out"
    process = start(small_tokenizer, "--no-check", "--out", out, preexec_fn=confine)
    _, stderr = process.communicate()
    part = out / "mimo-tokenizer-f16.gguf.part"
    assert stderr == f"error: {part}: cannot be written: File too large; nothing was left behind\n"
    assert process.returncode == 2
    assert not out.exists(), list(out.iterdir())


@pytest.mark.parametrize("n_written", [0, 1, 50])
def test_a_write_that_fails_leaves_nothing(
    small_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    """The one failure that is pretended: no disk can fill once the file's room is set aside, but it can break."""
    pwrite, countdown = os.pwrite, iter(range(n_written))

    def broken(fd: int, data: Any, offset: int) -> int:
        if next(countdown, None) is None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(InputError, match=r"mimo-tokenizer-f16\.gguf.*: cannot be written: Input/output error"):
        run(small_tokenizer, tmp_path, "f16")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    lm = write_speech_lm(tmp_path / "lm")
    out = tmp_path / "out"
    outtypes = [word for name in TYPES for word in ("--outtype", name)]
    outtypes += ["--quantizer", "ggml"]  # many and slow: interrupted long before its end
    write_audio_tokenizer(tmp_path / "tok", num_quantizers=1)

    arguments = [lm, "--tokenizer", tmp_path / "tok", "--no-check", "--threads", 1, "--out", out, *outtypes]
    process = start(*arguments, preexec_fn=heed_interrupts)
    while not list(out.glob("*.part")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "interrupted: nothing was left behind\n")
    assert not out.exists(), list(out.iterdir())
