"""Plans: every offset and size before a byte is written, and what the readers of others make of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.config import Config
from mimo_convert.formats.gguf import Entry
from mimo_convert.formats.safetensors import DTYPES
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.formats.vocabulary import read_vocabulary
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.family import SEPARATE, Family
from mimo_convert.model.provenance import NOT_READ, SHARDS
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.plan import Plan, make_plan
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.conftest import SMALL_LM, SMALL_TOKENIZER
from tests.contract import contract_type, is_speech_generation, speech_lm_names
from tests.opened import model_of_checkpoint, options_of
from tests.readers import ggml_tensors, gguf_metadata, gguf_tensors
from tests.synthetic import ASR_CONFIG, TOKENIZER_CONFIG

BLOCKS = {type.name: type.block for type in TYPES.values()}


def unread(family: Family, values: dict[str, Any], extra: Sequence[str] = (), dtype: str = "BF16") -> SourceModel:
    """A model of headers alone: enough to plan with."""
    config = Config(Path("config.json"), values)
    dims = family.dimensions(config)
    sources = [s for tensor in family.tensors(dims, SEPARATE) for s in tensor.sources]
    file = Path("model.safetensors")
    tensors = {s.name: TensorSlice(s.name, file, DTYPES[dtype], s.shape, 0) for s in sources}
    tensors |= {name: TensorSlice(name, file, TYPES["f32"], (1,), 0) for name in extra}
    return SourceModel(Path("x"), "x", family, dims, tensors, [])


def plan_of(
    values: dict[str, Any], outtype: str, fuse: bool = False, asr_only: bool = False, rules: Sequence[str] = (),
    **more: Any,
) -> Plan:  # fmt: skip
    """A plan of whichever family `values` is the config of."""
    family = mimo_tokenizer.FAMILY if "d_model" in values else mimo_asr.FAMILY
    options = options_of(fuse, asr_only, tuple(parse_rule(rule, "--tensor-type") for rule in rules))
    return make_plan(unread(family, values), TYPES[outtype], options, **more)


def lay_out(plan: Plan, folder: Path) -> Path:
    """The planned file with zeros for weights."""
    path = folder / plan.file_name
    with path.open("wb") as file:
        file.write(plan.header)
        file.truncate(plan.size)
    return path


SIZES = st.integers(1, 9).map(lambda n: n * 16) | st.sampled_from([128, 256])
LM_CONFIGS = st.fixed_dictionaries(
    {
        "hidden_size": SIZES, "num_hidden_layers": st.integers(1, 2), "head_dim": SIZES, "intermediate_size": SIZES,
        "num_key_value_heads": st.sampled_from([1, 2, 4]), "input_local_dim": SIZES, "local_dim": SIZES,
        "local_ffn_dim": SIZES, "vocab_size": st.integers(1, 40), "group_size": st.integers(1, 4),
    }
).map(lambda values: ASR_CONFIG | values)  # fmt: skip
TOKENIZER_CONFIGS = st.fixed_dictionaries(
    {"d_model": SIZES, "encoder_ffn_dim": SIZES, "n_mels": st.integers(1, 40), "num_quantizers": st.integers(1, 20)}
).map(lambda values: TOKENIZER_CONFIG | values)  # fmt: skip


OUTTYPES = st.sampled_from(list(TYPES))
PATTERNS = st.sampled_from(
    ["attn", "ffn", r"\.q\.", "qkv", r"emb\.[0-3]", "^llm", "fc1", "head", r"blk\.0", "conv", "."]
)
RULES = st.lists(st.tuples(PATTERNS, OUTTYPES).map("=".join), max_size=4)


def ruled_type(name: str, shape: tuple[int, ...], outtype: str, rules: Sequence[str]) -> str:
    """The contract's type where the first rule that matches, if any, says what is asked for."""
    pairs = [rule.rsplit("=", 1) for rule in rules]
    matrix = len(shape) == 2 and contract_type(name, shape, "bf16", BLOCKS) == "bf16"
    ruled = [type for pattern, type in pairs if matrix and re.search(pattern, name)]
    return contract_type(name, shape, [*ruled, outtype][0], BLOCKS)


