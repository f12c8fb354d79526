"""mimo-check --task: what is spoken and written in reply, by a small random pair."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_tokenizer.decoder.harness import SpeechDecoder
from quantize.types import TYPES
from runtime_check.audio.jfk import JFK
from runtime_check.ggml.graph import Backend, Weights
from tests.opened import make_request, model_file, options_of
from tests.speaking_pair import ENCODER, TOKENIZER, write_speaking_pair
from tests.synthetic import ADDED_TOKENS, write_audio_tokenizer
from tests.system.once import once

SCRIPT = Path(sys.executable).with_name("mimo-check")
EMPTY, SOSTM, EOSTM = (512 - 7 - 30 + ADDED_TOKENS.index(token) for token in ("<|empty|>", "<|sostm|>", "<|eostm|>"))
SPEAK = ["--task", "speak", "--text", "so it is", "--max-new", "24"]


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "speaking-pair", write_speaking_pair) / "mimo-asr-f32.gguf"


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def spoken(lm: Path, out: Path, *options: object) -> tuple[bytes, dict[str, Any]]:
    """The wave and the check of a task."""
    found = check(lm, *SPEAK, "--wav", out / "a.wav", "--json", out / "a.json", "--dump", out, *options)
    assert found.exit_code == 0, found.output
    [one] = json.loads((out / "a.json").read_text())["checks"]
    return (out / "a.wav").read_bytes(), one


def heard_codes(out: Path) -> np.ndarray:
    """The codes among the generated groups, (frames, 8): behind `<|sostm|>`, up to `<|eostm|>`, without the last group,
    and without frames whose first code says that there is none."""
    ids, blocks = (np.load(out / f"gen_{name}.npy")[:-1] for name in ("text_ids", "blocks"))
    begin = ids.tolist().index(SOSTM) + 1 if SOSTM in ids else 0
    end = ids.tolist().index(EOSTM) if EOSTM in ids else len(ids)
    frames = blocks[begin:end].reshape(-1, 8)
    return frames[frames[:, 0] != 32]


def test_a_text_is_spoken(lm: Path, tmp_path: Path) -> None:
    _, one = spoken(lm, tmp_path, "--seed", 3, "--html", tmp_path / "a.html", "--junit", tmp_path / "a.xml")
    codes = heard_codes(tmp_path)
    assert len(codes) > 4
    model = model_file(lm.with_name(TOKENIZER))
    expected = SpeechDecoder(model, Weights(model.file), Backend(1)).decode(codes)
    assert len(expected) == 960 * len(codes)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    whole, _ = soundfile.read(tmp_path / "a.wav")
    assert (rate, len(samples)) == (24_000, len(expected))
    assert np.abs(whole - np.clip(expected, -1, 1)).max() < 2e-3
    speech = one["speech"]
    assert speech["seconds"] == pytest.approx(len(codes) / 25)
    assert speech["groups"] == len(np.load(tmp_path / "gen_text_ids.npy")) <= 24
    assert (one["clip"]["text"], one["words"]["words"], one["task"]["name"]) == ("so it is", 3, "speak")
    assert (one["clip"]["seconds"], one["clip"]["rate"]) == (speech["seconds"], 24_000)
    assert speech["sampling"] == {"temperature": 0.6, "local_temperature": 0.9, "local_top_p": 0.95}
    assert one["token_ids"] == np.load(tmp_path / "gen_text_ids.npy").tolist()
    page = (tmp_path / "a.html").read_text()
    assert all(part in page for part in ("<audio controls", "Heard</h3>", "behind a prompt of"))
    assert 'name="spoken"' in (tmp_path / "a.xml").read_text()


def test_the_seed_decides(lm: Path, tmp_path: Path) -> None:
    first, again, other = (spoken(lm, tmp_path, "--seed", seed)[0] for seed in (3, 3, 4))
    assert first == again != other
    greedy, one = spoken(lm, tmp_path, "--greedy", "--seed", 5)
    assert greedy == spoken(lm, tmp_path, "--greedy")[0]
    assert one["speech"]["sampling"] == {"temperature": 0, "local_temperature": 0}


def test_a_stream_is_the_same_on_stdout_as_in_a_file(lm: Path, tmp_path: Path) -> None:
    options = [*SPEAK, "--seed", "3", "--stream"]
    assert check(lm, *options, tmp_path / "a.wav").exit_code == 0
    piped = subprocess.run([SCRIPT, lm, *options, "-"], capture_output=True)
    assert (piped.returncode, piped.stdout[:4], piped.stdout[36:40]) == (0, b"RIFF", b"data")
    assert piped.stdout[44:] == (tmp_path / "a.wav").read_bytes()[44:]
    assert b"heard" in piped.stderr
    spoken(lm, tmp_path, "--seed", 3)
    assert len(piped.stdout) == (tmp_path / "a.wav").stat().st_size == 44 + 2 * 960 * len(heard_codes(tmp_path))


def prompt(lm: Path, *options: object) -> list[int]:
    found = check(lm, "--prompt-only", *options)
    assert (found.exit_code, found.stderr, found.stdout.count("\n")) == (0, "", 1), found.output
    return list(map(int, found.stdout.split()))


def test_a_prompt_alone_is_a_line_of_ids(lm: Path, tmp_path: Path) -> None:
    alone = tmp_path / lm.name
    alone.symlink_to(lm)
    said = prompt(alone, "--task", "speak", "--text", "so it is")  # without the audio tokenizer
    assert said == prompt(lm, "--task", "speak", "--text", "SO IT IS")
    assert said[-1] == SOSTM
    spoken(lm, tmp_path, "--seed", 3)
    assert np.load(tmp_path / "prompt_ids.npy")[0, ::4].tolist() == said
    heard = prompt(lm, "--task", "transcribe", "--audio", JFK)
    assert heard.count(EMPTY) == 69
    assert heard == prompt(lm, "--task", "transcribe")


def test_a_dialogue_goes_on_from_its_history(lm: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.npy"
    options = ["--task", "chat", "--max-new", "8", "--seed", "1", "--dump", tmp_path]
    assert check(lm, *options, "--text", "hello", "--save-history", history).exit_code == 0
    first = prompt(lm, "--task", "chat", "--text", "hello")
    said = np.load(tmp_path / "gen_text_ids.npy").tolist()
    assert np.load(history)[0, ::4].tolist() == first + said
    second = prompt(lm, "--task", "chat", "--text", "and you", "--history", history)
    assert second == first + said + prompt(lm, "--task", "chat", "--text", "and you")


def test_a_dialogue_from_a_file(lm: Path, tmp_path: Path) -> None:
    turns = tmp_path / "turns.jsonl"
    turns.write_text(
        f'{{"role": "user", "text": "hi", "audio": "{JFK}"}}\n{{"role": "assistant", "text": "so", "audio": "{JFK}"}}\n'
    )
    written = prompt(lm, "--task", "chat", "--dialogue", turns, "--text", "and")
    assert EMPTY not in written
    spoke = prompt(lm, "--task", "dialogue", "--dialogue", turns, "--audio", JFK)
    assert spoke.count(EMPTY) == 3 * 69
    heard = prompt(lm, "--task", "dialogue", "--reply", "text", "--dialogue", turns, "--audio", JFK)
    assert heard.count(EMPTY) == 2 * 69
    found = check(lm, "--task", "chat", "--dialogue", turns, "--text", "and", "--max-new", 4)
    assert (found.exit_code, "reply " in found.stdout, "heard" in found.stdout) == (0, True, False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "speak"], "--task speak: needs --text"),
        (["--task", "speak", "--text", "…"], "--text: '…' has no words"),
        (["--task", "understand", "--question", "Who?"], "--task understand: needs --audio"),
        (["--task", "chat"], "--task chat: needs --text or --dialogue"),
        (["--voice", JFK], "--voice: is not for --task transcribe; --task speak, --task dialogue --reply"),
        (["--task", "chat", "--text", "a", "--stream", "a.wav"], "--stream: is not for --task chat; --task speak,"),
        ([*SPEAK, "--question", "b"], "--question: is not for --task speak; --task understand takes it"),
        ([*SPEAK, "--reply", "text"], "--reply: text, but --task speak replies with speech; leave it out"),
        ([*SPEAK, "--static"], "--static: is not for --task speak; leave it out"),
        ([*SPEAK, "--voice", JFK], "--voice: is not heard without a style; add --instruct, or --as-is"),
        ([*SPEAK, "--greedy", "--top-p", "0.5"], "--top-p: and --greedy: nothing is drawn; give one of them"),
        ([*SPEAK, "--wav", "absent/a.wav"], "absent/a.wav: cannot be written: its folder does not exist"),
        (["--task", "chat", "--dialogue", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--task", "chat", "--text", "a", "--history", JFK], f"{JFK}: is not a sequence of ids; expected what"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(lm: Path, options: list[object], says: str) -> None:
    found = check(lm, *options)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"error: {says}")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ('{"role": "user", "text": "a"}\n{"role": "assistant", "text": "b"}', ":2: is the assistant's; expected the"),
        ('{"role": "user", "audio": "JFK"}', ":1: has no text; expected one in each turn of the user"),
    ],
)  # fmt: skip
def test_a_dialogue_that_cannot_be_answered(lm: Path, tmp_path: Path, turns: str, says: str) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(turns.replace("JFK", str(JFK)))
    found = check(lm, "--task", "chat", "--dialogue", path)
    assert found.stderr.startswith(f"error: {path}{says}")


def test_files_that_do_not_speak(lm: Path, tmp_path: Path) -> None:
    found = check(lm.with_name(TOKENIZER), *SPEAK)
    assert found.stderr == "error: --task: speak: files of mimo_tokenizer do not speak; expected transcribe\n"
    checkpoint = open_checkpoint(str(write_audio_tokenizer(tmp_path / "encoder", **ENCODER)))
    convert([make_request(checkpoint, [TYPES["f32"]], options_of(False))], tmp_path, threads=1)
    found = check(lm, *SPEAK, "--tokenizer", tmp_path / TOKENIZER)
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    assert f"{TOKENIZER}: has no decoder, so it can only encode; convert the audio tokenizer again" in found.stderr
    assert (
        check(lm, "--task", "chat", "--text", "so", "--tokenizer", tmp_path / TOKENIZER, "--max-new", 2).exit_code == 0
    )


def test_a_history_of_another_model_is_refused(lm: Path, tmp_path: Path) -> None:
    path = tmp_path / "history.npy"
    for wrong, says in (
        (np.zeros((9, 3), np.int32), "holds int32 of the shape (9, 3); expected whole numbers of the shape (9, a"),
        (np.full((9, 4), 1 << 20), "holds ids that the model does not have; expected what --save-history wrote"),
    ):  # fmt: skip
        np.save(path, wrong)
        found = check(lm, "--task", "chat", "--text", "a", "--history", path)
        assert found.stderr.startswith(f"error: --history: {says}")
