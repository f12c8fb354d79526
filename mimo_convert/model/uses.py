"""What a family's matrices are used for, by name, so that a recipe can speak of attention, MLP and layers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

# Uses of a decoder's matrices, as llama.cpp's mixes tell them apart (src/llama-quant.cpp); ATTENTION_QKV is fused.
ATTENTION_Q, ATTENTION_K, ATTENTION_V = "attention_q", "attention_k", "attention_v"
ATTENTION_QKV, ATTENTION_OUTPUT = "attention_qkv", "attention_output"
MLP_GATE, MLP_UP, MLP_DOWN = "mlp_gate", "mlp_up", "mlp_down"
EMBEDDING = "embedding"
HEAD = "head"  # the output head; also an embedding that is the head (tied)
AUDIO = "audio"  # every matrix of an audio tower beside a text decoder

USES = (
    ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_QKV, ATTENTION_OUTPUT, MLP_GATE, MLP_UP, MLP_DOWN, EMBEDDING, HEAD,
    AUDIO,
)  # fmt: skip

# llama.cpp's names of the matrices of a decoder's block, behind `blk.N.`, by use; its importance matrices have them.
LLAMA_CPP_NAMES = {
    ATTENTION_Q: "attn_q", ATTENTION_K: "attn_k", ATTENTION_V: "attn_v", ATTENTION_QKV: "attn_qkv",
    ATTENTION_OUTPUT: "attn_output", MLP_GATE: "ffn_gate", MLP_UP: "ffn_up", MLP_DOWN: "ffn_down",
}  # fmt: skip

LAYER = "{layer}"  # stands for a layer's number in the pattern of a use
STACK = re.compile(r"(?P<stack>.*?)\.?\{layer\}.*")


@dataclass(frozen=True)
class Use:
    """The tensors of a family's file for one use: `pattern` is a regular expression of whole names, in which `{layer}`
    stands for the layer's number. Layers of several stacks are counted apart: a stack is a use of its own."""

    use: str
    pattern: str

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern.replace(LAYER, r"(?P<layer>\d+)", 1))

    def layer_of(self, name: str) -> int | None:
        """The layer of a tensor, 0 where the pattern has none; None for a tensor of another use."""
        found = self._regex.fullmatch(name)
        return int(found.groupdict().get("layer", 0)) if found else None

    @property
    def stack(self) -> str:
        """What the names of a stack's tensors begin with, before the layer's number; empty without layers."""
        found = STACK.fullmatch(self.pattern.replace("\\", ""))
        return found["stack"] if found else ""

    def pattern_of(self, layers: Sequence[int] | None = None) -> str:
        """The pattern of the tensors of some layers (None: all of them), in the syntax of a rule."""
        numbers = r"\d+" if layers is None else f"({'|'.join(map(str, layers))})"
        return f"^{self.pattern.replace(LAYER, numbers)}$"


@dataclass(frozen=True)
class UseTypes:
    """The type of each tensor of a use, by layer in a `stack`, else (`stack` empty) in the file's order."""

    use: str
    stack: str
    types: tuple[str, ...]


def types_by_use(uses: Sequence[Use], types: Iterable[tuple[str, str]]) -> tuple[UseTypes, ...]:
    """The types of a file's tensors, (name, type), by use; without uses that it has no tensor of."""
    named = list(types)
    found = []
    for use in uses:
        of_use = [(layer, one) for name, one in named if (layer := use.layer_of(name)) is not None]
        if of_use:
            in_order = sorted(of_use, key=lambda one: one[0]) if use.stack else of_use
            found.append(UseTypes(use.use, use.stack, tuple(one for _, one in in_order)))
    return tuple(found)


def block_uses(prefix: str, names: Mapping[str, str]) -> tuple[Use, ...]:
    """The uses of a stack of blocks: `names` maps a use to the pattern of the weight's name behind `prefix`."""
    return tuple(Use(use, rf"{prefix}{name}\.weight") for use, name in names.items())