@given(LM_CONFIGS | TOKENIZER_CONFIGS, OUTTYPES, st.booleans(), st.booleans(), RULES)
def test_any_plan_is_a_file_that_all_readers_agree_on(
    tmp_path_factory: pytest.TempPathFactory,
    values: dict[str, Any],
    outtype: str,
    fuse: bool,
    asr_only: bool,
    rules: list[str],
) -> None:
    plan = plan_of(values, outtype, fuse, asr_only, rules)
    end = 0
    for tensor in plan.tensors:
        assert tensor.offset % 32 == 0
        assert end <= tensor.offset < end + 32, "ascending, no overlap, no more room between than alignment asks"
        assert tensor.ggml_type.name == ruled_type(tensor.name, tensor.shape, outtype, rules)
        assert not (asr_only and is_speech_generation(tensor.name))
        assert tensor.n_weights == sum(source.n_rows * source.row for source in tensor.sources)
        end = tensor.offset + tensor.nbytes
    assert len(plan.header) % 32 == 0

    path = lay_out(plan, tmp_path_factory.mktemp("plan"))
    planned = {t.name: (t.ggml_type.name, t.offset, t.nbytes) for t in plan.tensors}
    by_ggml = ggml_tensors(path)
    assert {name: (t.type, t.offset, len(t.data)) for name, t in by_ggml.items()} == planned
    by_gguf = gguf_tensors(path)
    assert {name: (t.type, t.offset, len(t.data)) for name, t in by_gguf.items()} == planned
    assert list(by_gguf) == list(planned)
    path.unlink()


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fuse", [False, True], ids=["separate", "fused"])
def test_types_follow_the_contract_and_every_fallback_is_noted(outtype: str, fuse: bool) -> None:
    for values in (ASR_CONFIG | SMALL_LM, TOKENIZER_CONFIG | SMALL_TOKENIZER):
        for tensor in plan_of(values, outtype, fuse).tensors:
            expected = contract_type(tensor.name, tensor.shape, outtype, BLOCKS)
            asked = expected in ("f32", outtype) or len(tensor.shape) == 3
            note = "" if asked else f"rows of {tensor.shape[-1]} are not a multiple of {BLOCKS[outtype]}: {expected}"
            assert (tensor.ggml_type.name, tensor.note) == (expected, note), tensor.name


def test_a_q4_k_plan_of_the_small_pair_in_full() -> None:
    """The one plan written out: each step of the chain of fallbacks, exact codebooks, F16 convolutions."""
    chosen = {
        tensor.name: tensor.ggml_type.name
        for values in (ASR_CONFIG | SMALL_LM, TOKENIZER_CONFIG | SMALL_TOKENIZER)
        for tensor in plan_of(values, "q4_k", True).tensors
    }
    expected = {
        "llm.embed.weight": "q4_k",  # rows of 256
        "llm.lm_head.weight": "q4_k",
        "model.layers.0.attn.qkv.weight": "q4_k",
        "model.layers.0.attn.qkv.bias": "f32",
        "model.layers.0.attn_norm.weight": "f32",
        "audio.group_proj.weight": "q4_0",  # rows of 192
        "audio.blk.0.attn.q.weight": "f16",  # rows of 48
        "audio.emb.0.weight": "f16",
        "llm.blk.0.attn.q.weight": "q4_0",  # rows of 128
        "llm.blk.0.ffn.down.weight": "q4_k",  # rows of 256
        "llm.codebook_head.0.weight": "q4_0",
        "encoder.conv1.weight": "f16",
        "encoder.conv1.bias": "f32",
        "encoder.down_sample_layer.0.weight": "f16",
        "enc.blk.0.attn.q.weight": "q4_0",  # rows of 64
        "enc.blk.0.fc2.weight": "q4_k",  # rows of 256
        "encoder.quant.vq.layers.0._codebook.embed": "f32",
    }
    assert {name: chosen[name] for name in expected} == expected


def test_only_the_language_models_own_blocks_are_fused() -> None:
    fused = [t for t in plan_of(ASR_CONFIG | SMALL_LM, "f16", True).tensors if len(t.sources) > 1]
    assert [t.name for t in fused] == [f"model.layers.{i}.attn.qkv.{k}" for i in range(2) for k in ("weight", "bias")]
    q, kv = 4 * 32, 2 * 32
    assert {t.shape for t in fused} == {(q + kv + kv, 256), (q + kv + kv,)}
    assert {t.name for t in plan_of(ASR_CONFIG | SMALL_LM, "f16", True).tensors} == set(
        speech_lm_names(2, 1, 1, fused=True)
    )


