"""MiMo-V2.5-ASR and MiMo-Audio-7B: a Qwen2 language model over text tokens and groups of audio codes."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.model.edition import Edition
from mimo_convert.model.family import (
    SEPARATE,
    Family,
    Key,
    Layout,
    Part,
    PublishedVocabulary,
    Source,
    Tensor,
    TextFacts,
    one,
)
from mimo_convert.model.uses import (
    ATTENTION_K,
    ATTENTION_OUTPUT,
    ATTENTION_Q,
    ATTENTION_QKV,
    ATTENTION_V,
    AUDIO,
    EMBEDDING,
    HEAD,
    MLP_DOWN,
    MLP_GATE,
    MLP_UP,
    Use,
    block_uses,
)
from mimo_families.mimo_tokenizer.decoder_layout import DECODER
from quantize.errors import InputError


@dataclass(frozen=True)
class BlockDims:
    """Sizes of a stack of Qwen2 blocks: hidden size, `n_heads` query heads and `n_kv_heads` key/value heads of
    `head_dim`."""

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    rope_theta: float
    rms_norm_eps: float


@dataclass(frozen=True)
class SpeechLMDims:
    """Sizes of the speech LM. `input_*` are of the transformer within a group, `patch_*` of the speech generator."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    channels: int
    group_size: int
    input_layers: int
    input_dim: int
    input_heads: int
    input_head_dim: int
    input_intermediate: int
    input_rope_theta: float
    input_causal: int  # 1: a position within a group sees those before it, 0: all of them
    out_hidden_size: int
    speech_vocab: tuple[int, ...]
    speech_zeroemb: tuple[int, ...]
    delay_pattern: str
    patch_layers: int
    patch_dim: int
    patch_heads: int
    patch_head_dim: int
    patch_intermediate: int

    @property
    def llm(self) -> BlockDims:
        """Sizes of the language model's blocks."""
        return BlockDims(
            self.num_layers, self.hidden_size, self.num_heads, self.num_kv_heads, self.head_dim,
            self.intermediate_size, self.rope_theta, self.rms_norm_eps,
        )  # fmt: skip

    @property
    def input_local(self) -> BlockDims:
        """Sizes of the blocks within a group."""
        return BlockDims(
            self.input_layers, self.input_dim, self.input_heads, self.input_heads, self.input_head_dim,
            self.input_intermediate, self.input_rope_theta, self.rms_norm_eps,
        )  # fmt: skip

    @property
    def patch(self) -> BlockDims:
        """Sizes of the speech generator's blocks."""
        return BlockDims(
            self.patch_layers, self.patch_dim, self.patch_heads, self.patch_heads, self.patch_head_dim,
            self.patch_intermediate, self.input_rope_theta, self.rms_norm_eps,
        )  # fmt: skip


PUBLISHED = PublishedVocabulary(
    vocab_size=151_680,
    n_merges=151_387,
    n_unused=7,
    ids={
        "<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645, "<|sosp|>": 151_665,
        "<|eosp|>": 151_666, "<|empty|>": 151_667, "<|Human|>": 151_668, "<|SpeechLM|>": 151_669,
        "<|sostm|>": 151_670, "<|eostm|>": 151_671, "<|eot|>": 151_672,
    },
)  # fmt: skip

NO_TEXT = -100  # in ids, (1 + channels, T): a position without a text id
MOST_CHANNELS = 64  # of audio codes; published models have 8

# What the forward pass takes for granted; a config that says otherwise is another model.
ASSUMED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (True,),
    "tie_word_embeddings": (False,),
    "rope_scaling": (),
    "use_sliding_window": (False,),
    "partial_rotary_factor": (1.0,),
    "audio_config.partial_rotary_factor": (1.0,),
    "audio_config.add_post_norm": (True,),
}


FULL_ATTENTION = "audio_config.input_full_attention", "input_full_attention"  # causal if a config has neither


