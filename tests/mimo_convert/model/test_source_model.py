"""A model is the same one whatever it is stored in: a checkpoint, or a GGUF file of any type and layout."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.gguf import Entry
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.gguf_facts import RECIPE
from mimo_convert.model.source_model import SourceModel, metadata_of_type
from mimo_convert.plan.plan import make_plan
from mimo_convert.plan.request import Request
from mimo_convert.write.convert import convert
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.contract import is_speech_generation, speech_lm_names
from tests.gguf_edit import Key, rewrite
from tests.mimo_convert.plan.test_plan import OUTTYPES, RULES, lay_out
from tests.opened import model_of_checkpoint, model_of_file, options_of
from tests.readers import checkpoint_tensors, ggml_tensors

QKV = "model.layers.0.attn.qkv.weight"
ROWS = {"q": (0, 128), "k": (128, 192), "v": (192, 256)}  # of Q, K and V in it


@pytest.fixture(scope="module")
def lm(small_lm: Path) -> SourceModel:
    return model_of_checkpoint(open_checkpoint(str(small_lm)))


Made = Callable[[bool], Path]


@pytest.fixture(scope="module")
def files(lm: SourceModel, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The small speech LM in F32, by layout."""
    made = {}
    for fused in (False, True):
        out = tmp_path_factory.mktemp("lm")
        convert([Request(lm, [TYPES["f32"]], options_of(fused))], out, threads=2)
        made[fused] = out / "mimo-asr-f32.gguf"
    return lambda fused: made[fused]


def told(folder: Path) -> dict[str, str]:
    """What a file of this checkpoint tells of how it was made."""
    hashes = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.glob("*.safetensors"))
    )
    return {"mimo_convert.shards": hashes, "mimo_convert.version": version("mimo-convert")}


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_a_file_holds_what_the_checkpoint_held(small_lm: Path, lm: SourceModel, files: Made, fused: bool) -> None:
    model, weights = model_of_file(files(fused)), checkpoint_tensors(small_lm)
    assert (model.layout.fuse_qkv, bool(model.layout.without), model.family) == (fused, False, lm.family)
    assert model.dims == replace(lm.dims, rms_norm_eps=float(np.float32(lm.dims.rms_norm_eps)))
    assert model.tensors.keys() == lm.tensors.keys() == weights.keys()
    for found, expected in zip(
        model.metadata, metadata_of_type(lm.metadata, TYPES["f32"].file_type, told(small_lm)), strict=True
    ):
        exact = expected.value_type != GGUFValueType.FLOAT32
        value = expected.value if exact else float(np.float32(expected.value))
        assert (found.key, found.value_type) == (expected.key, expected.value_type)
        assert np.array_equal(found.value, value), found.key
    for name, tensor in model.tensors.items():
        assert tensor.file == files(fused)
        assert tensor.shape == tuple(weights[name].shape)
        assert np.array_equal(tensor.read_float32().reshape(tensor.shape), weights[name].float().numpy()), name


def test_a_part_of_a_fused_tensor_goes_by_its_rows(lm: SourceModel, files: Made) -> None:
    separate, fused = model_of_file(files(False)), model_of_file(files(True))
    whole = ggml_tensors(files(True))[QKV].data
    for part, (begin, end) in ROWS.items():
        name = f"model.layers.0.self_attn.{part}_proj"
        assert separate.tensors[f"{name}.weight"].name == f"model.layers.0.attn.{part}.weight"
        assert fused.tensors[f"{name}.weight"].name == f"{QKV}[{begin}:{end}]"
        assert fused.tensors[f"{name}.bias"].name == f"model.layers.0.attn.qkv.bias[{begin}:{end}]"
        assert fused.tensors[f"{name}.weight"].read().tobytes() == whole[4 * 256 * begin : 4 * 256 * end]


