"""Errors in words and characters, after normalisation."""

from collections.abc import Callable, Iterator

import jiwer
import pytest
import whisper_normalizer.basic
import whisper_normalizer.english
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_agreement.records import CHARACTERS, WORDS
from mimo_agreement.words import UNSPACED, align, count, normaliser, unit_of, words_of
from quantize.errors import InputError
from runtime_check.text.words import DELETION, EQUAL, INSERTION, WordErrors

LANGUAGES = st.sampled_from(["english", "german", "chinese", "thai", "auto"])
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["one", "two", "hundred", "and", "a", "half", "$", "5%", "uh", "1.", "猫", "กำ", "(", ")"])
    ).map(" ".join),
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language"),
    [
        ("Mr. Smith paid $20.", "mister smith paid twenty dollars", "english"),
        ("We won't go; it's late!", "we will not go it is late", "English"),
        ("My favourite colour", "my favorite color", "english"),
        ("I, uh, think so, um, yes.", "I think so yes", "english"),  # what is not counted
        ("Well... yes ...", "well yes", "english"),
        ("(laughs) Yes. [noise]", "yes", "english"),
        ("Guten Tag, Herr Müller!", "guten tag herr müller", "german"),
        ("今天，天气很好。", "今天 天气很好", "chinese"),
        ("ＡＢＣ１２３", "abc123", "japanese"),
        ("สวัสดี\u200bครับ", "สวัสดีครับ", "thai"),
    ],
)
def test_what_is_written_otherwise_is_no_error(reference: str, hypothesis: str, language: str) -> None:
    assert count(reference, hypothesis, language).errors == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language", "errors"),
    [
        ("two cats", "three cats", "english", WordErrors(2, substitutions=1)),
        ("twenty one cats", "twenty cats", "english", WordErrors(2, substitutions=1)),
        ("the year 1984", "the year 1985", "english", WordErrors(3, substitutions=1)),
        ("I can go", "I can't go", "english", WordErrors(3, insertions=1)),
        ("ask not what", "ask what", "english", WordErrors(3, deletions=1)),
        ("five percent", "five dollars", "english", WordErrors(1, substitutions=1)),
        ("affect", "effect", "english", WordErrors(1, substitutions=1)),
        ("zwei Katzen", "2 Katzen", "german", WordErrors(2, substitutions=1)),  # English numbers alone are known
        ("schon", "schön", "german", WordErrors(1, substitutions=1)),
        ("की", "कि", "hindi", WordErrors(1, substitutions=1)),
        ("三只猫", "五只猫", "chinese", WordErrors(3, substitutions=1)),
        ("ขาว", "ข้าว", "thai", WordErrors(3, substitutions=1)),
        ("か", "が", "japanese", WordErrors(1, substitutions=1)),
    ],
)
def test_errors_stay_errors(reference: str, hypothesis: str, language: str, errors: WordErrors) -> None:
    assert count(reference, hypothesis, language) == errors


@pytest.mark.parametrize("language", ["english", "german", "chinese", "auto"])
def test_without_a_reference_every_word_is_an_insertion(language: str) -> None:
    found = count("", "a b c", language)
    assert found == WordErrors(0, insertions=3)
    assert found.rate is None
    assert count("a b c", "...", language) == WordErrors(3, deletions=3)
    assert count("", "!", language) == WordErrors(0)


@given(TEXTS, TEXTS, LANGUAGES)
@settings(deadline=None)
def test_errors_are_those_of_an_edit(reference: str, hypothesis: str, language: str) -> None:
    found = count(reference, hypothesis, language)
    unit = unit_of(language, reference)
    theirs, ours = (words_of(text, language, unit) for text in (reference, hypothesis))
    assert found.words == len(theirs)
    assert found.words - found.deletions + found.insertions == len(ours)
    assert abs(len(theirs) - len(ours)) <= found.errors <= max(len(theirs), len(ours))
    assert (found.errors == 0) == (theirs == ours)
    if theirs and ours:
        by_jiwer = jiwer.process_words(" ".join(theirs), " ".join(ours))
        assert found == WordErrors(len(theirs), by_jiwer.substitutions, by_jiwer.deletions, by_jiwer.insertions)
    assert count(reference, reference, language).errors == 0