def dimensions(config: Config) -> SpeechLMDims:
    """Read the sizes from `config`: the nested audio_config's value, else the flat one, else the default.

    Raises InputError for a missing or malformed value, or one that the forward pass does not support.
    """
    for key, allowed in ASSUMED.items():
        config.must_be(key, *allowed)

    def audio(key: str, *flat: str, default: int | None = None) -> int:
        return config.positive(f"audio_config.{key}", key, *flat, default=default)

    hidden_size = config.positive("hidden_size")
    num_heads = config.positive("num_attention_heads")
    channels, group_size = (
        config.positive("audio_config.audio_channels", "audio_channels", most=MOST_CHANNELS),
        audio("group_size"),
    )
    rope_theta = float(config.get("rope_theta", kind=float))
    input_dim = audio("input_local_dim")
    input_heads = audio("input_local_attn_heads", "local_attn_heads")
    patch_dim, patch_heads = audio("local_dim"), audio("local_attn_heads")
    dims = SpeechLMDims(
        hidden_size=hidden_size,
        num_layers=config.positive("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=config.positive("num_key_value_heads"),
        head_dim=config.positive("head_dim", default=max(1, hidden_size // num_heads)),
        intermediate_size=config.positive("intermediate_size"),
        vocab_size=config.positive("vocab_size"),
        max_position_embeddings=config.positive("max_position_embeddings"),
        rope_theta=rope_theta,
        rms_norm_eps=float(config.get("rms_norm_eps", kind=float)),
        channels=channels,
        group_size=group_size,
        input_layers=audio("input_local_layers"),
        input_dim=input_dim,
        input_heads=input_heads,
        input_head_dim=audio("input_local_head_dim", default=max(1, input_dim // input_heads)),
        input_intermediate=audio("input_local_intermediate_size", default=4 * input_dim),
        input_rope_theta=float(config.get("audio_config.rope_theta", "rope_theta", kind=float)),
        input_causal=int(not config.get(*FULL_ATTENTION, kind=bool, default=False)),
        out_hidden_size=audio("out_hidden_size", default=hidden_size),
        speech_vocab=_per_channel(config, "speech_vocab_size", channels),
        speech_zeroemb=_per_channel(config, "speech_zeroemb_idx", channels),
        delay_pattern=str(config.get("audio_config.delay_pattern", "delay_pattern", kind=str)),
        patch_layers=audio("local_layers"),
        patch_dim=patch_dim,
        patch_heads=patch_heads,
        patch_head_dim=audio("local_head_dim", default=max(1, patch_dim // patch_heads)),
        patch_intermediate=audio("local_ffn_dim", default=4 * patch_dim),
    )
    for what, expected in config_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def config_errors(d: SpeechLMDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes, by the config's names: (found, expected)."""
    for channel, (size, zero) in enumerate(zip(d.speech_vocab, d.speech_zeroemb, strict=True)):
        if not 0 < zero < size:
            yield f"speech_zeroemb_idx of channel {channel} is {zero}", f"from 1, and below {size}"
    if d.num_heads % d.num_kv_heads:
        yield f"num_key_value_heads is {d.num_kv_heads}", f"a divisor of num_attention_heads, {d.num_heads}"
    if not (isfinite(d.rms_norm_eps) and d.rms_norm_eps >= 0):
        yield f"rms_norm_eps is {d.rms_norm_eps}", "a number from 0"
    for name in ("rope_theta", "input_rope_theta"):
        if not (isfinite(getattr(d, name)) and getattr(d, name) > 0):
            yield f"{name} is {getattr(d, name)}", "a positive number"
    for name in ("head_dim", "input_head_dim", "patch_head_dim"):
        if getattr(d, name) % 2:
            yield f"{name} is {getattr(d, name)}", "an even number, for the rotary embedding"
    if d.input_causal not in (0, 1):
        yield f"input_causal is {d.input_causal}", "0 or 1"
    if d.out_hidden_size != d.hidden_size:
        yield f"out_hidden_size is {d.out_hidden_size}", f"hidden_size, {d.hidden_size}"


def config_warnings(d: SpeechLMDims) -> Iterator[tuple[str, str]]:
    """Values that no known model has, by the file's keys: (found, expected)."""
    for channel, (size, zero) in enumerate(zip(d.speech_vocab, d.speech_zeroemb, strict=True)):
        if zero != size - 1:
            yield f"mimo_asr.audio.speech_zeroemb.{channel} is {zero}", f"the last id, {size - 1}"
    parts = d.delay_pattern.split("-")
    if len(parts) != d.channels or not all(part.isdecimal() for part in parts):
        yield f"mimo_asr.audio.delay_pattern is {d.delay_pattern!r}", f"{d.channels} numbers joined by dashes"


def _per_channel(config: Config, key: str, channels: int) -> tuple[int, ...]:
    """Numbers joined by dashes, one per codebook ("1025-1025-129"); a single number applies to all."""
    text = str(config.get(f"audio_config.{key}", key, kind=object))
    parts = text.split("-")
    if not all(part.isdecimal() and len(part) < 10 for part in parts) or len(parts) not in (1, channels):
        raise InputError(config.path, f"{key} is {text!r}", expected=f"{channels} numbers joined by dashes")
    return tuple(map(int, parts)) * (channels if len(parts) == 1 else 1)


def _block(source: str, name: str, d: BlockDims, fuse_qkv: bool) -> list[Tensor]:
    """The tensors of one Qwen2 block; `source` and `name` are its prefixes in checkpoint and file."""
    q_rows, kv_rows = d.n_heads * d.head_dim, d.n_kv_heads * d.head_dim
    qkv = [("q", q_rows), ("k", kv_rows), ("v", kv_rows)]

    def own(ours: str, theirs: str, role: str, *shape: int) -> Tensor:
        return one(f"{name}{ours}", f"{source}{theirs}", role, *shape)

    def attention(kind: str, role: str, columns: tuple[int, ...]) -> list[Tensor]:
        sources = [(c, Source(f"{source}self_attn.{c}_proj.{kind}", (rows, *columns))) for c, rows in qkv]
        if fuse_qkv:
            return [Tensor(f"{name}attn.qkv.{kind}", role, tuple(s for _, s in sources))]
        return [Tensor(f"{name}attn.{c}.{kind}", role, (s,)) for c, s in sources]

    return [
        own("attn_norm.weight", "input_layernorm.weight", "norm", d.hidden_size),
        *attention("weight", "matrix", (d.hidden_size,)),
        *attention("bias", "bias", ()),
        own("attn.o.weight", "self_attn.o_proj.weight", "matrix", d.hidden_size, q_rows),
        own("ffn_norm.weight", "post_attention_layernorm.weight", "norm", d.hidden_size),
        own("ffn.gate.weight", "mlp.gate_proj.weight", "matrix", d.intermediate_size, d.hidden_size),
        own("ffn.up.weight", "mlp.up_proj.weight", "matrix", d.intermediate_size, d.hidden_size),
        own("ffn.down.weight", "mlp.down_proj.weight", "matrix", d.hidden_size, d.intermediate_size),
    ]


def tensors(d: SpeechLMDims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the file, in order. Only the language model's own blocks can be fused."""
    yield one("llm.embed.weight", "model.embed_tokens.weight", "embedding", d.vocab_size, d.hidden_size)
    yield one("llm.final_norm.weight", "model.norm.weight", "norm", d.hidden_size)
    yield one("llm.lm_head.weight", "lm_head.weight", "head", d.vocab_size, d.hidden_size)
    for i in range(d.num_layers):
        yield from _block(f"model.layers.{i}.", f"model.layers.{i}.", d.llm, layout.fuse_qkv)

    for i in range(d.input_layers):
        yield from _block(f"input_local_transformer.layers.{i}.", f"audio.blk.{i}.", d.input_local, False)
    yield one("audio.norm.weight", "input_local_transformer.norm.weight", "norm", d.input_dim)
    for c, size in enumerate(d.speech_vocab):
        yield one(f"audio.emb.{c}.weight", f"speech_embeddings.{c}.weight", "embedding", size, d.input_dim)
    group = d.group_size * d.input_dim
    yield one("audio.group_proj.weight", "speech_group_downcast.weight", "matrix", d.out_hidden_size, group)
    if layout.has(SPEECH_GENERATION):
        yield from _speech_generation(d)
        if LOCAL_PROJECTION in layout.rare:
            yield one("audio.local_proj.weight", LOCAL_PROJECTION, "matrix", d.patch_dim, d.input_dim)


def _speech_generation(d: SpeechLMDims) -> Iterator[Tensor]:
    yield one("audio.hidden_proj.weight", "hidden_states_downcast.weight", "matrix", d.patch_dim, d.hidden_size)
    for i in range(d.patch_layers):
        yield from _block(f"local_transformer.layers.{i}.", f"llm.blk.{i}.", d.patch, False)
    yield one("llm.norm.weight", "local_transformer.norm.weight", "norm", d.patch_dim)
    for c, size in enumerate(d.speech_vocab):
        yield one(f"llm.codebook_head.{c}.weight", f"local_transformer_lm_heads.{c}.weight", "head", size, d.patch_dim)


BLOCK = {
    ATTENTION_Q: r"attn\.q", ATTENTION_K: r"attn\.k", ATTENTION_V: r"attn\.v", ATTENTION_OUTPUT: r"attn\.o",
    MLP_GATE: r"ffn\.gate", MLP_UP: r"ffn\.up", MLP_DOWN: r"ffn\.down",
}  # fmt: skip

SPEAKING = ("MiMoAudioForCausalLM", "MiMoAudioModel")  # `architectures` of MiMo-Audio-7B
SPEAKS = ("any-to-any", "text-to-speech", "automatic-speech-recognition", "audio")  # tags

EDITIONS = (
    Edition("mimo-audio-base", SPEAKING, r"(?i)(.*[-_. ])?base", "MiMo-Audio", "Base", SPEAKS),
    Edition("mimo-audio-instruct", SPEAKING, r"(?i)(.*[-_. ])?instruct", "MiMo-Audio", "Instruct", SPEAKS),
    Edition("mimo-audio", SPEAKING, basename="MiMo-Audio", tags=SPEAKS),
    Edition("mimo-asr", left_out=frozenset({DECODER})),
)


def speaks(edition: Edition) -> bool:
    """Whether a published model is MiMo-Audio: it encodes clips without cutting them into 30 s, and names no
    language."""
    return edition.basename == EDITIONS[0].basename


F32, STRING = GGUFValueType.FLOAT32, GGUFValueType.STRING

SPEECH_GENERATION = "speech_generation"  # a part that a file for recognition alone may do without
LOCAL_PROJECTION = "speech_embeddings_to_local.weight"  # which no published model has

FAMILY = Family(
    architecture="mimo_asr",
    config_names=("MiMoV2ASRForCausalLM", *SPEAKING),
    file_stem="mimo-asr",
    role="speech_lm",
    dimensions=dimensions,
    dimensions_type=SpeechLMDims,
    keys=(
        Key("hidden_size", "mimo_asr.llm.hidden_size"),
        Key("num_layers", "mimo_asr.llm.num_layers"),
        Key("num_heads", "mimo_asr.llm.num_heads"),
        Key("num_kv_heads", "mimo_asr.llm.num_kv_heads"),
        Key("head_dim", "mimo_asr.llm.head_dim", default=128),
        Key("intermediate_size", "mimo_asr.llm.intermediate_size"),
        Key("vocab_size", "mimo_asr.llm.vocab_size"),
        Key("max_position_embeddings", "mimo_asr.llm.max_position_embeddings"),
        Key("rope_theta", "mimo_asr.llm.rope_theta", F32),
        Key("rms_norm_eps", "mimo_asr.llm.rms_norm_eps", F32),
        Key("channels", "mimo_asr.audio.channels"),
        Key("group_size", "mimo_asr.audio.group_size"),
        Key("input_layers", "mimo_asr.audio.input_layers"),
        Key("input_dim", "mimo_asr.audio.input_dim"),
        Key("input_heads", "mimo_asr.audio.input_heads"),
        Key("input_head_dim", "mimo_asr.audio.input_head_dim"),
        Key("input_intermediate", "mimo_asr.audio.input_intermediate"),
        Key("input_rope_theta", "mimo_asr.audio.rope_theta", F32, 640000.0),
        Key("input_causal", "mimo_asr.audio.input_causal", default=0, least=0, is_rare=True),
        Key("out_hidden_size", "mimo_asr.audio.out_hidden_size"),
        Key("speech_vocab", "mimo_asr.audio.speech_vocab", length="channels"),
        Key("speech_zeroemb", "mimo_asr.audio.speech_zeroemb", length="channels"),
        Key("delay_pattern", "mimo_asr.audio.delay_pattern", STRING, "0-1-2-3-4-5-6-7"),
        Key("patch_layers", "mimo_asr.patch.num_layers", default=16),
        Key("patch_dim", "mimo_asr.patch.hidden_size", default=1024),
        Key("patch_heads", "mimo_asr.patch.num_heads", default=64),
        Key("patch_head_dim", "mimo_asr.patch.head_dim", default=16),
        Key("patch_intermediate", "mimo_asr.patch.intermediate_size", default=4096),
    ),
    config_errors=config_errors,
    config_warnings=config_warnings,
    tensors=tensors,
    parts={
        SPEECH_GENERATION: Part(
            r"(local_transformer|local_transformer_lm_heads|hidden_states_downcast|speech_embeddings_to_local)\..*|"
            r"(llm\.blk|llm\.norm|llm\.codebook_head|audio\.hidden_proj|audio\.local_proj)\..*",
            "speech generation",
            option="--asr-only",
        ),
    },
    rare=(LOCAL_PROJECTION,),
    uses=(
        Use(EMBEDDING, r"llm\.embed\.weight"),
        Use(HEAD, r"llm\.(lm_head|codebook_head\.\d+)\.weight"),
        *block_uses(r"model\.layers\.{layer}\.", BLOCK | {ATTENTION_QKV: r"attn\.qkv"}),
        *block_uses(r"llm\.blk\.{layer}\.", BLOCK),
        Use(AUDIO, r"audio\.(blk|emb|group_proj|local_proj)\..*"),
    ),
    can_fuse_qkv=True,
    editions=EDITIONS,
    text=TextFacts(
        model="gpt2",
        pre="qwen2",
        first_added="<|endoftext|>",
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        required=("<|im_start|>", "<|im_end|>", "<|sosp|>", "<|eosp|>", "<|empty|>"),
        published=PUBLISHED,
    ),
    about={
        "general.license": "mit",
        "general.languages": ["en", "zh"],
        "general.tags": ["automatic-speech-recognition", "audio"],
    },
)