@given(LM_CONFIGS, OUTTYPES, st.booleans(), RULES)
def test_asr_only_leaves_out_the_speech_generator_and_changes_nothing_else(
    values: dict[str, Any], outtype: str, fuse: bool, rules: list[str]
) -> None:
    every, kept = (plan_of(values, outtype, fuse, asr_only, rules) for asr_only in (False, True))

    def rows(plan: Plan) -> list[Any]:
        return [(t.name, t.role, t.shape, t.ggml_type, t.sources, t.note) for t in plan.tensors]

    assert rows(kept) == [row for row in rows(every) if not is_speech_generation(row[0])]
    gone = [source.name for t in every.tensors if is_speech_generation(t.name) for source in t.sources]
    assert kept.skipped == dict.fromkeys(gone, "speech generation, by --asr-only")
    assert every.skipped == {}


def test_asr_only_takes_a_checkpoint_whose_speech_generator_is_not_whole() -> None:
    family, values = mimo_asr.FAMILY, ASR_CONFIG | SMALL_LM
    whole = unread(family, values)
    lost = "local_transformer_lm_heads.7.weight"
    model = replace(whole, tensors={name: tensor for name, tensor in whole.tensors.items() if name != lost})
    with pytest.raises(InputError, match=f"missing tensor {lost}"):
        make_plan(model, TYPES["f16"])
    assert make_plan(model, TYPES["f16"], options_of(asr_only=True)).tensors


@pytest.mark.parametrize("name", ["local_transformer2.norm.weight", "model.layers.0.extra.weight", "llm.blk2.x"])
def test_asr_only_is_no_excuse_for_a_tensor_that_nobody_knows(name: str) -> None:
    model = unread(mimo_asr.FAMILY, ASR_CONFIG | SMALL_LM, [name])
    with pytest.raises(InputError, match=f"extra tensor {name}, unknown to mimo_asr"):
        make_plan(model, TYPES["f16"], options_of(asr_only=True))


def stored_as(**types: str) -> SourceModel:
    """The small speech LM of F16 tensors but for Q, K and V of its first block."""
    model = unread(mimo_asr.FAMILY, ASR_CONFIG | SMALL_LM, dtype="F16")
    tensors = dict(model.tensors)
    for part, type in types.items():
        name = f"model.layers.0.self_attn.{part}_proj.weight"
        tensors[name] = replace(tensors[name], ggml_type=TYPES[type])
    return replace(model, tensors=tensors)


QKV = "model.layers.0.attn.qkv.weight"


def planned(model: SourceModel, outtype: str | None, fuse: bool, *rules: str) -> dict[str, str]:
    options = options_of(fuse, rules=tuple(parse_rule(rule, "x") for rule in rules), allow_requantize=True)
    plan = make_plan(model, TYPES[outtype] if outtype else None, options, file_name="x.gguf")
    return {tensor.name: tensor.ggml_type.name for tensor in plan.tensors}


def test_parts_of_one_type_are_fused_as_they_are() -> None:
    assert planned(stored_as(q="q4_k", k="q4_k", v="q4_k"), None, True)[QKV] == "q4_k"


@pytest.mark.parametrize("types", [{"q": "q8_0"}, {"v": "f32"}, {"q": "q4_k", "k": "q4_k", "v": "q6_k"}])
def test_parts_of_different_types_need_one_to_be_fused_in(types: dict[str, str]) -> None:
    model = stored_as(**types)
    with pytest.raises(InputError, match=r"the parts of model\.layers\.0\.attn\.qkv\.weight differ: .* give --outtype"):
        planned(model, None, True)
    with pytest.raises(InputError, match="differ"):
        planned(model, None, True, r"layers\.1.*qkv=q8_0")
    assert planned(model, "q5_k", True)[QKV] == "q5_k"
    assert planned(model, None, True, "qkv=q5_k")[QKV] == "q5_k"
    separate = planned(model, None, False)
    assert [separate[f"model.layers.0.attn.{c}.weight"] for c in "qkv"] == [types.get(c, "f16") for c in "qkv"]


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("outtype", TYPES)
def test_what_has_lost_too_much_is_quantized_again_only_on_demand(stored: str, outtype: str) -> None:
    model, few = stored_as(v=stored), TYPES[stored].bits_per_weight < 8
    if few and stored != outtype:
        with pytest.raises(
            InputError, match=rf"tensor \S+v_proj.weight is {stored}: requantizing it to {outtype} adds .*8 bits"
        ):
            make_plan(model, TYPES[outtype])
    else:
        assert make_plan(model, TYPES[outtype]).tensors
    assert planned(model, outtype, False)["model.layers.0.attn.v.weight"] == outtype


