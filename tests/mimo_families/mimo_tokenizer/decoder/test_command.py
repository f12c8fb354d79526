"""mimo-check on an audio tokenizer with a decoder: the shortest proof of its file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from runtime_check.audio.jfk import JFK
from tests.damage import edit_tensor
from tests.opened import make_request, options_of
from tests.synthetic import write_audio_tokenizer

from .conftest import CONFIG, DecoderOf


def run(*arguments: object) -> Result:
    return CliRunner().invoke(mimo_check, list(map(str, arguments)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the JFK clip."""
    wave, rate = soundfile.read(JFK, dtype="float32")
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, wave[: 2 * rate], rate)
    return path


def test_a_file_is_compared_heard_and_dumped(
    file_of: Callable[[str], Path], checkpoint: Checkpoint, decoder_of: DecoderOf, clip: Path, tmp_path: Path
) -> None:
    names = {name: tmp_path / name for name in ("out.wav", "r.json", "r.html", "dump")}
    options = ["--audio", clip, "--wav", names["out.wav"], "--json", names["r.json"], "--html", names["r.html"]]
    result = run(file_of("f32"), "--reference", checkpoint.folder, *options, "--dump", names["dump"])
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith("PASS")
    codes, wave = (np.load(names["dump"] / f"{name}.npy") for name in ("tok_codes", "wave"))
    np.testing.assert_array_equal(wave, decoder_of("f32").decode(codes))

    heard, rate = soundfile.read(names["out.wav"], dtype="float32")
    facts = soundfile.info(names["out.wav"])
    assert (rate, facts.channels, facts.subtype, len(heard)) == (24_000, 1, "PCM_16", 960 * len(codes))
    np.testing.assert_allclose(heard, np.clip(wave, -1, 1), atol=2**-15)

    [check] = json.loads(names["r.json"].read_text())["checks"]
    figures = {stage["name"]: stage for stage in check["stages"]}
    assert {"dec_codes_embed", "dec_up", "dec_blk_02", "dec_mel", "voc_blk_01", "voc_spec"} <= set(figures)
    assert figures["wave"]["snr_db"] > 90
    assert figures["wave_mel"]["log_mel"] < 1e-5
    assert figures["wave_codes"]["agreement"] == 1
    assert check["task"]["name"] == "round trip"
    page = names["r.html"].read_text()
    assert page.count("<audio controls") == page.count('<img class="spectrogram"') == 2
    assert len(page) < 3_000_000


def test_without_a_reference_the_wave_is_written_alone(
    file_of: Callable[[str], Path], clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.wav"
    result = run(file_of("q8_0"), "--audio", clip, "--wav", out)
    assert result.exit_code == 0, result.output
    assert "NOT COMPARED" in result.stdout
    assert soundfile.info(out).frames == 51 * 960


def test_a_file_without_a_decoder_makes_no_sound(clip: Path, tmp_path: Path, checkpoint: Checkpoint) -> None:
    options = replace(options_of(), without=frozenset({"decoder"}))
    convert([make_request(checkpoint, [TYPES["f16"]], options)], tmp_path, threads=1)
    [file] = tmp_path.glob("*.gguf")
    result = run(file, "--audio", clip, "--wav", tmp_path / "out.wav")
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert line == f"error: {file}: makes no sound; expected a file with a decoder, for --wav"
    assert not (tmp_path / "out.wav").exists()
    alone = run(file, "--audio", clip, "--reference", checkpoint.folder)
    assert alone.exit_code == 0, alone.output
    assert "dec_up" not in alone.stdout


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--static"], "--wav: nothing is run that would make a sound; leave out --wav, or run the file"),
        (["--audio", JFK], "--wav: is of one clip, found 2; run them one by one"),
    ],
)
def test_a_wave_that_could_not_be_written_is_one_clear_error(
    file_of: Callable[[str], Path], clip: Path, tmp_path: Path, options: list[object], what: str
) -> None:
    result = run(file_of("f32"), "--audio", clip, *options, "--wav", tmp_path / "out.wav")
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {what}"


def test_a_window_that_leaves_samples_out_is_one_clear_error(clip: Path, tmp_path: Path) -> None:
    folder = write_audio_tokenizer(tmp_path / "checkpoint", **CONFIG)
    edit_tensor(folder, "decoder.vocoder.head.istft.window", torch.zeros_like)
    convert([make_request(open_checkpoint(str(folder)), [TYPES["f32"]])], tmp_path, threads=1)
    [file] = tmp_path.glob("*.gguf")
    result = run(file, "--audio", clip)
    assert result.exit_code == 2
    assert "tensor voc.window: the squared windows add up to 0" in result.stderr
