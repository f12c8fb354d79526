"""Role of a tensor + requested type → its ggml type. The rules are this table."""

from .types import F16, F32, TYPES, Type

# What a role asks for; None: the requested type. Codebooks stay exact because a code is an argmin: half precision
# flips it. Convolution kernels are never block-quantized.
ROLE_TYPES: dict[str, Type | None] = {
    "norm": F32,
    "bias": F32,
    "codebook": F32,
    "convolution": F16,
    "matrix": None,
    "embedding": None,
    "head": None,
}


def choose_type(role: str, row: int, requested: Type) -> tuple[Type, str]:
    """The type for a tensor with rows of `row` weights, and a note where it is not the one its role asked for.

    An F32 file is F32 throughout. A row that is no multiple of the block goes down the chain of fallbacks.
    """
    if requested is F32:
        return F32, ""
    wanted = ROLE_TYPES[role] or requested
    chosen = wanted
    while row % chosen.block:
        chosen = TYPES[chosen.fallback]
    note = "" if chosen is wanted else f"rows of {row} are not a multiple of {wanted.block}: {chosen.name}"
    return chosen, note
