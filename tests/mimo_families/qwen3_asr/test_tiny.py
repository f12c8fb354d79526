"""The bundled checkpoint: what `mimo-convert tiny-qwen3` relies on."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors import safe_open
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_commands.convert import main as mimo_convert
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.qwen3_asr.layout import FAMILY
from mimo_families.qwen3_asr.system import TINY
from quantize.types import TYPES
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.text.tokenizer import PRE_TOKENIZERS, TextTokenizer
from tools.train_tiny.files import read_weights
from tools.train_tiny.weights import TinyWeights
from tools.train_tiny_qwen3.model import RATE
from tools.train_tiny_qwen3.text import Prompts
from tools.train_tiny_qwen3.transcribe import transcribe

from .tiny_clips import MODEL, Known, converted, heard, known_clips, quiet

PUBLISHED_FIRST_ADDED = 151_643
PUBLISHED_IDS = {  # of the published vocabulary
    "<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645, "<tool_call>": 151_657,
    "<think>": 151_667, "<|audio_start|>": 151_669, "<|audio_end|>": 151_670, "<non_speech>": 151_675,
    "<|audio_pad|>": 151_676, "<blank1>": 151_677, "<blank27>": 151_703, "<asr_text>": 151_704,
}  # fmt: skip


def test_everything_of_the_family_together_is_small_enough_to_be_committed() -> None:
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) <= 6_000_000


def test_the_checkpoint_is_written_as_the_published_one() -> None:
    shards = [safe_open(path, "np") for path in sorted(MODEL.glob("*.safetensors"))]
    index = json.loads((MODEL / "model.safetensors.index.json").read_text())
    assert {name for shard in shards for name in shard.keys()} == index["weight_map"].keys()  # noqa: SIM118
    assert {shard.get_slice(name).get_dtype() for shard in shards for name in shard.keys()} == {"BF16"}  # noqa: SIM118
    assert {name.split(".")[0] for name in index["weight_map"]} == {"thinker"}
    assert "thinker.lm_head.weight" in index["weight_map"]
    config = json.loads((MODEL / "config.json").read_text())
    assert config["thinker_config"]["text_config"]["tie_word_embeddings"] is True


def library_tokenizer() -> Tokenizer:
    """The checkpoint's tokenizer, by the `tokenizers` library alone."""
    tokenizer = Tokenizer(BPE.from_file(str(MODEL / "vocab.json"), str(MODEL / "merges.txt")))
    added = json.loads((MODEL / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    for number in sorted(map(int, added)):
        token = added[str(number)]
        tokenizer.add_tokens([AddedToken(token["content"], special=token["special"], normalized=False)])
        assert tokenizer.token_to_id(token["content"]) == number
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRE_TOKENIZERS["qwen2"]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_added_tokens_stand_in_the_published_order() -> None:
    tokenizer = library_tokenizer()
    first = tokenizer.token_to_id("<|endoftext|>")
    ids = {token: tokenizer.token_to_id(token) - first + PUBLISHED_FIRST_ADDED for token in PUBLISHED_IDS}
    assert ids == PUBLISHED_IDS


@pytest.mark.parametrize(
    "text", [known.text for known in known_clips()] + ["<|im_start|>system\n<|audio_pad|>", "ä你 x"]
)
def test_ids_are_those_of_the_tokenizers_library(text: str) -> None:
    assert FAMILY.text is not None
    ours = TextTokenizer.from_checkpoint(open_checkpoint(str(MODEL)), 640, FAMILY.text)
    assert ours.encode(text) == library_tokenizer().encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("known", known_clips(), ids=lambda known: known.path.stem)
def test_the_training_codes_own_forward_pass_transcribes(known: Known) -> None:
    """It shares no layer of the tower, front end or prompt with the family's reference and harness."""
    samples, rate = soundfile.read(known.path, dtype="float32")
    assert rate == RATE
    answer = transcribe(torch.from_numpy(samples), TinyWeights(read_weights(MODEL)), Prompts(library_tokenizer()))
    assert answer == f"language {known.language}<asr_text>{known.text}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("tiny-qwen3"), "--outtype", "f16", "--outtype", "q8_0")


@pytest.mark.parametrize("outtype", ["f16", "q8_0"])
def test_clips_are_heard_word_for_word_in_their_language(files: Path, outtype: str) -> None:
    """Of two languages, in one to three windows of attention, and of lengths that end within a chunk."""
    clips = known_clips()
    found = heard(files / f"qwen3-asr-{outtype}.gguf", [known.path for known in clips])
    assert found == [(known.language, known.text) for known in clips]


@pytest.mark.parametrize("outtype", ["f16", "q8_0"])
def test_silence_and_soft_noise_are_no_language(files: Path, outtype: str, tmp_path: Path) -> None:
    clips = [quiet(tmp_path, 3), quiet(tmp_path, 0.4), quiet(tmp_path, 9.7), quiet(tmp_path, 2, 1e-3)]
    assert heard(files / f"qwen3-asr-{outtype}.gguf", clips) == [("", "")] * len(clips)


@pytest.mark.parametrize("known", known_clips()[:3], ids=lambda known: known.path.stem)
def test_with_a_forced_language_and_a_context_the_words_are_the_same(files: Path, known: Known) -> None:
    options = ["--language", known.language.lower(), "--context", "The library"]
    [(_, text)] = heard(files / "qwen3-asr-f16.gguf", [known.path], *options)
    assert text == known.text


def test_the_self_test_passes_in_every_type(tmp_path: Path) -> None:
    """Every stage beside PyTorch, on JFK, and the words."""
    types = [argument for outtype in TYPES for argument in ("--outtype", outtype)]
    result = CliRunner().invoke(mimo_convert, ["tiny-qwen3", *types, "--out", str(tmp_path), "--audio", str(JFK)])
    assert result.exit_code == 0, result.output
    assert result.stdout.count(f"transcript  {JFK_TEXT}\n") == len(TYPES)