@given(TEXTS, TEXTS, LANGUAGES)
@settings(deadline=None)
def test_spans_are_the_whole_texts_and_their_errors(reference: str, hypothesis: str, language: str) -> None:
    spans, unit = align(reference, hypothesis, language), unit_of(language, reference)
    space = "" if unit == CHARACTERS else " "
    for left_out, text in ((INSERTION, reference), (DELETION, hypothesis)):
        joined = space.join(span.text for span in spans if span.kind != left_out)
        assert joined == space.join(words_of(text, language, unit))
    assert all(span.text for span in spans)
    assert any(span.kind != EQUAL for span in spans) == (count(reference, hypothesis, language).errors > 0)


def test_spans_of_a_substitution() -> None:
    assert align("The black cat.", "the red cat", "english") == [
        (EQUAL, "the"), (DELETION, "black"), (INSERTION, "red"), (EQUAL, "cat"),
    ]  # fmt: skip
    assert align("黑猫", "红猫吗", "chinese") == [(DELETION, "黑"), (INSERTION, "红"), (EQUAL, "猫"), (INSERTION, "吗")]


@pytest.mark.parametrize("language", sorted(UNSPACED))
def test_languages_without_spaces_count_characters(language: str) -> None:
    assert unit_of(language, "whatever is written") == unit_of(language.title(), "") == CHARACTERS


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("今天天气很好", CHARACTERS), ("カタカナ", CHARACTERS), ("ﾊﾝｶｸ", CHARACTERS), ("สวัสดี", CHARACTERS),
        ("ສະບາຍດີ", CHARACTERS), ("សួស្តី", CHARACTERS), ("မင်္ဂလာပါ", CHARACTERS), ("བོད་སྐད", CHARACTERS),
        ("我用 GPU 跑很多模型训练", CHARACTERS), ("the word 猫 means cat", WORDS), ("안녕하세요 여러분", WORDS),
        ("Привет", WORDS), ("नमस्ते", WORDS), ("", WORDS), ("123 !", WORDS),
    ],
)  # fmt: skip
def test_if_no_language_is_named_the_script_decides(text: str, unit: str) -> None:
    assert unit_of("auto", text) == unit_of("", text) == unit
    assert unit_of("korean", text) == WORDS


@pytest.mark.parametrize("text", ["9" * 5000, "1,11" * 3000, "million " * 2000, "five " * 5000 + "hundred"])
def test_an_endless_number_is_counted_all_the_same(text: str) -> None:
    assert count("two cats", text, "english").errors >= 1


# ── a normaliser that hides errors is refused ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def fresh() -> Iterator[None]:
    """Normalisers that are made anew."""
    for cached in (normaliser, words_of):
        cached.cache_clear()
    yield
    for cached in (normaliser, words_of):
        cached.cache_clear()


FAULTS: dict[str, Callable[[str], str]] = {
    "everything is deleted": lambda text: "",
    "numbers are equal": lambda text: "".join(" " if letter.isdigit() else letter for letter in text),
    "words are sorted": lambda text: " ".join(sorted(text.split())),
    "repeated words are one": lambda text: " ".join(dict.fromkeys(text.split())),
    "words are cut": lambda text: " ".join(word[:2] for word in text.split()),
    "the last word is lost": lambda text: " ".join(text.split()[:-1]),
    "the negation is lost": lambda text: " ".join(word for word in text.split() if word != "not"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_normaliser_that_hides_errors_is_refused(fault: str, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = whisper_normalizer.english.EnglishTextNormalizer()
    monkeypatch.setattr(
        whisper_normalizer.english, "EnglishTextNormalizer", lambda: lambda text: FAULTS[fault](whole(text))
    )
    with pytest.raises(InputError, match="whisper-normalizer: hides errors"):
        count("a text", "another", "english")


def test_a_normaliser_that_deletes_vowels_is_refused(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    original = whisper_normalizer.basic.BasicTextNormalizer
    monkeypatch.setattr(
        whisper_normalizer.basic, "BasicTextNormalizer",
        lambda preserve_marks, split_letters=False: original(remove_diacritics=True, split_letters=split_letters),
    )  # fmt: skip
    for language in ("hindi", "thai"):
        with pytest.raises(InputError, match="whisper-normalizer: hides errors"):
            count("a text", "another", language)
