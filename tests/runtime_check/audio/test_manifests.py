"""Files, folders and manifests of sounds; several clips in one run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.audio.manifests import find_clips
from tests.opened import TINY_ASR, TINY_REFERENCE


def write_sound(path: Path, seconds: float = 0.5, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(int(seconds * rate)) / 9).astype(np.float32), rate)
    return path


def test_a_folder_is_all_its_sounds_by_name(tmp_path: Path) -> None:
    for name in ("b.wav", "a.flac", "c.ogg", "D.WAV"):
        write_sound(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no sound")
    found = find_clips([tmp_path, JFK])
    assert [sound.path.name for sound in found] == ["D.WAV", "a.flac", "b.wav", "c.ogg", "jfk.wav"]
    assert found[0].seconds == 0.5
    assert [sound.text for sound in found] == [None] * 4 + [JFK_TEXT]


def test_a_manifest_names_sounds_beside_itself_and_what_is_said(tmp_path: Path) -> None:
    write_sound(tmp_path / "sounds" / "a.wav")
    write_sound(tmp_path / "b.wav")
    manifest = tmp_path / "list.jsonl"
    manifest.write_text('{"audio": "sounds/a.wav", "text": "one two"}\n\n{"audio": "b.wav"}\n')
    first, second = find_clips([manifest])
    assert (first.path, first.text) == (tmp_path / "sounds" / "a.wav", "one two")
    assert (second.path, second.text) == (tmp_path / "b.wav", None)


BROKEN: list[tuple[str, str]] = [
    ("{", "list.jsonl:1: is not a manifest entry"),
    ("[]", "list.jsonl:1: is not a manifest entry"),
    ('{"text": "one"}', "list.jsonl:1: is not a manifest entry"),
    ('{"audio": 7}', "list.jsonl:1: is not a manifest entry"),
    ('{"audio": "a.wav", "text": 7}', "list.jsonl:1: is not a manifest entry"),
    ('{"audio": "a.wav"}\n{"audio": "a.wav", "txt": "one"}', "list.jsonl:2: has the unknown key 'txt'; did you"),
    ('{"audio": "a.wav", "txt": "one"}', "did you mean 'text'?"),
    (
        '{"audio": "a.wav", "duration": 1.5}',
        "has the unknown key 'duration'; expected one of audio, text",
    ),
    ('{"audio": "a.wav", "text": "…!"}', "list.jsonl:1: '…!' has no words"),
    ('{"audio": "a.wav"}\n{"audio": "absent.wav"}', "absent.wav: no such file"),
    ("\n\n", "list.jsonl: names no audio files"),
    ("\udcff", "list.jsonl: is not UTF-8: byte 0; expected a manifest of JSON lines"),
]


@pytest.mark.parametrize(("lines", "message"), BROKEN)
def test_a_broken_manifest_is_one_clear_error(tmp_path: Path, lines: str, message: str) -> None:
    write_sound(tmp_path / "a.wav")
    manifest = tmp_path / "list.jsonl"
    manifest.write_bytes(lines.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as error:
        find_clips([manifest])
    assert message in str(error.value)


def test_a_folder_without_sounds_and_a_text_for_many_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no audio files"):
        find_clips([tmp_path])
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "b.wav")
    with pytest.raises(InputError, match="--text: is the text of one clip, found 2; give a manifest"):
        find_clips([tmp_path], "one two")
    with pytest.raises(InputError, match="--text: '!' has no words"):
        find_clips([tmp_path / "a.wav"], "!")


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    assert run(mimo_convert, "tiny", "--no-check", "--out", out).exit_code == 0
    return out / "mimo-asr-f16.gguf"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """JFK, JFK as if half of it were said, and a part of it of which nothing is known."""
    wave, rate = soundfile.read(JFK, dtype="float32")
    soundfile.write(tmp_path / "again.flac", wave, rate)
    soundfile.write(tmp_path / "part.wav", wave[: 3 * rate], rate)
    half = " ".join(JFK_TEXT.split()[:11])
    entries = [
        {"audio": str(JFK)}, {"audio": "again.flac", "text": half}, {"audio": "part.wav"},
    ]  # fmt: skip
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    return path


def test_several_clips_are_transcribed_in_one_run_with_errors_each_and_in_all(
    tiny: Path, manifest: Path, tmp_path: Path
) -> None:
    result = run(mimo_check, tiny, "--audio", manifest, "--json", tmp_path / "r.json", "--language", "english")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("bits per weight") == 2, "each file is described once"
    assert result.stdout.count(f"transcript  {JFK_TEXT}") == 2
    assert "2 clips with a reference text, 33 words, 11 errors: word error rate 33.3%" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert [check["words"] and check["words"]["rate"] for check in report["checks"]] == [0, 1, None]
    assert (report["words"]["clips"], report["words"]["words"]["rate"]) == (2, 11 / 33)
    assert len({check["timings"]["load_s"] for check in report["checks"]}) == 1, "weights are loaded once"


def test_each_clip_is_compared_with_the_checkpoint(tiny: Path, manifest: Path, tmp_path: Path) -> None:
    reference = "--reference", TINY_ASR, "--reference-tokenizer", "tiny"
    result = run(mimo_check, tiny, "--audio", manifest, *reference, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    checks = json.loads((tmp_path / "r.json").read_text())["checks"]
    assert [check["passed"] for check in checks] == [True] * 3
    assert [check["task"]["language"] for check in checks] == ["english", "auto", "auto"]


def test_stages_of_several_clips_are_dumped_into_a_folder_each(tiny: Path, manifest: Path, tmp_path: Path) -> None:
    result = run(mimo_check, tiny, "--audio", manifest, "--dump", tmp_path / "stages")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["again.flac", "jfk.wav", "part.wav"]
    assert np.load(tmp_path / "stages" / "jfk.wav" / "tok_codes.npy").shape == (276, 8)


def test_a_stored_reference_is_of_one_clip(tiny: Path, manifest: Path) -> None:
    stored = TINY_REFERENCE
    result = run(mimo_check, tiny, "--audio", manifest, "--reference", stored)
    assert result.exit_code == 2
    assert "again.flac: is not the clip that the reference was made from" in result.stderr
    assert "transcript" not in result.stdout, "known before anything is run"


def test_long_sound_is_cut_into_chunks_and_read_in_one_prompt(tiny: Path, tmp_path: Path) -> None:
    """70 s: three chunks, 439 groups of codes, and every stage is the reference's."""
    wave, rate = soundfile.read(JFK, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(wave, 7)[: 70 * rate], rate)
    result = run(mimo_check, tiny, "--audio", tmp_path / "long.wav", "--reference", TINY_ASR,
                 "--reference-tokenizer", "tiny", "--max-new-tokens", 40, "--json", tmp_path / "r.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    [check] = json.loads((tmp_path / "r.json").read_text())["checks"]
    shapes = {stage["name"]: stage["shape"] for stage in check["stages"]}
    assert shapes["tok_pool"] == [1753, 256]  # 751, 751 and 251 frames, each chunk on its own
    assert shapes["layer_01"] == [439 + 21, 256]


def test_what_a_manifest_says_is_known_before_a_conversion(tmp_path: Path) -> None:
    result = run(mimo_convert, "tiny", "--audio", tmp_path / "absent.wav", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "absent.wav: no such file" in result.stderr
    assert not (tmp_path / "out").exists()
