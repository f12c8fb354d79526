"""Recipes that have a name: which type the matrices of a use get, by layer, in any family that names its uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mimo_convert.model.uses import ATTENTION_QKV, ATTENTION_V, AUDIO, HEAD, MLP_DOWN, MLP_GATE, MLP_UP
from quantize.errors import InputError
from quantize.types import MIX_NUMBERS, TYPES, Type

ALIKE = 0.6  # of two names, by `difflib`: one may be meant by the other

Layers = Callable[[int, int], bool]  # of a layer's index, and the number of layers of its stack


def every_layer(i: int, n: int) -> bool:
    """All layers."""
    return True


def sensitive_layers(i: int, n: int) -> bool:
    """The first and the last eighth of the layers, and every third between them (`use_more_bits` of llama.cpp's
    src/llama-quant.cpp)."""
    first, last = n // 8, 7 * n // 8
    return i < first or i >= last or (i - first) % 3 == 2


@dataclass(frozen=True)
class Share:
    """The matrices of these uses, in these layers, get a type of their own."""

    uses: tuple[str, ...]
    ggml_type: Type
    layers: Layers = every_layer


@dataclass(frozen=True)
class NamedRecipe:
    """A mix of types: `base` is that of every matrix that belongs to no share; `words` say what is in it."""

    name: str
    base: Type
    words: str
    shares: tuple[Share, ...]

    @property
    def file_type(self) -> int:
        """The `general.file_type` of its files: llama.cpp's of the mix, else that of the base."""
        return MIX_NUMBERS.get(self.name, self.base.file_type)

    @property
    def least(self) -> Type:
        """The type with the fewest bits that is in it."""
        return min((self.base, *(share.ggml_type for share in self.shares)), key=lambda one: one.bits_per_weight)


Q4_K, Q5_K, Q6_K, Q8_0 = (TYPES[name] for name in ("q4_k", "q5_k", "q6_k", "q8_0"))

# llama.cpp's mixes are of a text model; what belongs to its audio tower stands in another file there.
OF_LLAMA_CPP = (
    Share((ATTENTION_V, ATTENTION_QKV, MLP_DOWN), Q6_K, sensitive_layers),
    Share((HEAD,), Q6_K),
    Share((AUDIO,), Q8_0),
)
WORDS = "output head, and V and MLP down of half of the layers, q6_k; audio tower q8_0"

NAMED = {
    recipe.name: recipe
    for recipe in (
        NamedRecipe(
            "mixed-8-4", Q8_0, "q8_0: attention, embeddings, heads, audio tower; MLP q4_k",
            (Share((MLP_GATE, MLP_UP, MLP_DOWN), Q4_K),),
        ),
        NamedRecipe("q4_k_m", Q4_K, f"q4_k; {WORDS} (llama.cpp's Q4_K_M)", OF_LLAMA_CPP),
        NamedRecipe("q5_k_m", Q5_K, f"q5_k; {WORDS} (llama.cpp's Q5_K_M)", OF_LLAMA_CPP),
    )
}  # fmt: skip


def recipe_named(name: NamedRecipe | str) -> NamedRecipe:
    """The recipe of that name, or the recipe itself. Raises InputError for any other name."""
    if isinstance(name, NamedRecipe):
        return name
    if found := NAMED.get(name.lower()):
        return found
    raise InputError(name, "is no recipe", expected=f"one of {' '.join(NAMED)}", todo=did_you_mean(name))


def check_recipe(recipe: NamedRecipe | str | None, types: Sequence[Type | str], option: str = "--outtype") -> None:
    """Raise InputError for a named recipe beside types that are asked for by `option`."""
    if recipe and types:
        asked = " ".join(one if isinstance(one, str) else one.name for one in types)
        what = f"is given beside the recipe {recipe_named(recipe).name}, which decides over every type"
        raise InputError(f"{option} {asked}", what, todo="leave one of them out")


def did_you_mean(name: str) -> str:
    """Which recipe somebody may have meant who wrote `name`; empty if that is anybody's guess."""
    near = get_close_matches(name.lower()[:100], NAMED, 1, ALIKE)
    return f"did you mean {near[0]}?" if near else ""


def list_of_recipes() -> str:
    """The recipes, a line each."""
    width = max(map(len, NAMED))
    return "\n".join(f"{recipe.name:<{width}}  {recipe.words}" for recipe in NAMED.values())
