"""What a file is compared with: one word for it, and the older ones, which mean what they meant."""

from pathlib import Path
from typing import Any

import pytest

from mimo_families.comparison import Comparison, comparison_of
from mimo_families.sources import BUNDLED, GGUF, STORED, ModelSource
from quantize.errors import InputError
from tests.opened import TINY_REFERENCE

TINY = ModelSource("tiny", BUNDLED)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    return tmp_path / "other.gguf"


@pytest.mark.parametrize(
    ("old", "new", "means"),
    [
        ({"checkpoint": "tiny"}, {"reference": "tiny", "compare": "rows"}, Comparison((TINY,), None, lint=True)),
        ({"against": "{}"}, {"reference": "{}"}, Comparison((ModelSource("{}", GGUF),), ModelSource("{}", GGUF))),
        (
            {"checkpoint": "tiny", "reference": "tiny"},
            {"reference": "tiny", "compare": "both"},
            Comparison((TINY,), TINY, lint=True),
        ),
        ({"reference": "tiny"}, {"reference": "tiny", "compare": "stages"}, Comparison((), TINY)),
        ({}, {}, Comparison()),
    ],
)
def test_the_older_words_mean_the_same_as_the_one(
    other: Path, old: dict[str, Any], new: dict[str, Any], means: Comparison
) -> None:
    def named(options: dict[str, Any]) -> Comparison:
        return comparison_of(**{"reference": None} | {key: value.format(other) for key, value in options.items()})

    def at(source: ModelSource | None) -> ModelSource | None:
        return source and source._replace(value=source.value.format(other))

    expected = Comparison(tuple(at(source) or source for source in means.rows), at(means.stages), means.lint)
    assert named(old) == named(new) == expected


def test_a_checkpoint_may_stand_beside_another_reference(other: Path) -> None:
    found = comparison_of(str(TINY_REFERENCE), checkpoint="tiny")
    assert (found.rows, found.stages) == ((TINY,), ModelSource(str(TINY_REFERENCE), STORED))
    assert comparison_of(None, against=other, checkpoint="tiny").rows == (TINY, ModelSource(str(other), GGUF))


@pytest.mark.parametrize(
    ("options", "is_run"),
    [
        ({}, True),
        ({"static": True}, False),
        ({"checkpoint": "tiny"}, False),
        ({"static": True, "reference": "tiny"}, True),
        ({"checkpoint": "tiny", "reference": "tiny"}, True),
        ({"reference": "tiny", "compare": "rows"}, False),
        ({"reference": "{}", "compare": "rows"}, False),
        ({"against": "{}", "static": True}, True),
    ],
)
def test_a_file_is_run_for_stages_or_if_nothing_else_is_asked_for(
    other: Path, options: dict[str, Any], is_run: bool
) -> None:
    given = {key: value.format(other) if isinstance(value, str) else value for key, value in options.items()}
    assert comparison_of(**{"reference": None} | given).is_run == is_run


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"reference": "tiny", "against": "x"},
            "--against: and --reference: there can be one reference; give one of t",
        ),
        ({"reference": None, "compare": "rows"}, "--compare: there is nothing to compare with; give a --reference"),
        (
            {"reference": str(TINY_REFERENCE), "compare": "rows"},
            "holds stages, and no rows of tensors; expected a chec",
        ),
        ({"reference": str(TINY_REFERENCE), "compare": "both"}, "--compare both: "),
        (
            {"reference": None, "checkpoint": str(TINY_REFERENCE)},
            "reference.safetensors: is a file; expected a checkpo",
        ),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        comparison_of(**options)
    assert says in str(error.value)
