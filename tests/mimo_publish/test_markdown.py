"""Whatever is written into Markdown is read as it was written, in every place; the reader is markdown-it."""

from typing import Any
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from mimo_publish.markdown import block, code, text, url

from .rendered import read

BITS = [
    *"|`*_~[]()<>!&;:#$\\-+=.1a ",
    "\n",
    "\t",
    "```",
    "<b>",
    "-->",
    "&amp;",
    "&#42;",
    "http://a.b",
    "a_b",
    "\\|",
    "~~",
]
ANY = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
    st.lists(st.sampled_from(BITS), min_size=1).map("".join),
)


@given(ANY)
def test_text_is_the_same_in_a_paragraph_a_quote_and_a_cell(written: str) -> None:
    body = read(f"a “{text(written)}”\n\n> “{text(written)}”\n\n| a | b |\n| - | - |\n| {text(written)} | c |\n")
    expected = " ".join(written.split())
    first, quoted = body.all("p")
    assert first.text == f"a “{expected}”"
    assert quoted.text == f"“{expected}”"
    assert [cell.text for cell in body.all("td")] == [expected, "c"]


@given(ANY)
def test_a_name_is_the_same_in_a_paragraph_a_link_and_a_cell(written: str) -> None:
    body = read(f"a {code(written)}\n\n| a | b |\n| - | - |\n| [{code(written)}]({url(written)}) | c |\n")
    expected = written.translate({ord("\n"): "⏎", ord("\t"): "⇥"})
    assert [found.text for found in body.all("code")] == [expected] * 2
    [link] = body.all("a")
    assert unquote(str(link.attributes["href"])) == written
    assert [cell.text for cell in body.all("td")] == [expected, "c"]


@given(ANY.filter(lambda written: not written.isspace()))
def test_lines_of_code_stay_in_their_fence(written: str) -> None:
    body = read(f"{block(written, 'sh')}\n\nafter\n")
    [found] = body.all("pre")
    assert found.text.removesuffix("\n") == written.removesuffix("\n")
    assert body.children[-2:] != [found]
    assert [paragraph.text for paragraph in body.all("p")] == ["after"]


def test_ordinary_text_is_left_as_it_is() -> None:
    ordinary: dict[Any, str] = {
        text: "And so, my fellow Americans: ask not (what) prefill_text_logits_step0 can do!",
        code: "XiaomiMiMo/MiMo-V2.5-ASR@0123",
        url: "mimo-asr-q4_k.gguf",
    }
    assert {escape: escape(written) for escape, written in ordinary.items()} == ordinary | {
        code: "`XiaomiMiMo/MiMo-V2.5-ASR@0123`"
    }
