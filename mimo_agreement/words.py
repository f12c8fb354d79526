"""Errors of transcripts after normalisation, in words, or in characters for languages written without spaces.

The normalisers are those of Whisper (Radford et al. 2022, appendix C; the package whisper-normalizer). The one for
English writes numbers in digits, contractions and titles in full and British words as American ones, and deletes `hmm`,
`mm`, `mhm`, `mmm`, `uh` and `um`; for every language, case, punctuation and symbols do not count, and what stands in
brackets is deleted. Such differences are never errors, of the reference or of the hypothesis. Other than in Whisper,
combining marks are kept: without them, different words of Hindi or Thai would be equal.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from quantize.errors import InputError
from runtime_check.text.words import DELETION, EQUAL, INSERTION, Span, WordErrors

from .records import CHARACTERS, WORDS

if TYPE_CHECKING:
    import types

PACKAGE = "whisper-normalizer"
ENGLISH, OTHER = "english", "other"  # languages with a normaliser of their own, for words
NOT_NAMED = ("", "auto")  # as a language
UNSPACED = frozenset(  # languages that are written without spaces
    ("chinese", "mandarin", "cantonese", "japanese", "thai", "lao", "khmer", "burmese", "myanmar", "tibetan")
)
UNSPACED_SCRIPTS = frozenset(  # as Unicode's names of their letters begin
    ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
)
INVISIBLE = str.maketrans(  # the zero-width space, which stands between words; the soft hyphen, and other marks
    {"\u200b": " ", "\u00ad": None, "\u200e": None, "\u200f": None, "\u2060": None, "\ufeff": None}
)
SPOKEN = "LMN"  # letters, marks and numbers, as Unicode's categories; of an ellipsis, Whisper's leaves a full stop
MOST_TEXTS = 1 << 17  # normalised texts that are kept: those of several files are often equal

Normalise = Callable[[str], str]
Words = tuple[str, ...]


def count(reference: str, hypothesis: str, language: str, unit: str = "") -> WordErrors:
    """Count the errors of a hypothesis, both texts normalised, in WORDS or CHARACTERS (empty: as `unit_of` says).

    Of a reference without words, every word of the hypothesis is an insertion. Raises InputError for a normaliser that
    hides errors.
    """
    unit = unit or unit_of(language, reference)
    theirs, ours = (words_of(text, language, unit) for text in (reference, hypothesis))
    if theirs == ours or not theirs or not ours:
        missing, added = (0, 0) if theirs == ours else (len(theirs), len(ours))
        return WordErrors(len(theirs), deletions=missing, insertions=added)
    edits = Counter(tag for tag, _, _ in _levenshtein().editops(theirs, ours))
    return WordErrors(len(theirs), edits["replace"], edits["delete"], edits["insert"])


def align(reference: str, hypothesis: str, language: str, unit: str = "") -> list[Span]:
    """Align two normalised texts into spans in reading order, whose errors are those of `count`; a substitution is a
    DELETION followed by an INSERTION."""
    unit = unit or unit_of(language, reference)
    theirs, ours = (words_of(text, language, unit) for text in (reference, hypothesis))
    if not theirs or not ours:
        return [_span(kind, words, unit) for kind, words in ((DELETION, theirs), (INSERTION, ours)) if words]
    spans = []
    for tag, begin, end, our_begin, our_end in _levenshtein().opcodes(theirs, ours):
        deleted, written = theirs[begin:end], ours[our_begin:our_end]
        kinds = ((EQUAL, written),) if tag == EQUAL else ((DELETION, deleted), (INSERTION, written))
        spans += [_span(kind, words, unit) for kind, words in kinds if words]
    return spans


def unit_of(language: str, text: str) -> str:
    """What errors are counted in: CHARACTERS for a language that is written without spaces; if it is not named, for a
    text most of whose letters are of such a script; else WORDS."""
    name = language.lower()
    if name not in NOT_NAMED:
        return CHARACTERS if name in UNSPACED else WORDS
    letters = [letter for letter in unicodedata.normalize("NFKC", text) if letter.isalpha()]
    unspaced = sum(unicodedata.name(letter, "").split(" ", 1)[0] in UNSPACED_SCRIPTS for letter in letters)
    return CHARACTERS if 2 * unspaced > len(letters) else WORDS


@lru_cache(MOST_TEXTS)
def words_of(text: str, language: str, unit: str) -> Words:
    """The words of a text, or its characters (grapheme clusters), normalised. Raises InputError as `count`."""
    kind = CHARACTERS if unit == CHARACTERS else ENGLISH if language.lower() == ENGLISH else OTHER
    plain = text.translate(INVISIBLE)
    try:
        words = normaliser(kind)(plain).split()
    except (AssertionError, ValueError):  # a number of more than 4,300 digits: an endless response
        words = normaliser(OTHER)(plain).split()
    return tuple(word for word in words if any(unicodedata.category(letter)[0] in SPOKEN for letter in word))


# ── the normalisers ───────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def normaliser(kind: str) -> Normalise:
    """The normaliser for ENGLISH or OTHER words, or for CHARACTERS. Raises InputError if it makes texts equal that are
    not."""
    normalise = MAKE[kind]()
    for one, other in DIFFERENT[kind]:
        if normalise(one).split() == normalise(other).split():
            what = f"hides errors: {one!r} and {other!r} are equal to it"
            raise InputError(PACKAGE, what, todo=f"install {PACKAGE}>=0.1.13 from PyPI")
    return normalise


def _english() -> Normalise:
    from whisper_normalizer.english import EnglishTextNormalizer  # late: takes a tenth of a second

    return EnglishTextNormalizer()


def _other() -> Normalise:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(preserve_marks=True)


def _characters() -> Normalise:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(preserve_marks=True, split_letters=True)


MAKE: Mapping[str, Callable[[], Normalise]] = {ENGLISH: _english, OTHER: _other, CHARACTERS: _characters}
DIFFERENT = {  # texts that each normaliser must tell apart
    ENGLISH: (
        ("two cats", "three cats"), ("fifteen", "fifty"), ("I can", "I can't"), ("he is", "he was"),
        ("the cat sat", "the cat"), ("affect", "effect"), ("carpet", "carpenter"), ("no", "no no"), ("go on", "on go"),
    ),
    OTHER: (
        ("zwei", "drei"), ("zwei Katzen", "zwei"), ("schon", "schön"), ("की", "कि"), ("nein", "nein nein"),
        ("мир", "мор"),
    ),
    CHARACTERS: (("我", "你"), ("か", "が"), ("ขาว", "ข้าว"), ("我们", "我"), ("不", "不不"), ("上海", "海上")),
}  # fmt: skip


def _levenshtein() -> "types.ModuleType":
    """The minimum edit distance that jiwer uses, without its own normalisation, which takes most of its time."""
    from rapidfuzz.distance import Levenshtein  # late: what is not compared needs none of it

    return Levenshtein


def _span(kind: str, words: Words, unit: str) -> Span:
    return Span(kind, ("" if unit == CHARACTERS else " ").join(words))