@given(OUTTYPES, st.booleans(), st.booleans(), RULES)
def test_any_planned_file_is_planned_again_from_itself(
    lm: SourceModel,
    tmp_path_factory: pytest.TempPathFactory,
    outtype: str,
    fuse: bool,
    asr_only: bool,
    rules: list[str],
) -> None:
    """Every tensor is found where other readers see it; kept as it is, the file has the same header and size."""
    options = options_of(fuse, asr_only, tuple(parse_rule(rule, "x") for rule in rules))
    plan = make_plan(lm, TYPES[outtype], options)
    path = lay_out(plan, tmp_path_factory.mktemp("plan"))
    model = model_of_file(path)
    assert (model.layout.fuse_qkv, bool(model.layout.without)) == (fuse, asr_only)
    again = make_plan(model, None, options_of(fuse, asr_only), file_name="x.gguf")
    assert (again.header, again.size, again.skipped) == (plan.header, plan.size, {})
    there = ggml_tensors(path)
    for tensor in again.tensors:
        begin = len(plan.header) + there[tensor.name].offset
        assert tensor.ggml_type.name == there[tensor.name].type
        for source in tensor.sources:
            assert (source.file, source.ggml_type, source.begin) == (path, tensor.ggml_type, begin)
            begin += source.nbytes
    path.unlink()


@given(OUTTYPES, st.booleans())
def test_any_plan_of_one_layout_is_planned_from_a_file_of_the_other(
    lm: SourceModel, tmp_path_factory: pytest.TempPathFactory, outtype: str, fuse: bool
) -> None:
    there = make_plan(lm, TYPES[outtype], options_of(not fuse))
    path = lay_out(there, tmp_path_factory.mktemp("plan"))
    assert make_plan(model_of_file(path), None, options_of(fuse), file_name="x.gguf").header == (
        make_plan(lm, TYPES[outtype], options_of(fuse)).header
    )
    path.unlink()


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_a_file_without_its_speech_generator_is_one_for_recognition_alone(
    files: Made, tmp_path: Path, fused: bool
) -> None:
    path = rewrite(files(fused), tmp_path / "x.gguf", tensors=lambda name: not is_speech_generation(name))
    model = model_of_file(path)
    assert (model.layout.fuse_qkv, bool(model.layout.without)) == (fused, True)
    with pytest.raises(InputError, match=r"missing tensor hidden_states_downcast\.weight"):
        make_plan(model, TYPES["f16"], options_of(fused))


@pytest.mark.parametrize("lost", sorted(filter(is_speech_generation, speech_lm_names(2, 1, 1, fused=False))))
def test_a_file_that_lost_any_one_tensor_of_its_speech_generator_is_not_whole(
    files: Made, tmp_path: Path, lost: str
) -> None:
    path = rewrite(files(False), tmp_path / "x.gguf", tensors=lambda name: name != lost)
    with pytest.raises(InputError, match=f"^{path}: missing tensor {lost}; expected shape"):
        model_of_file(path)


def test_an_audio_tokenizers_file_is_a_model_too(small_tokenizer: Path, tmp_path: Path) -> None:
    checkpoint = model_of_checkpoint(open_checkpoint(str(small_tokenizer)))
    convert([Request(checkpoint, [TYPES["f32"]])], tmp_path, threads=1)
    model, weights = model_of_file(tmp_path / "mimo-tokenizer-f32.gguf"), checkpoint_tensors(small_tokenizer)
    assert (model.layout.fuse_qkv, model.family, model.dims) == (False, checkpoint.family, checkpoint.dims)
    for name, tensor in model.tensors.items():
        assert np.array_equal(tensor.read_float32().reshape(tensor.shape), weights[name].float().numpy()), name


@pytest.mark.parametrize("architecture", ["llama", "mimo-asr", "MIMO_ASR"])
def test_a_file_of_another_family_is_refused(files: Made, tmp_path: Path, architecture: str) -> None:
    path = rewrite(files(False), tmp_path / "x.gguf", architecture=architecture)
    known = "mimo_asr or mimo_tokenizer or qwen3asr or qwen3vl or clip"
    says = f"^{path}: key general.architecture is '{architecture}'; expected {known}$"
    with pytest.raises(InputError, match=says):
        model_of_file(path)


