"""A card's own paragraphs, which stay the publisher's, and templates of the publisher's own."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_publish.card import BEGIN, END, TEMPLATE, as_card, own_text
from quantize.errors import InputError

from ..published import LM, alone, good, metadata
from ..rendered import read, table

# ── the publisher's own paragraphs ───────────────────────────────────────────────────────────────────────────────

BITS = ["\n", "\r", " ", "\t", "-->", "<!--", "{{", "a", "```", "---", BEGIN, END]


@given(st.text() | st.lists(st.sampled_from(BITS)).map("".join))
def test_own_text_comes_back_byte_for_byte(own: str) -> None:
    if any(line.strip(" \t\r") in (BEGIN, END) for line in own.split("\n")):
        with pytest.raises(InputError):
            as_card(SMALL, own=own)
        return
    card = as_card(SMALL, own=own)
    assert own_text(card) == own
    assert as_card(SMALL, own=own_text(card) or "") == card


SMALL = alone()


@pytest.mark.parametrize(
    "own",
    [
        "",
        "\n",
        "\n\nHello\n\n",
        "a\r\nb\r\n",
        "\r",
        "{{ title }} {% endraw %} {# #}",
        "---\nlicense: other\n---\n",
        "日本語 🎙",
    ],
)
def test_own_text_may_look_like_anything(own: str) -> None:
    card = as_card(good(), own=own)
    assert own_text(card) == own
    assert f"{BEGIN}\n{own}\n{END}\n" in card
    assert metadata(card)["license"] == "mit"


def test_own_text_survives_an_editor_that_writes_other_line_ends() -> None:
    card = as_card(good(), own="Hello\n\nworld").replace("\n", "\r\n")
    own = own_text(card)
    assert own is not None
    assert own.split() == ["Hello", "world"]
    assert own_text(as_card(good(), own=own)) == own


def test_a_card_that_is_not_ours_has_no_own_text() -> None:
    assert own_text("# Somebody's card\n") is None


@pytest.mark.parametrize(
    "card", [BEGIN, END, f"{END}\n{BEGIN}\n", f"{BEGIN}\na\n{END}\n{BEGIN}\nb\n{END}", f"{BEGIN}\n{BEGIN}\n{END}"]
)
def test_markers_that_do_not_say_what_is_whose_lose_nothing(card: str) -> None:
    with pytest.raises(InputError, match=r"README\.md: the markers of your own text are not one of each"):
        own_text(f"# A card\n\n{card}\n")


def test_own_text_that_holds_a_marker_is_refused() -> None:
    with pytest.raises(InputError, match="take that line out of it"):
        as_card(good(), own=f"a\n{END}\nb")


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────


def template(folder: Path, text: str) -> Path:
    path = folder / "mine.md.j2"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_publisher_can_replace_the_template(tmp_path: Path) -> None:
    mine = "{{ front_matter }}\n# {{ title }}\n{{ own_part }}\n{% for f in files %}{{ f.size | size }} {% endfor %}\n"
    card = as_card(good(), template(tmp_path, mine), own="Hello")
    assert card.endswith(f"---\n# MiMo-V2.5-ASR-GGUF\n{BEGIN}\nHello\n{END}\n4.52 GB 8.53 GB 402.65 MB ")
    assert as_card(good(), template(tmp_path, TEMPLATE.read_text())) == as_card(good())


def test_a_publisher_can_replace_a_part_of_the_template(tmp_path: Path) -> None:
    mine = '{% extends "card.md.j2" %}\n{% block run %}\nAsk me.\n{% endblock %}\n'
    body = read(as_card(good(), template(tmp_path, mine)))
    assert "Ask me." in body.text
    assert "crispasr" not in body.text
    assert table(body, "file")[1][0] == LM


REST = "{{ front_matter }}\n\n{{ own_part }}\n"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (REST + "{% if %}", ":4", "Expected an expression"),
        (REST + "{% for x in files %}", ":4", "end of template"),
        (REST + "\n{{ titel }}", ":5", "'titel' is undefined"),
        (REST + "{{ files[0].nmae }}", ":4", "no attribute 'nmae'"),
        (REST + "{{ 1 / 0 }}", ":4", "division by zero"),
        (REST + "{{ title | shout }}", ":4", "No filter named 'shout'"),
        (REST + "{% include 'no.j2' %}", ":4", "no.j2"),
        (REST + "{{ title.__class__.__mro__ }}", ":4", "unsafe"),
        ("{{ own_part }}\n", "", "no metadata at its top; let {{ front_matter }} be its first line"),
        ("---\na: [\n---\n{{ own_part }}\n", "", "is no metadata"),
        ("---\n- a\n---\n{{ own_part }}\n", "", "is no metadata"),
        ("{{ front_matter }}\n", "", "does not keep your own text"),
        (f"{REST}{{{{ own_part }}}}\n", "", "does not keep your own text"),
    ],
)
def test_what_is_wrong_with_a_template_is_one_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = template(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(what)) as error:
        as_card(good(), path, own="Hello")
    assert str(error.value).startswith(f"{path}{where}: ")
    assert "\n" not in str(error.value)


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.j2: cannot be read: No such file"):
        as_card(good(), tmp_path / "no.j2")
    (tmp_path / "bytes.j2").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="it is not UTF-8"):
        as_card(good(), tmp_path / "bytes.j2")
