"""What mixes are called."""

from pathlib import Path

import pytest

from mimo_convert.plan.variant import LONGEST, file_name, variant_of
from quantize.errors import InputError


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (None, "mix"),
        ("heads.txt", "heads"),
        ("recipes/q6 heads, best.v2.txt", "q6-heads-best.v2"),
        ("-.txt", "mix"),
        ("größe.txt", "gr-e"),
        (f"{'x' * 100}.txt", "x" * LONGEST),
    ],
)
def test_a_mix_is_called_as_its_recipe(recipe: str | None, name: str) -> None:
    variant = variant_of(None, Path(recipe) if recipe else None)
    assert (variant.name, variant.always, variant.recorded) == (name, False, False)
    assert file_name("mimo-asr", "q4_k", variant.name) == f"mimo-asr-q4_k-{name}.gguf"


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "..", "x" * (LONGEST + 1), "ü", "a\n"])
def test_a_name_that_no_file_could_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^--name: .*; expected at most 64 letters, digits and \. _ \+ -"):
        variant_of(name, None)


def test_what_is_no_mix_has_no_name_of_its_own() -> None:
    assert file_name("mimo-asr", "q4_k") == "mimo-asr-q4_k.gguf"