def test_a_key_of_an_older_tools_file_that_is_not_there_stays_away(files: Made, tmp_path: Path) -> None:
    def without_ours(key: Key) -> Key | None:
        return None if key.name in ("mimo_asr.audio.delay_pattern", "tokenizer.ggml.token_type") else key

    model = model_of_file(rewrite(files(False), tmp_path / "x.gguf", keys=without_ours))
    assert model.dims.delay_pattern == "0-1-2-3-4-5-6-7"
    keys = {entry.key for entry in model.metadata}
    assert not keys & {"mimo_asr.audio.delay_pattern", "tokenizer.ggml.token_type"}


U32, STRING, ARRAY = GGUFValueType.UINT32, GGUFValueType.STRING, GGUFValueType.ARRAY
A, B = Entry("a", 1, U32), Entry("b", "x", STRING)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([A, Entry("general.file_type", 0, U32), B], [A, Entry("general.file_type", 7, U32), B]),
        ([A, Entry("general.file_type", "F16", STRING)], [A, Entry("general.file_type", 7, U32)]),
        ([A, B], [A, B, Entry("general.file_type", 7, U32)]),
        ([], [Entry("general.file_type", 7, U32)]),
    ],
)
def test_metadata_of_a_type_declares_it_where_it_was_declared_before(before: list[Entry], after: list[Entry]) -> None:
    assert metadata_of_type(before, TYPES["q8_0"].file_type, {}) == after


@pytest.mark.parametrize("quantizer", ["", "simd", "ggml + simd"])
@pytest.mark.parametrize("recipe", ["", "up=q8_0", "up=q8_0\nembed=f16"])
def test_metadata_of_a_file_tells_how_it_was_made_and_not_how_its_source_was(quantizer: str, recipe: str) -> None:
    now = {"mimo_convert.recipe": recipe, "mimo_convert.quantizer": quantizer}
    new = [Entry(key, text, STRING) for key, text in now.items() if text]
    before = [A, Entry("mimo_convert.recipe", "down=q4_k", STRING), Entry("mimo_convert.quantizer", "ggml", STRING), B]
    assert metadata_of_type(before, None, now) == [A, B, *new]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Key("mimo_convert.recipe", 7, U32), ": is 7; expected rules, REGEX=TYPE, one a line$"),
        (
            Key("mimo_convert.recipe", "up=f16\nup", STRING),
            ":2: 'up' is not a rule; expected REGEX=TYPE",
        ),
        (Key("mimo_convert.recipe", "(=f16", STRING), r":1: '\(' is not a regular expression"),
        (
            Key("mimo_convert.recipe", "(?!up)=f16", STRING),
            r":1: '\(\?!up\)' uses look-ahead \(\?!, which rules cannot",
        ),
        (Key("mimo_convert.recipe", "up=f16\n" * 1_001, STRING), r": holds more than 1,000 rules; expected fewer"),
        (Key("mimo_convert.recipe", "#" * 200_000, STRING), r": has 200,000 characters; expected at most 100,000$"),
        (Key("mimo_convert.recipe", ["up=f16"], ARRAY, STRING), r": holds 1 values; expected rules, REGEX=TYPE"),
        (Key("mimo_convert.recipe", [1, 2], ARRAY, U32), r": holds 2 values; expected rules, REGEX=TYPE"),
    ],
)
def test_a_file_whose_recipe_is_none_is_one_without_rules(files: Made, tmp_path: Path, value: Key, says: str) -> None:
    path = rewrite(files(False), tmp_path / "x.gguf", add=[value])
    model = model_of_file(path)
    assert model.rules == ()
    assert re.match(rf"{path}: key mimo_convert\.recipe{says}", model.recipe_problem)
    assert RECIPE not in {entry.key for entry in make_plan(model, None, file_name="y.gguf").metadata}
    model = model_of_file(files(False))
    assert (model.rules, model.recipe_problem) == ((), "")