@pytest.mark.parametrize("outtype", TYPES)
def test_a_tensor_beyond_f16_stays_f32_only_where_the_type_has_f16_in_it(outtype: str) -> None:
    name = "model.layers.0.ffn.up.weight"
    tensor = next(t for t in plan_of(ASR_CONFIG | SMALL_LM, outtype, absmax={name: 65520.0}).tensors if t.name == name)
    if outtype in ("f32", "bf16"):
        assert (tensor.ggml_type.name, tensor.note) == (outtype, "")
    else:
        assert (tensor.ggml_type.name, tensor.note) == (
            "f32",
            "holds weights that would become infinite: promoted to f32",
        )


def test_totals_are_those_of_the_tensors() -> None:
    plan = plan_of(ASR_CONFIG | SMALL_LM, "q8_0")
    assert plan.file_name == "mimo-asr-q8_0.gguf"
    assert plan.n_weights == sum(source.n_rows * source.row for t in plan.tensors for source in t.sources)
    assert plan.bits_per_weight == pytest.approx(8 * sum(t.nbytes for t in plan.tensors) / plan.n_weights)
    assert plan_of(TOKENIZER_CONFIG, "q4_k").file_name == "mimo-tokenizer-q4_k.gguf"


def test_a_plan_is_called_by_its_type_and_mix() -> None:
    values = ASR_CONFIG | SMALL_LM
    assert plan_of(values, "q8_0").label == "q8_0"
    assert plan_of(values, "q8_0", rules=["lm_head|llm.embed=f16", "ffn=q8_0"]).label == "q8_0 + 2 f16"


def test_what_is_left_out_has_a_reason_and_what_is_unknown_stops_the_plan() -> None:
    family, values = mimo_tokenizer.FAMILY, TOKENIZER_CONFIG | SMALL_TOKENIZER
    buffers = [f"encoder.quantizer.vq.layers.0._codebook.{b}" for b in ("embed_avg", "cluster_size", "inited")]
    synthesis = ["decoder.dconv1.conv.weight", "decoder.vocoder.head.out.bias"]
    plan = make_plan(unread(family, values, buffers + synthesis), TYPES["f16"])
    assert {name for name, why in plan.skipped.items() if "training" in why} == set(buffers)
    assert {name for name, why in plan.skipped.items() if "synthesis" in why} == set(synthesis)
    with pytest.raises(InputError, match=r"extra tensor encoder\.new\.weight, unknown to mimo_tokenizer"):
        make_plan(unread(family, values, ["encoder.new.weight"]), TYPES["f16"])


@pytest.mark.parametrize("dtype", ["F64", "F8_E4M3", "I32"])
def test_a_dtype_that_is_no_plain_float_is_refused(dtype: str) -> None:
    model = unread(mimo_tokenizer.FAMILY, TOKENIZER_CONFIG, dtype=dtype)
    says = f"tensor encoder.conv1.weight has unsupported dtype {dtype}; expected F32 or F16 or BF16"
    with pytest.raises(InputError, match=says):
        make_plan(model, TYPES["f16"])


