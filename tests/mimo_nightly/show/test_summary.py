"""The summary, as GitHub renders it: its Markdown is parsed by another's parser."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mimo_nightly.history import FAILED, History, Problem, TargetResult
from mimo_nightly.show.summary import as_markdown, plain
from tests.mimo_nightly import made_up


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    made = made_up.history(tmp_path_factory.mktemp("history"))
    yield made
    made.close()


def parsed(markdown: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(markdown)


def texts(tokens: list[Token], inside: str) -> list[str]:
    """What a reader sees in each of these elements."""
    found, depth = [], 0
    for token in tokens:
        depth += (token.type == f"{inside}_open") - (token.type == f"{inside}_close")
        if depth and token.type == "inline":
            found.append("".join(
                "\n" if child.content == "<br>" else child.content for child in token.children or []
            ))  # fmt: skip
    return found


def table(markdown: str) -> list[list[str]]:
    tokens = parsed(markdown)
    cells = texts(tokens, "td")
    assert len(texts(tokens, "th")) == 5
    return [cells[i : i + 5] for i in range(0, len(cells), 5)]


def test_verdict_table_and_problems(history: History) -> None:
    markdown = as_markdown(history.of_run(40), history)
    assert texts(parsed(markdown), "heading") == [
        "✗ FAIL: 1 of 4 targets failed, 1 could not be checked, 1 passed by the header alone"
    ]
    good, fallen, away, header = table(markdown)
    assert good == [
        "asr-q4_k", "✓ PASS", "–", "word error rate 0.0%\nlowest cosine 0.938196\nKL divergence 0.012302", "–",
    ]  # fmt: skip
    assert fallen == [
        "hub-asr-q8_0", "✗ FAIL", made_up.PROBLEMS[0].text,
        "word error rate 36.4%\nlowest cosine −0.200000\nKL divergence 2.500000",
        "mimo-asr-q8_0.gguf: sha256 4b8f03c2d9e4… → 5b8f03c2d9e4…\nrevision 4d0e5fab174d… → 5d0e5fab175d…",
    ]  # fmt: skip
    assert away[1:3] == ["? NOT CHECKED", made_up.result(made_up.AWAY, 40).problems[0].text]
    assert header[1] == "✓ HEADER ONLY"
    assert texts(parsed(markdown), "list_item") == [*(problem.text for problem in made_up.PROBLEMS), away[2]]
    assert markdown.count("<details>") == markdown.count("</details>") == 2


def test_what_passed_is_compared_with_the_run_before(history: History) -> None:
    rows = table(as_markdown(history.of_run(made_up.NEW_NUMPY), history))
    assert {row[4] for row in rows} == {"numpy 2.4.5 → 2.4.6"}


def test_a_failure_that_nothing_explains_says_so(history: History) -> None:
    rows = table(as_markdown(history.of_run(made_up.NO_NUMBER), history))
    assert rows[2][4] == f"nothing since run {made_up.NO_NUMBER - 1}"


HOSTILE = (
    "a|b\n# <script>alert(1)</script> `code` *b* _i_ ~~s~~ [x](http://x) ![i](y) https://z &lt; \\ $m$ :+1: @me #1"
    " \x1b\u202e"
)


def test_hostile_texts_are_only_shown(history: History) -> None:
    result = replace(
        made_up.result(made_up.FALLEN, 40),
        target=HOSTILE,
        problems=[Problem(text) for text in (HOSTILE, "1. first", "- second")],
    )
    markdown = as_markdown([result], history)
    tokens = parsed(markdown)
    shown = " ".join(HOSTILE.split()).replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    [[target, _, problem, *_]] = table(markdown)
    assert target == problem == shown
    assert texts(tokens, "list_item") == [shown, "1. first", "- second"]
    kinds = {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"text", "text_special", "html_inline"}
    html = [child.content for token in tokens for child in token.children or [] if child.type == "html_inline"]
    assert set(html) <= {"<br>"}
    blocks = [token.content for token in tokens if token.type == "html_block"]
    assert not any("<script" in block for block in blocks)
    assert len(blocks) == 2


def test_it_is_never_more_than_github_takes(history: History) -> None:
    many = [Problem(f"layer_{i:05}: “{'ü' * 90}” is below its gate") for i in range(9000)]
    results = [replace(made_up.result(made_up.FALLEN, 40), target=f"t{i}", problems=many) for i in range(2)]
    markdown = as_markdown(results, history)
    assert len(markdown.encode()) <= 1_000_000
    shown = len(texts(parsed(markdown), "list_item"))
    assert 3000 < shown < 9000
    last = markdown.splitlines()[-1]
    assert last == f"**{18000 - shown} problems are left out here, because GitHub takes no more.**"
    assert markdown.count("<details>") == markdown.count("</details>")


def test_a_run_of_thousands_of_targets_is_cut_too(history: History) -> None:
    results = [
        TargetResult(40, f"t{i} {'|' * 80}", "", 1.0, FAILED, problems=[Problem("x" * 5000)]) for i in range(3000)
    ]
    markdown = as_markdown(results, history)
    assert len(markdown.encode()) <= 1_000_000
    assert "targets and " in markdown.splitlines()[-1]
    assert len(table(markdown)) > 500


def test_no_targets(history: History) -> None:
    assert as_markdown([], history) == "## ? NOT CHECKED: there are no targets\n\n"


def test_a_long_text_is_cut() -> None:
    assert plain("x" * 30, 10) == "x" * 9 + "…"
