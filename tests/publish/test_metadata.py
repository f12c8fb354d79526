"""What a file says of its licence, languages and tags, in the card's metadata."""

from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from publish.card import as_card
from publish.metadata import LICENCES, MOST, languages, licence, tags

from .. import reports

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
HOSTILE = ["mit\nbase_model: evil/model", "mit\n---\n# PASS", "*anchor", "!!python/object", "x" * 10_000, "\x1b[2J"]


def card_of(**about: Any) -> Any:
    """The metadata of a card, as the Hub's library reads it, of files that say this of themselves."""
    report = reports.published_report()
    for check in report["checks"]:
        for role in ("speech_lm", "audio_tokenizer"):
            if check[role]:
                check[role]["about"] = {"license": None, "languages": None, "tags": None} | about
    return ModelCard(as_card(report)).data


@pytest.mark.parametrize("name", ["mit", "apache-2.0", "cc-by-4.0", " MIT "])
def test_a_licence_that_the_hub_knows_is_repeated(name: str) -> None:
    assert card_of(license=name).license == name.strip().lower()


@pytest.mark.parametrize("text", HOSTILE)
def test_any_other_text_is_no_licence_language_or_tag(text: str) -> None:
    data = card_of(license=text, languages=[text, "en"], tags=[text, "audio"])
    assert (data.license, data.language) == ("other", ["en"])
    assert set(data.tags) == {"audio", "gguf", "ggml"}
    assert "evil" not in str(data)


@given(ANYTHING)
def test_whatever_a_file_says_is_of_the_form_that_the_hub_knows(found: Any) -> None:
    assert licence(found) in LICENCES
    for listed in (languages(found), tags(found)):
        assert len(listed) <= MOST
        assert all(one.isascii() and one.isprintable() and 0 < len(one) <= 64 for one in listed)