def test_metadata_of_the_speech_lm_is_the_contracts(small_lm: Path, tmp_path: Path) -> None:
    vocabulary = read_vocabulary(small_lm, 512)
    model = model_of_checkpoint(open_checkpoint(str(small_lm)))
    plan = make_plan(model, TYPES["q4_k"], options_of(fuse_qkv=True, quantizer="ggml"))
    found = gguf_metadata(lay_out(plan, tmp_path))
    for key, value in vars(vocabulary).items():
        assert found.pop(f"tokenizer.ggml.{key.replace('types', 'type')}") == value
    assert found == {
        "general.architecture": "mimo_asr", "general.type": "model", "general.name": "small-lm",
        "general.license": "mit", "general.languages": ["en", "zh"],
        "general.tags": ["automatic-speech-recognition", "audio"], "general.file_type": 14,
        "general.quantization_version": 2, "general.base_model.count": 1, "general.base_model.0.name": "small-lm",
        "mimo_asr.llm.hidden_size": 256, "mimo_asr.llm.num_layers": 2, "mimo_asr.llm.num_heads": 4,
        "mimo_asr.llm.num_kv_heads": 2, "mimo_asr.llm.head_dim": 32, "mimo_asr.llm.intermediate_size": 512,
        "mimo_asr.llm.vocab_size": 512, "mimo_asr.llm.max_position_embeddings": 1024,
        "mimo_asr.llm.rope_theta": 640000.0, "mimo_asr.llm.rms_norm_eps": pytest.approx(1e-6),
        "mimo_asr.audio.channels": 8, "mimo_asr.audio.group_size": 4, "mimo_asr.audio.input_layers": 1,
        "mimo_asr.audio.input_dim": 48, "mimo_asr.audio.input_heads": 4, "mimo_asr.audio.input_head_dim": 12,
        "mimo_asr.audio.input_intermediate": 192, "mimo_asr.audio.rope_theta": 640000.0,
        "mimo_asr.audio.out_hidden_size": 256, "mimo_asr.audio.delay_pattern": "0-1-2-3-4-5-6-7",
        **{f"mimo_asr.audio.speech_vocab.{c}": 33 if c < 2 else 17 for c in range(8)},
        **{f"mimo_asr.audio.speech_zeroemb.{c}": 32 if c < 2 else 16 for c in range(8)},
        "mimo_asr.patch.num_layers": 1, "mimo_asr.patch.hidden_size": 128, "mimo_asr.patch.num_heads": 4,
        "mimo_asr.patch.head_dim": 32, "mimo_asr.patch.intermediate_size": 256,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "mimo_convert.quantizer": "ggml",
        "mimo_convert.shards": f"{NOT_READ}  model-00001-of-00002.safetensors\n"
        f"{NOT_READ}  model-00002-of-00002.safetensors\n", "mimo_convert.version": version("mimo-convert"),
    }  # fmt: skip


def test_metadata_of_the_audio_tokenizer_is_the_contracts(small_tokenizer: Path, tmp_path: Path) -> None:
    plan = make_plan(model_of_checkpoint(open_checkpoint(str(small_tokenizer))), TYPES["f32"])
    assert gguf_metadata(lay_out(plan, tmp_path)) == {
        "general.architecture": "mimo_tokenizer", "general.type": "model", "general.name": "small-tokenizer",
        "general.license": "mit", "general.tags": ["audio", "audio-tokenizer"], "general.file_type": 0,
        "general.quantization_version": 2, "general.base_model.count": 1,
        "general.base_model.0.name": "small-tokenizer",
        "mimo_tok.d_model": 64, "mimo_tok.encoder_layers": 3, "mimo_tok.encoder_heads": 4,
        "mimo_tok.encoder_ffn_dim": 256, "mimo_tok.num_quantizers": 3, "mimo_tok.sampling_rate": 24000,
        "mimo_tok.hop_length": 240, "mimo_tok.stride_size": 2, "mimo_tok.avg_pooler": 2, "mimo_tok.kernel_size": 3,
        "mimo_tok.codebook_size.0": 32, "mimo_tok.codebook_size.1": 16, "mimo_tok.codebook_size.2": 16,
        "mimo_tok.n_mels": 16, "mimo_tok.nfft": 960, "mimo_tok.window_size": 960, "mimo_tok.rope_theta": 10000.0,
        "mimo_tok.skip_layer_id": 3, "mimo_tok.fmin": 0.0,
        "mimo_convert.shards": f"{NOT_READ}  model.safetensors\n", "mimo_convert.version": version("mimo-convert"),
    }  # fmt: skip


def test_the_hashes_of_shards_replace_their_own_placeholders_and_no_text_like_them(small_tokenizer: Path) -> None:
    plan = make_plan(model_of_checkpoint(open_checkpoint(str(small_tokenizer))), TYPES["f16"])
    [shards] = [entry for entry in plan.metadata if entry.key == SHARDS]
    odd = replace(
        plan, metadata=[Entry("general.description", f"about {shards.value}", shards.value_type), *plan.metadata]
    )
    at, text = odd.hashes_in_header({"model.safetensors": "a" * 64})
    assert text.decode() == shards.value.replace(NOT_READ, "a" * 64)
    assert odd.header[at : at + len(text)] == shards.value.encode()
    assert odd.header.index(shards.value.encode()) < at
