"""Transcription by MiMo-Audio, which encodes a clip as a whole and names no language, beside MiMo-V2.5-ASR."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.layout import EDITIONS
from mimo_families.mimo_audio.stages import PROMPT, ROLE
from mimo_families.mimo_audio.system import hearing
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from mimo_families.registry import families
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Activations
from runtime_check.run.system import Task
from runtime_check.text.tokenizer import TextTokenizer
from tests.conftest import SMALL_LM, SMALL_TOKENIZER
from tests.opened import make_request, open_pair, options_of, paths_of
from tests.runtime_check.conftest import Converter
from tests.synthetic import write_audio_tokenizer, write_speech_lm
from tests.system.once import once

ENCODER = SMALL_TOKENIZER | {"num_quantizers": 8, "codebook_size": [32, 32] + [16] * 6}
TASK = Task(language="english", max_new_tokens=1)
Runs = tuple[TextTokenizer, Activations, Activations]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runs]:
    """The text tokenizer of a file, its run on a clip of 61 s, and its reference's, by `architectures`."""
    wave = np.random.default_rng(0).standard_normal(61 * 24_000).astype(np.float32) / 10
    clip = Clip(Path("long.wav"), wave, 24_000, "0" * 64)

    def make(architecture: str) -> Runs:
        def write(folder: Path) -> None:
            names = {"architectures": [architecture], "max_position_embeddings": 1024}
            write_speech_lm(folder / "instruct", **SMALL_LM, **names)
            write_audio_tokenizer(folder / "tokenizer", **ENCODER)
            for name in ("instruct", "tokenizer"):
                convert([make_request(opened(folder / name), [TYPES["f32"]], options_of(False))], folder, threads=1)

        folder = once(tmp_path_factory, architecture, write)
        [lm] = [path for path in folder.glob("*-f32.gguf") if "tokenizer" not in path.name]
        system = open_pair(lm, folder / "mimo-tokenizer-f32.gguf", 1)
        assert system.text is not None
        checkpoints = {ROLE: opened(folder / "instruct"), TOKENIZER: opened(folder / "tokenizer")}
        return system.text, system.run(clip, TASK), reference.run(checkpoints, clip, TASK, None, "f32")

    return make


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder))


@pytest.mark.parametrize(("architecture", "tag"), [("MiMoAudioModel", ""), ("MiMoV2ASRForCausalLM", "<english>")])
def test_a_long_clip(runs: Callable[[str], Runs], architecture: str, tag: str) -> None:
    text, ours, theirs = runs(architecture)
    np.testing.assert_array_equal(ours.stages[PROMPT], theirs.stages[PROMPT])
    np.testing.assert_array_equal(ours.stages[CODES], theirs.stages[CODES])
    frames = len(ours.stages["tok_mel"])
    assert frames == (3001 + 3001 + 101 if tag else 6101)  # one spectrogram, or one of each 30 s
    last = text.encode("<think>\n\n</think>\n" + tag)
    assert ours.stages[PROMPT][0, ::4].tolist()[-len(last) :] == last


@pytest.mark.parametrize("lm_type", ["f16", "q4_0"])
def test_codes_of_another_file_s_run_give_the_same_bits(converted: Converter, jfk: Clip, lm_type: str) -> None:
    other, tokenizer = converted("f16")
    codes = {CODES: open_pair(other, tokenizer).run(jfk, TASK).stages[CODES]}
    system = open_pair(converted(lm_type)[0], tokenizer)
    alone, shared = system.run(jfk, TASK), system.run(jfk, TASK, heard=codes)
    assert "tokenize_s" not in shared.timings
    assert shared.transcript == alone.transcript
    of_lm = [name for name in alone.stages if not name.startswith("tok_")]
    for name in (CODES, *of_lm):
        np.testing.assert_array_equal(shared.stages[name], alone.stages[name])
    response = {**alone.stages, RESPONSE: alone.stages[GREEDY][:1]}
    forced = [system.teacher_force(run, response, TASK)[RESPONSE_LOGITS] for run in (alone, shared)]
    np.testing.assert_array_equal(*forced)


def test_codes_of_another_model_are_refused(converted: Converter, jfk: Clip) -> None:
    system = open_pair(*converted("f16"))
    for codes in (np.full((8, 8), 1 << 20, np.int32), np.zeros((8, 2), np.int32)):
        with pytest.raises(InputError, match="codes"):
            system.run(jfk, TASK, heard={CODES: codes})


def test_models_that_speak_hear_in_another_way(converted: Converter) -> None:
    lm, tokenizer = converted("f16")
    files = OpenFiles(families())
    of_recognition = {role: files.model(path) for role, path in paths_of(lm, tokenizer).items()}
    of_speaking = {
        **of_recognition,
        ROLE: SimpleNamespace(
            dims=files.model(lm).dims, file=SimpleNamespace(metadata={"general.basename": EDITIONS[0].basename})
        ),
    }
    assert hearing(of_recognition).endswith("chunks")
    assert hearing(of_speaking) != hearing(of_recognition)
