"""What a file says of its licence, languages and tags, in the card's metadata."""

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from mimo_publish.card import as_card
from mimo_publish.sections.metadata import LICENCES, MOST, OTHER, languages, licence, tags
from quantize.errors import InputError
from tests import reports

from ..published import LM, Q8, TOKENIZER, alone, good, metadata, one_pair, with_file, without_provenance

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
HOSTILE = ["mit\nbase_model: evil/model", "mit\n---\n# PASS", "*anchor", "!!python/object", "x" * 10_000, "\x1b[2J"]


def card_of(**about: Any) -> Any:
    """The metadata of a card, as the Hub's library reads it, of files that say this of themselves."""
    report = good()
    for name in (LM, Q8, TOKENIZER):
        report = with_file(report, name, about={"license": None, "languages": None, "tags": None} | about)
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


# ── of a whole report ────────────────────────────────────────────────────────────────────────────────────────────
def test_the_hub_reads_licence_languages_models_and_tags() -> None:
    card = as_card(good())
    assert metadata(card) == {
        "license": "mit", "language": ["en", "zh"], "library_name": "gguf",
        "pipeline_tag": "automatic-speech-recognition",
        "base_model": ["XiaomiMiMo/MiMo-V2.5-ASR", "XiaomiMiMo/MiMo-Audio-Tokenizer"],
        "base_model_relation": "quantized", "quantized_by": "someone",
        "tags": ["audio", "audio-tokenizer", "automatic-speech-recognition", "ggml", "gguf"],
    }  # fmt: skip
    assert yaml.safe_load(card.split("---\n")[1]) == metadata(card)
    assert ModelCard(card).content == card  # the library would write the very same


def test_an_audio_tokenizer_alone_is_no_recogniser_of_speech() -> None:
    found = metadata(as_card(alone()))
    assert found["pipeline_tag"] == "feature-extraction"
    assert found["base_model"] == "XiaomiMiMo/MiMo-Audio-Tokenizer"
    assert "language" not in found


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])), min_size=1, max_size=4))
def test_no_text_of_a_file_spoils_the_metadata(texts: list[str]) -> None:
    report = with_file(one_pair(), LM, about={"license": texts[0], "languages": texts, "tags": texts})
    report = with_file(report, TOKENIZER, about={"license": None, "languages": None, "tags": None})
    found = metadata(as_card(report))
    assert found.keys() - {"license", "language"} == metadata(as_card(one_pair())).keys() - {"license", "language"}
    assert found.get("license", OTHER) in LICENCES
    assert {*found.get("language", [])} <= {*texts}
    assert {"gguf", "ggml"} <= {*found["tags"]} <= {"gguf", "ggml", *texts}


def test_a_language_that_yaml_takes_for_a_truth_value_stays_a_language() -> None:
    report = with_file(one_pair(), LM, about={"license": "mit", "languages": ["no", "en"], "tags": None})
    assert metadata(as_card(report))["language"] == ["en", "no"]


def test_files_that_do_not_say_what_they_are_made_of_get_no_card() -> None:
    report = without_provenance(without_provenance(one_pair(), LM), TOKENIZER)
    with pytest.raises(InputError, match=rf"{LM} and {TOKENIZER}: .*--base-model OWNER/NAME"):
        as_card(report)


def test_a_report_of_no_publication_is_refused() -> None:
    with pytest.raises(InputError, match="mimo-publish"):
        as_card(reports.report())
