"""mimo-check transcribe, as a user runs it: words on stdout, everything else elsewhere."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from runtime_check.audio.jfk import JFK, JFK_TEXT
from tests.gguf_edit import Key, rewrite
from tests.system.once import once

SCRIPT = Path(sys.executable).with_name("mimo-check")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech LM of a converted tiny pair, its audio tokenizer beside it."""

    def make(out: Path) -> None:
        arguments = ["tiny", "--outtype", "q8_0", "--out", str(out), "--no-check"]
        assert CliRunner().invoke(mimo_convert, arguments).exit_code == 0

    return once(tmp_path_factory, "tiny-q8_0", make) / "mimo-asr-q8_0.gguf"


def transcribe(file: Path, *arguments: object, **more: bytes) -> Result:
    return CliRunner().invoke(mimo_check, ["transcribe", str(file), *map(str, arguments)], **more)  # type: ignore[arg-type]


def test_words_and_nothing_else(pair: Path, tmp_path: Path) -> None:
    found = transcribe(pair, "--audio", JFK)
    assert (found.exit_code, found.stdout, found.stderr) == (0, f"{JFK_TEXT}\n", "")
    out = tmp_path / "words.txt"
    found = transcribe(pair, "--audio", JFK, "--audio", JFK, "-o", out)
    assert (found.exit_code, found.stdout, out.read_text()) == (0, "", f"{JFK_TEXT}\n" * 2)


def test_from_standard_input(pair: Path) -> None:
    """A real pipe, through the console script."""
    command = [SCRIPT, "transcribe", pair, "--audio", "-", "--language", "english", "-o", "-"]
    with JFK.open("rb") as sound:
        found = subprocess.run(command, stdin=sound, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{JFK_TEXT}\n", "")


def test_other_formats(pair: Path) -> None:
    both = ["--audio", JFK, "--audio", JFK]
    objects = [json.loads(line) for line in transcribe(pair, *both, "--format", "json").stdout.splitlines()]
    assert [(one["audio"], one["text"]) for one in objects] == [(str(JFK), JFK_TEXT)] * 2
    head, *rows = transcribe(pair, *both, "--format", "tsv").stdout.splitlines()
    assert head == "audio\tpiece_begin\tpiece_end\ttext"
    assert rows == [f"{JFK}\t0.000\t11.000\t{JFK_TEXT}"] * 2
    assert transcribe(pair, "--audio", JFK, "--format", "srt").stdout == (
        f"1\n00:00:00,000 --> 00:00:11,000\n{JFK_TEXT}\n\n"
    )
    found = transcribe(pair, *both, "--format", "srt")
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr == "error: --format srt: is for one clip, found 2; use --format tsv, or json\n"


def test_audio_that_the_context_cannot_hold_is_cut_in_pauses(pair: Path, tmp_path: Path) -> None:
    """A context of 13 s, of which the pieces of four times JFK with pauses between have one each."""
    context = 25 + 13 * 25 // 4 + 256  # positions of the prompt's text, 13 s of audio, and the longest response

    def smaller(key: Key) -> Key:
        return key._replace(value=context) if key.name == "mimo_asr.llm.max_position_embeddings" else key

    small = rewrite(pair, tmp_path / "mimo-asr-small.gguf", keys=smaller)
    wave, rate = soundfile.read(JFK, dtype="float32")
    silence = np.zeros(rate, np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([wave, silence] * 4), rate)
    options = ["--tokenizer", pair.with_name("mimo-tokenizer-q8_0.gguf"), "--audio", tmp_path / "long.wav"]
    found = transcribe(small, *options, "--language", "english", "--format", "tsv")
    assert found.exit_code == 0, found.stderr
    rows = [line.split("\t") for line in found.stdout.splitlines()[1:]]
    assert len(rows) == 4
    for n, (_, begin, end, text) in enumerate(rows):
        assert abs(float(begin) - 12 * n) < 1, "in the pause"
        assert float(end) - float(begin) <= 13
        assert text.startswith("And so, my fellow Americans, ask not what your country can do for you")


def test_a_growing_file_is_followed_to_its_end(pair: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(JFK, dtype="float32")
    path, ended = tmp_path / "grows.wav", []
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        file.write(wave[: rate * 5])

    def record() -> None:
        for begin in range(rate * 5, len(wave), rate):
            time.sleep(0.1)
            with soundfile.SoundFile(path, "r+") as file:
                file.seek(0, soundfile.SEEK_END)
                file.write(wave[begin : begin + rate])
        ended.append(time.monotonic())

    recorder = threading.Thread(target=record)
    recorder.start()
    found = transcribe(pair, "--audio", path, "--follow", "--idle", "1.5s", "--language", "english")
    recorder.join()
    assert (found.exit_code, found.stdout, found.stderr) == (0, f"{JFK_TEXT}\n", "")
    assert time.monotonic() - ended[0] >= 1.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--audio", "absent.wav"], "absent.wav: no such file; expected a wav, flac, ogg or mp3 file"),
        (["--audio", JFK, "--audio", JFK, "--follow"], "--follow: is for one audio file, found 2; start a command for"),
        (["--audio", JFK, "--language", "klingon"], "--language: 'klingon'; expected english or chinese"),
    ],
)
def test_bad_input_is_one_line(pair: Path, options: list[object], says: str) -> None:
    found = transcribe(pair, *options)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"error: {says}")
    assert found.stderr.count("\n") == 1


def test_an_audio_tokenizer_writes_no_words(pair: Path) -> None:
    found = transcribe(pair.with_name("mimo-tokenizer-q8_0.gguf"), "--audio", JFK)
    assert found.exit_code == 2
    assert "is an audio tokenizer, which writes no words; give the file that it belongs to" in found.stderr
