"""The model families. Adding one is adding a file here and its line below."""

from quantize.errors import InputError

from ..checkpoint import Checkpoint
from . import mimo_asr, mimo_tokenizer
from .family import Family, Key, PublishedVocabulary, Source, Tensor

FAMILIES: tuple[Family, ...] = (mimo_asr.FAMILY, mimo_tokenizer.FAMILY)

__all__ = ["FAMILIES", "Family", "Key", "PublishedVocabulary", "Source", "Tensor", "family_named", "family_of"]


def family_named(architecture: str) -> Family | None:
    """The family that a GGUF file names in `general.architecture`; None if none is known by that name."""
    return next((family for family in FAMILIES if family.gguf == architecture), None)


def family_of(checkpoint: Checkpoint) -> Family:
    """The family that config.json names in `architectures` or `model_type`; InputError if none is known."""
    values = checkpoint.config.values
    listed = values.get("architectures")
    names = [*(listed if isinstance(listed, list) else []), values.get("model_type")]
    for family in FAMILIES:
        if any(name in family.architectures for name in names):
            return family
    found = ", ".join(str(name) for name in names if name) or "nothing"
    known = ", ".join(name for family in FAMILIES for name in family.architectures)
    raise InputError(checkpoint.config.path, f"names the architecture {found}", expected=f"one of {known}")
