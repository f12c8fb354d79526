"""Transcription by MiMo-Audio, which encodes a clip as a whole and names no language, beside MiMo-V2.5-ASR."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.stages import PROMPT, ROLE
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import Activations
from runtime_check.run.system import Task
from runtime_check.text.tokenizer import TextTokenizer
from tests.conftest import SMALL_LM, SMALL_TOKENIZER
from tests.opened import make_request, open_pair, options_of
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
