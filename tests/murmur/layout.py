"""How a checkpoint of the family becomes a GGUF file: sizes, keys and tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.model.family import SEPARATE, Family, Key, Layout, Source, Tensor, TextFacts, one
from mimo_convert.model.uses import (
    ATTENTION_K,
    ATTENTION_OUTPUT,
    ATTENTION_Q,
    ATTENTION_QKV,
    ATTENTION_V,
    AUDIO,
    HEAD,
    MLP_DOWN,
    MLP_GATE,
    MLP_UP,
    Use,
    block_uses,
)
from quantize.errors import InputError

SPECIAL = ("<s>", "</s>", "<audio>", "<listen>", "<en>", "<fr>")


@dataclass(frozen=True)
class Dims:
    """Every size: `n_bands` and `stacked` are of the front end, the others of the decoder."""

    vocab_size: int
    width: int
    n_blocks: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn: int
    context: int
    n_bands: int
    stacked: int
    theta: float
    eps: float

    @property
    def frame(self) -> int:
        """Values of a stacked frame."""
        return self.n_bands * self.stacked


def dimensions(config: Config) -> Dims:
    """The sizes in `config`. Raises InputError for what is missing, malformed or not this family's."""
    config.must_be("tie_word_embeddings", True)
    names = ("vocab_size", "width", "n_blocks", "n_heads", "n_kv_heads", "head_dim", "ffn", "context", "n_bands")
    sizes = {name: config.positive(name) for name in (*names, "stacked")}
    floats = {name: float(config.get(name, kind=float)) for name in ("theta", "eps")}
    dims = Dims(**sizes, **floats)
    for what, expected in config_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def config_errors(d: Dims) -> Iterator[tuple[str, str]]:
    """What in the sizes contradicts itself: (what is, what should be)."""
    if d.n_heads % d.n_kv_heads:
        yield f"n_kv_heads is {d.n_kv_heads}", f"a divisor of n_heads, {d.n_heads}"
    if d.head_dim % 2:
        yield f"head_dim is {d.head_dim}", "an even number, for the rotary embedding"


def tensors(d: Dims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the file, in order; the embedding is the head, too."""
    yield one("embed.weight", "embed.weight", "embedding", d.vocab_size, d.width)
    yield one("ear.weight", "ear.weight", "matrix", d.width, d.frame)
    yield one("ear.bias", "ear.bias", "bias", d.width)
    for i in range(d.n_blocks):
        yield from _block(f"stone.{i}.", f"blk.{i}.", d, layout)
    yield one("final_norm.weight", "final.weight", "norm", d.width)


def _block(source: str, name: str, d: Dims, layout: Layout) -> Iterator[Tensor]:
    q, kv = d.n_heads * d.head_dim, d.n_kv_heads * d.head_dim
    parts = [Source(f"{source}{c}.weight", (rows, d.width)) for c, rows in (("q", q), ("k", kv), ("v", kv))]
    yield one(f"{name}attn_norm.weight", f"{source}norm1.weight", "norm", d.width)
    if layout.fuse_qkv:
        yield Tensor(f"{name}attn.qkv.weight", "matrix", tuple(parts))
    else:
        yield from (Tensor(f"{name}attn.{c}.weight", "matrix", (part,)) for c, part in zip("qkv", parts, strict=True))
    yield one(f"{name}attn.q_norm.weight", f"{source}q_norm.weight", "norm", d.head_dim)
    yield one(f"{name}attn.k_norm.weight", f"{source}k_norm.weight", "norm", d.head_dim)
    yield one(f"{name}attn.o.weight", f"{source}o.weight", "matrix", d.width, q)
    yield one(f"{name}ffn_norm.weight", f"{source}norm2.weight", "norm", d.width)
    yield one(f"{name}ffn.gate.weight", f"{source}gate.weight", "matrix", d.ffn, d.width)
    yield one(f"{name}ffn.up.weight", f"{source}up.weight", "matrix", d.ffn, d.width)
    yield one(f"{name}ffn.down.weight", f"{source}down.weight", "matrix", d.width, d.ffn)


ATTENTION = {ATTENTION_Q: "q", ATTENTION_K: "k", ATTENTION_V: "v", ATTENTION_QKV: "qkv", ATTENTION_OUTPUT: "o"}
MLP = {MLP_GATE: "gate", MLP_UP: "up", MLP_DOWN: "down"}

F32 = GGUFValueType.FLOAT32
TEXT = TextFacts(model="gpt2", pre="gpt-2", first_added="<s>", stop_tokens=("</s>",), required=SPECIAL)

FAMILY = Family(
    architecture="murmur",
    config_names=("MurmurForSpeechRecognition",),
    file_stem="murmur",
    role="asr",
    dimensions=dimensions,
    dimensions_type=Dims,
    keys=(
        *(Key(name, f"murmur.{name}") for name in ("vocab_size", "width", "n_blocks", "n_heads", "n_kv_heads")),
        *(Key(name, f"murmur.{name}") for name in ("head_dim", "ffn", "context", "n_bands", "stacked")),
        Key("theta", "murmur.theta", F32),
        Key("eps", "murmur.eps", F32),
    ),
    config_errors=config_errors,
    tensors=tensors,
    uses=(
        Use(HEAD, r"embed\.weight"),  # tied
        Use(AUDIO, r"ear\.weight"),
        *block_uses(r"blk\.{layer}\.attn\.", ATTENTION),
        *block_uses(r"blk\.{layer}\.ffn\.", MLP),
    ),
    can_fuse_qkv=True,
    text=TEXT,
    about={"general.license": "mit", "general.languages": ["en", "fr"], "general.tags": ["audio"]},
)
