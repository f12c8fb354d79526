"""The ggml types that a file can be written in, as one table.

Numbers are those of ggml's `ggml_type` and `llama_ftype`; a test compares every row with ggml and with the `gguf`
library.
"""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches

from .errors import InputError

# Half a step above the largest finite value, where rounding to nearest gives infinity.
OVERFLOW = {"f16": 65520.0, "bf16": (2 - 2**-8) * 2.0**127, "f32": math.inf}


@dataclass(frozen=True)
class Type:
    """A ggml type: `block` weights are stored in `block_bytes` bytes.

    `ggml` is its number in a tensor's header; `file_type` the `general.file_type` of a file of this type (for Q3_K,
    Q4_K and Q5_K the `_S` variant, since types are not mixed); `fallback` the type for rows that are not a multiple of
    `block`, F16 at last.
    """

    name: str
    ggml: int
    file_type: int
    block: int
    block_bytes: int
    fallback: str = "f16"

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight (bpw), scales included."""
        return self.block_bytes * 8 / self.block

    def nbytes(self, n_weights: int) -> int:
        """Bytes of `n_weights` weights, a multiple of `block`."""
        return n_weights // self.block * self.block_bytes

    @property
    def overflow(self) -> float:
        """The least absolute value that is not finite in this type; block types have F16 scales."""
        return OVERFLOW.get(self.name, OVERFLOW["f16"])


TYPES: dict[str, Type] = {
    row.name: row
    for row in (
        Type("f32", 0, 0, 1, 4),
        Type("f16", 1, 1, 1, 2),
        Type("bf16", 30, 32, 1, 2),
        Type("q8_0", 8, 7, 32, 34),
        Type("q6_k", 14, 18, 256, 210, fallback="q8_0"),
        Type("q5_k", 13, 16, 256, 176, fallback="q5_0"),
        Type("q4_k", 12, 14, 256, 144, fallback="q4_0"),
        Type("q3_k", 11, 11, 256, 110, fallback="q4_0"),
        Type("q2_k", 10, 10, 256, 84, fallback="q4_0"),
        Type("q5_1", 7, 9, 32, 24),
        Type("q5_0", 6, 8, 32, 22),
        Type("q4_1", 3, 3, 32, 20),
        Type("q4_0", 2, 2, 32, 18),
        Type("iq4_nl", 20, 25, 32, 18),
        Type("iq4_xs", 23, 30, 256, 136, fallback="iq4_nl"),
    )
}

BY_GGML = {row.ggml: row for row in TYPES.values()}

# `general.file_type` of llama.cpp's mixes, which are named recipes here (`llama_ftype`); and the type that each is of.
MIX_NUMBERS = {"q4_k_m": 15, "q5_k_m": 17}
BY_FILE_TYPE = {row.file_type: row for row in TYPES.values()} | {
    number: TYPES[name.removesuffix("_m")] for name, number in MIX_NUMBERS.items()
}

F32, F16, BF16 = TYPES["f32"], TYPES["f16"], TYPES["bf16"]

# Other programs' names of types; and of mixes, by the type of most of their weights (llama.cpp's `llama_ftype`).
OTHER_NAMES = {
    "fp32": "f32", "float32": "f32", "fp16": "f16", "float16": "f16", "half": "f16", "bfloat16": "bf16", "int8": "q8_0",
    "q8": "q8_0", "q6": "q6_k", "q5": "q5_k", "q4": "q4_k", "q3": "q3_k", "q2": "q2_k", "int4": "q4_k",
}  # fmt: skip
MIX = re.compile(r"(i?q\d(?:_k)?)_(?:xs|s|m|l|xl)")
MIXED = "A mix of types is made by rules, such as --tensor-type 'lm_head|embed=q6_k'"


def type_named(name: Type | str) -> Type:
    """The type of that name, or the type itself. Raises InputError for any other name."""
    if isinstance(name, Type):
        return name
    if found := TYPES.get(name.lower()):
        return found
    raise InputError(name, "is no type", expected=f"one of {' '.join(TYPES)}", todo=did_you_mean(name))


def did_you_mean(name: str) -> str:
    """What somebody may have meant who wrote `name`, which is no type; empty if that is anybody's guess."""
    name = name.strip().lower().replace("-", "_")
    if "," in name:
        return "give the option once for each type"
    mix = MIX.fullmatch(name)
    close = mix[1] if mix and mix[1] in TYPES else OTHER_NAMES.get(name)
    close = close or next(iter(get_close_matches(name, TYPES, n=1, cutoff=0.7)), "")
    of_mix = f"--recipe {name} makes that mix" if name in MIX_NUMBERS else MIXED
    return " ".join(filter(None, (f"did you mean {close}?" if close else "", of_mix if mix else "")))
