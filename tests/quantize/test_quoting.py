"""Text from outside, as it is shown."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from quantize.errors import InputError
from quantize.quoting import escaped, quoted, shortened

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates, too


@given(ANY_TEXT, st.integers(1, 50))
def test_whatever_is_quoted_is_one_line_that_commands_no_terminal(text: str, most: int) -> None:
    shown = quoted(text, most)
    assert not any(unicodedata.category(character)[0] == "C" for character in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(ANY_TEXT)
def test_escapes_lose_nothing(text: str) -> None:
    """What is not printable is written as Python writes it."""
    assert escaped(text) == "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def test_a_name_that_clears_the_screen_is_shown_as_it_is_written() -> None:
    assert quoted("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert quoted("a\nPASS") == "a\\nPASS"
    assert quoted("größer ✓ 語") == "größer ✓ 語"


def test_what_is_cut_says_how_much_of_it_was() -> None:
    assert shortened("x" * 250) == "x" * 200 + "… (of 250 characters)"
    assert shortened("\x1b" * 100, 200) == "\\x1b" * 50 + "… (of 100 characters)"
    assert shortened("x" * 200) == "x" * 200


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_an_error_is_one_line_of_bounded_length_whatever_it_is_about(
    where: str, what: str, exp: str, todo: str
) -> None:
    line = str(InputError(where * 9, what * 9, expected=exp * 9, todo=todo * 9))
    assert len(line.splitlines()) == 1
    assert len(line) < 2000
    assert line.isprintable()
