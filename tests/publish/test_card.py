"""The model card: its metadata as the Hub's library reads it, its Markdown rendered and looked at, in Chromium too."""

import copy
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from publish.card import BEGIN, END, TEMPLATE, as_card, as_plots, own_text
from publish.metadata import LICENCES, OTHER
from quantize.errors import InputError
from runtime_check import bundled
from runtime_check.differences import differences

from .. import reports
from ..browser import DESKTOP, PHONE, Browser, chromium
from .rendered import Element, as_html, read, table, tables, write_page

Report = dict[str, Any]
LM, Q8, TOKENIZER = "mimo-asr-q4_k.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-q4_k.gguf"
ROOT = Path(__file__).parents[2]


def good() -> Report:
    return reports.published_report()


def bad() -> Report:
    """Of one pair, on two sounds, of which the second fails; its static check and its tensors fail, too."""
    publication = good()["publication"] | {"even_if_failed": True}
    publication["files"] = [entry for entry in publication["files"] if entry["file"] != Q8]
    return reports.failed_report() | {"publication": publication}


def alone() -> Report:
    """Of an audio tokenizer alone."""
    report = one_pair()
    [check] = report["checks"]
    check |= dict.fromkeys(("speech_lm", "vocabulary_equal", "prompt_equal", "first_token", "steps", "expected_text"))
    check |= {"transcript": "", "word_error_rate": None, "greedy_ids": []}
    check["stages"] = [stage for stage in check["stages"] if stage["name"].startswith("tok_")]
    report["publication"]["files"] = report["publication"]["files"][-1:]
    return report | {"static": [], "tensors": []}


def one_pair() -> Report:
    report = good()
    report["checks"] = report["checks"][:1]
    listed = report["publication"]["files"]
    report["publication"]["files"] = [entry for entry in listed if entry["file"] != Q8]
    return report


def uncompared() -> Report:
    """Of a pair that was run without a reference."""
    report = one_pair() | {"passed": None}
    nothing = ("passed", "reference", "codes", "vocabulary_equal", "prompt_equal", "first_token", "steps")
    report["checks"][0] |= dict.fromkeys(nothing) | {"stages": []}
    return report


def without_figures() -> Report:
    """With null wherever a number may be missing."""
    report = one_pair()
    [check] = report["checks"]
    for role in ("speech_lm", "audio_tokenizer"):
        check[role]["bits_per_weight"] = check[role]["quantizer"] = check[role]["outtype"] = None
    for stage in check["stages"]:
        stage |= {"cos_mean": None, "cos_min": None, "rel_rmse": None, "passed": False}
    check["steps"] |= {"kl_mean": None, "kl_max": None}
    return report | {"checks": [check | {"word_error_rate": None, "memory": {}, "passed": False}]}


EVERY = [good, bad, one_pair, alone, uncompared, without_figures]


def metadata(card: str) -> dict[str, Any]:
    """As the Hub's own library reads it."""
    return dict(ModelCard(card, ignore_metadata_errors=False).data.to_dict())


def set_everywhere(value: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text of it changed, but for keys."""
    if isinstance(value, dict):
        return {key: set_everywhere(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [set_everywhere(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────


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
    report = one_pair()
    report["checks"][0]["speech_lm"]["about"] = {"license": texts[0], "languages": texts, "tags": texts}
    report["checks"][0]["audio_tokenizer"]["about"] = {"license": None, "languages": None, "tags": None}
    found = metadata(as_card(report))
    assert found.keys() - {"license", "language"} == metadata(as_card(one_pair())).keys() - {"license", "language"}
    assert found.get("license", OTHER) in LICENCES
    assert {*found.get("language", [])} <= {*texts}
    assert {"gguf", "ggml"} <= {*found["tags"]} <= {"gguf", "ggml", *texts}


def test_a_language_that_yaml_takes_for_a_truth_value_stays_a_language() -> None:
    report = one_pair()
    report["checks"][0]["speech_lm"]["about"]["languages"] = ["no", "en"]
    assert metadata(as_card(report))["language"] == ["en", "no"]


def test_files_that_do_not_say_what_they_are_made_of_get_no_card() -> None:
    report = one_pair()
    for role in ("speech_lm", "audio_tokenizer"):
        report["checks"][0][role]["provenance"]["repo"] = None
    with pytest.raises(InputError, match=rf"{LM} and {TOKENIZER}: .*--base-model OWNER/NAME"):
        as_card(report)


def test_a_report_of_no_publication_is_refused() -> None:
    with pytest.raises(InputError, match="mimo-publish"):
        as_card(reports.report())


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_look_tells_what_it_is_and_whether_it_passed() -> None:
    body = read(as_card(good()))
    assert [heading.text for heading in body.all("h1", "h2")] == [
        "MiMo-V2.5-ASR-GGUF", "Files", "How to run", "Validation", "Transcripts", "Reproduce", "Verify",
    ]  # fmt: skip
    what, verdict = (paragraph.text for paragraph in body.all("p")[:2])
    assert "XiaomiMiMo/MiMo-V2.5-ASR and of XiaomiMiMo/MiMo-Audio-Tokenizer" in what
    assert verdict == "PASS: every gate was reached, 719 of them in 3 files."
    assert "FAIL" not in body.text
    assert "WARNING" not in body.text


def test_the_files_with_what_decides_between_them() -> None:
    body = read(as_card(good()))
    assert table(body, "file") == [
        ["file", "type", "QKV", "size", "bits/weight", "memory", "word errors", "check"],
        [LM, "q4_k", "fused", "4.52\xa0GB", "4.51", "5.54\xa0GB", "0.0%", "PASS"],
        [Q8, "q8_0", "fused", "8.53\xa0GB", "8.50", "9.54\xa0GB", "0.0%", "PASS"],
        [TOKENIZER, "q4_k", "–", "402.65\xa0MB", "4.51", "–", "–", "PASS"],
    ]
    assert {link.attributes["href"] for link in body.all("a")} >= {LM, Q8, TOKENIZER}
    assert f"{LM} and {Q8} were checked with {TOKENIZER}." in body.text
    assert "KV cache need at most for 11 s of sound" in body.text


def test_every_stage_of_every_file_with_its_gates() -> None:
    report = good()
    body = read(as_card(report))
    lms, layers, tokenizers = (rows for rows in tables(body) if rows[0][0] == "stage")
    assert lms[0] == layers[0] == ["stage", LM, Q8]
    assert tokenizers[0] == ["stage", TOKENIZER]
    shown = {row[0]: row[1:] for rows in (lms, layers, tokenizers) for row in rows}
    for stage in report["checks"][0]["stages"]:
        cosines = f"{stage['cos_mean']:.6f}\xa0/\xa0{stage['cos_min']:.6f}"
        gates = f"≥\xa0{stage['gate_mean']:.3f}\xa0/\xa0{stage['gate_min']:.3f}"
        columns = 1 if stage["name"].startswith("tok_") else 2
        assert shown[stage["name"]] == [f"{cosines} {gates}"] * columns
    assert shown["tok_codes"] == ["81.23% equal ≥\xa042.50%"]
    assert shown["vocabulary"] == shown["prompt_ids"] == ["equal", "equal"]
    assert shown["first token"] == ["3036", "3036"]
    assert shown["likeliest token"][0] == "96.30% equal ≥\xa085.00%"
    assert shown["KL divergence"][0] == "0.016068\xa0/\xa00.410000 ≤\xa00.2"
    assert shown["cached equals full pass"][0] == "1.0e-06 ≤\xa00.003"
    worst = min((s for s in report["checks"][0]["stages"] if "layer" in s["name"]), key=lambda s: s["cos_min"])
    assert shown["worst of 36 layers"][0].startswith(f"{worst['cos_mean']:.6f}")
    assert worst["name"] in shown["worst of 36 layers"][0]
    assert len(lms) == 13  # layers are in a table of their own, which is folded up
    assert [summary.text for summary in body.all("summary")] == ["Every layer", "Hashes of the checkpoints’ files"]


def test_a_failure_is_told_first_and_wherever_it_is() -> None:
    card = as_card(bad())
    assert card.split("---\n")[2].startswith(
        "\n> [!WARNING]\n> **1 file of 2 failed the check**, and the publisher insisted"
    )
    body = read(card)
    warning = body.all("blockquote")[0].text
    assert LM in warning
    assert "merges: the merge '# #' is missing (and 1 more)" in warning
    assert "… and 8 more" in warning
    assert "FAIL: 11 of 719 gates were not reached, in 1 file of 2." in body.text
    assert table(body, "file")[1][-1] == "FAIL merges and 10 more"
    assert table(body, "file")[2][-1] == "PASS"  # its audio tokenizer did nothing wrong
    lms, layers, tokenizers = (rows for rows in tables(body) if rows[0][0] == "stage")
    assert lms[0] == ["stage", f"{LM} talk.flac"]  # the sound at which it failed
    failed = {row[0] for rows in (lms, layers) for row in rows if row[1].startswith("FAIL")}
    assert failed == {
        "vocabulary", "worst of 36 layers", "layer_20", "layer_21", "prefill_last_hidden", "first token",
        "KL divergence",
    }  # fmt: skip
    assert not any("FAIL" in row[1] for row in tokenizers)
    assert (
        "10 rules of a well-formed file, 1 failed; 600 tensors beside what they were made from, 4 failed" in body.text
    )


def test_a_file_that_failed_is_not_the_one_that_is_shown_how_to_run() -> None:
    report = good()
    report["checks"][0] |= {"passed": False, "vocabulary_equal": False}
    assert f"mimo-check {Q8} --tokenizer" in as_card(report)
    assert f"mimo-check {LM} --tokenizer" not in as_card(report)


def test_a_check_of_another_file_of_that_name_proves_nothing() -> None:
    report = good()
    report["publication"]["files"][0]["sha256"] = "f" * 64
    body = read(as_card(report))
    assert table(body, "file")[-1][0] == LM
    assert table(body, "file")[-1][-1] == "NOT COMPARED"
    assert f"NOT COMPARED: {LM} was not compared with the model." in body.text


def test_what_was_heard_wrongly_is_struck_or_bold_and_counted_over_all_sounds() -> None:
    report = bad()
    body = read(as_card(report))
    check = report["checks"][1]
    pieces = differences(check["expected_text"], check["transcript"])
    quote = next(quote for quote in body.all("blockquote") if quote.all("s"))
    assert quote.text.strip() == "“" + " ".join(piece.text for piece in pieces) + "”"
    for tag, fate in (("s", "missing"), ("strong", "extra")):
        assert [found.text for found in quote.all(tag)] == [piece.text for piece in pieces if piece.fate == fate]
    assert table(body, "file")[1][6] == f"{report['words']['word_error_rate']:.1%}"
    assert table(body, "sound") == [["sound", LM], ["jfk.wav", "0.0%"], ["talk.flac", "36.4%"], ["all", "18.2%"]]
    assert f"{LM} heard every word of it. Word error rate 0.0%." in body.text


def test_two_sounds_of_one_name_are_two() -> None:
    report = bad()
    report["checks"][1]["audio"] |= {"file": report["checks"][0]["audio"]["file"], "sha256": "cd" * 32}
    rows = table(read(as_card(report)), "sound")
    assert rows == [["sound", LM], ["jfk.wav", "0.0%"], ["jfk.wav", "36.4%"], ["all", "18.2%"]]


def test_a_sound_of_which_it_is_not_known_what_is_said() -> None:
    report = one_pair()
    report["checks"][0] |= {"expected_text": None, "word_error_rate": None}
    body = read(as_card(report))
    assert f"“{bundled.JFK_TEXT}”" in body.all("blockquote")[0].text
    assert table(body, "file")[1][6] == "–"


def test_how_the_files_are_run_made_and_verified() -> None:
    fences = [block.text for block in read(as_card(good())).all("pre")]
    commands = "".join(fences).replace("\\\n    ", "")
    for line in (
        f"hf download someone/MiMo-V2.5-ASR-GGUF {LM} {TOKENIZER} --local-dir .",
        f"mimo-check {LM} --tokenizer {TOKENIZER} --audio sound.wav",
        f"crispasr --backend mimo-asr -m {LM} --codec-model {TOKENIZER} -f sound.wav",
        "pip install mimo-convert==0.5.0",
        f"mimo-convert XiaomiMiMo/MiMo-V2.5-ASR@{'0123456789' * 4} --tokenizer XiaomiMiMo/MiMo-Audio-Tokenizer@"
        f"{'0123456789' * 4} --outtype q4_k --outtype q8_0 --fuse-qkv --out . --no-check",
        "sha256sum --check --ignore-missing SHA256SUMS",
        f"mimo-check {Q8} --static",
        f"mimo-check {LM} --tokenizer {TOKENIZER} --reference jfk-reference.safetensors",
    ):
        assert line in commands.splitlines()
    assert table(read(as_card(good())), "file")[0]
    hashes = [rows for rows in tables(read(as_card(good()))) if rows[0] == ["file", "sha256"]]
    assert [row[0] for row in hashes[0][1:]] == [LM, Q8, TOKENIZER]
    shards = table(read(as_card(good())), "checkpoint")
    assert len(shards) == 1 + 4 + 1
    assert "python 3.11.7, mimo-convert 0.5.0, numpy 2.4.6, torch 2.13.0." in read(as_card(good())).text


def test_nothing_is_invented_for_a_file_that_does_not_say_how_it_was_made() -> None:
    report = good()
    report["checks"][1]["speech_lm"]["provenance"] = dict.fromkeys(report["checks"][1]["speech_lm"]["provenance"])
    report["checks"][0]["speech_lm"]["provenance"]["version"] = None
    text = read(as_card(report)).text
    assert f"{Q8} does not say which checkpoint it was made from, so there is no command" in text
    assert "which version of mimo-convert made it is not known" in text
    assert "from which commit" not in text


def test_the_same_bytes_are_not_promised_of_a_checkpoint_at_no_commit() -> None:
    report = good()
    assert f"{LM}, {Q8} and {TOKENIZER}, the same bytes, in an empty folder:" in read(as_card(report)).text
    for check in report["checks"]:
        check["speech_lm"]["provenance"]["revision"] = None
    text = read(as_card(report)).text
    assert f"{LM}, {Q8} and {TOKENIZER}, in an empty folder; from which commit of the checkpoint is not known" in text
    assert "the same bytes" not in text


@pytest.mark.parametrize("make", EVERY)
def test_every_row_has_its_columns_and_no_markup_is_left_over(make: Callable[[], Report]) -> None:
    body = read(as_card(make()))
    assert len(tables(body)) >= 2
    for rows in tables(body):
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(cell for row in rows for cell in row)
    for element in body.all("p", "li", "td", "th", "summary", "h1", "h2", "h3"):
        bare = "".join(child for child in element.children if isinstance(child, str))
        assert not re.search(r"[|`]|\*\*|~~|\]\(|\{\{|None", bare), bare
    assert body.all("pre")
    for block in body.all("pre"):
        assert "None" not in block.text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (alone, "PASS: every gate was reached, 7 of them in 1 file."),
        (uncompared, f"NOT COMPARED: {LM} and {TOKENIZER} were not compared with the model."),
        (without_figures, "FAIL: "),
    ],
)
def test_a_report_of_less_has_a_card_of_less(make: Callable[[], Report], says: str) -> None:
    body = read(as_card(make()))
    assert says in body.text
    assert len(as_plots(make())) == len(body.all("img")) == 0


def test_an_audio_tokenizer_alone_is_run_alone() -> None:
    body = read(as_card(alone()))
    assert "Transcripts" not in [heading.text for heading in body.all("h2")]
    assert table(body, "file") == [
        ["file", "type", "size", "bits/weight", "memory", "check"],
        [TOKENIZER, "q4_k", "402.65\xa0MB", "4.51", "5.54\xa0GB", "PASS"],
    ]
    commands = "".join(block.text for block in body.all("pre")).replace("\\\n    ", "")
    assert f"mimo-check {TOKENIZER} --audio sound.wav" in commands
    assert (
        f"mimo-convert XiaomiMiMo/MiMo-Audio-Tokenizer@{'0123456789' * 4} --outtype q4_k --out . --no-check" in commands
    )
    assert "crispasr" not in commands


# ── what others wrote is only shown ──────────────────────────────────────────────────────────────────────────────

HOSTILE = (
    "a|b`c``d```\n---\n<script>x</script>--><!-- **e** _f_ ~~g~~ [h](i) ![j](k) $$l$$ {{7*7}} &amp; \\| \x00\ud800\"'"
)


def spoiled() -> Report:
    """The failed report with that in all names and texts, but where tools read them."""
    report = set_everywhere(bad(), lambda value: f"{value}{HOSTILE}")
    for check in report["checks"]:
        for role in ("speech_lm", "audio_tokenizer"):
            check[role]["architecture"] = check[role]["architecture"].removesuffix(HOSTILE)
            check[role]["outtype"] = "q4_k"
            for key in ("file",):
                check[role][key] += ".gguf"
    for entry in report["publication"]["files"]:
        entry["file"] = f"{entry['file']}.gguf"
    for entry in (*report["static"], *report["tensors"]):
        entry["file"] += ".gguf"
    report["tensors"][0]["tensors"] = report["tensors"][0]["tensors"][28:34]
    return dict(report)


def test_hostile_names_and_texts_are_only_shown() -> None:
    card = as_card(spoiled(), own="mine")
    body = read(card)
    allowed = {
        "h1", "h2", "h3", "p", "a", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong",
        "s", "blockquote", "details", "summary", "br", "sub", "img",
    }  # fmt: skip
    everything: list[Element] = [body]
    for element in everything:
        everything += [child for child in element.children if isinstance(child, Element)]
    assert {element.tag for element in everything[1:]} <= allowed
    for rows in tables(body):
        assert {len(row) for row in rows} == {len(rows[0])}
    shown = HOSTILE.replace("\x00", "\\u0000").replace("\ud800", "\\ud800")
    assert f"{LM}{shown}.gguf".replace("\n", "⏎") in [code.text for code in body.all("code")]
    assert body.text.count("<script>x</script>") > 20
    quoted = [quote.text for quote in body.all("blockquote")]
    assert any(" ".join(f"{bundled.JFK_TEXT}{shown}”".split()) in " ".join(text.split()) for text in quoted)
    assert not re.search(r"\$\$", re.sub(r"```+sh\n.*?\n```+\n", "", card.split("\n---\n", 1)[1], flags=re.DOTALL))
    assert {link.attributes["href"] for link in body.all("a")} >= {"https://github.com/CrispStrobe/CrispASR"}
    for link in body.all("a", "img"):
        target = link.attributes.get("href") or link.attributes.get("src") or ""
        assert re.fullmatch(r"(https://[a-z.]+/)?[\w.~%/-]+", target), target
    assert own_text(card) == "mine"
    assert metadata(card)["base_model_relation"] == "quantized"


def test_every_plot_is_a_picture_by_itself_and_says_in_words_what_it_shows() -> None:
    report = good()
    body, plots = read(as_card(report)), as_plots(report)
    pictures = {image.attributes["src"]: image.attributes["alt"] for image in body.all("img")}
    assert list(pictures) == list(plots) == ["layers-mimo-asr-q4_k.svg", "layers-mimo-asr-q8_0.svg"]
    assert pictures["layers-mimo-asr-q4_k.svg"] == (
        f"Cosine of each of the 36 layers of {LM} to the reference: the lowest mean is 0.987887, in layer_35, where "
        "0.929 must be reached; none failed"
    )
    for svg in plots.values():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len([mark for mark in root.iter() if mark.get("class") == "mark mean"]) == 36
        assert not re.search(r"href|url\(|<script|@import", svg)
    failed = as_plots(bad())["layers-mimo-asr-q4_k.svg"]
    assert failed.count('class="mark failed"') == 4  # of two layers, mean and worst position


# ── the same report, the same bytes ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", EVERY)
def test_the_same_report_gives_the_same_bytes(make: Callable[[], Report]) -> None:
    report = make()
    before = copy.deepcopy(report)
    assert as_card(report) == as_card(make())
    assert report == before


def test_another_process_elsewhere_writes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.publish.test_card import *; r = bad(); "
        "sys.stdout.buffer.write('\\0'.join([as_card(r), *as_plots(r).values()]).encode())"
    )
    found = set()
    for seed, zone, language in (("1", "UTC", "C"), ("7", "Asia/Tokyo", "de_DE.UTF-8")):
        own = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": language, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        found.add(subprocess.check_output([sys.executable, "-c", script], env=os.environ | own, cwd=tmp_path))
    assert found == {"\0".join([as_card(bad()), *as_plots(bad()).values()]).encode()}


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


# ── in the browser ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("make", [good, bad, spoiled])
def test_it_fits_a_desk_and_a_phone_by_day_and_in_the_dark(
    browser: Browser, tmp_path: Path, make: Callable[[], Report]
) -> None:
    page = write_page(tmp_path, as_card(make()), as_plots(make()) if make is not spoiled else {})
    for width in (DESKTOP, PHONE):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")
            assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
            wide = browser.run("""return [...document.body.querySelectorAll('*')].filter(element =>
                element.getBoundingClientRect().right > window.innerWidth + 1 && !element.closest('table, pre'))
                .map(element => element.outerHTML.slice(0, 80))""")
            assert wide == []
    if make is not spoiled:
        assert browser.complaints() == []
        assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth > 300)")


def test_plots_are_dark_where_the_page_is(browser: Browser, tmp_path: Path) -> None:
    page = write_page(tmp_path, as_card(one_pair()), as_plots(one_pair()))
    ground = """const canvas = document.createElement('canvas'), image = document.images[0];
        image.scrollIntoView(); return [image.naturalWidth, image.naturalHeight]"""
    browser.open(page)
    assert browser.run(ground) == [422, 298]
    svg = tmp_path / "layers-mimo-asr-q4_k.svg"
    colours = []
    for dark in (False, True):
        browser.open(svg, dark=dark)
        colours.append(browser.run("""return ['.ground', '.legend', '.mark.mean'].map(
            mark => getComputedStyle(document.querySelector(mark)).fill)"""))  # fmt: skip
        wide = browser.run("""const box = document.documentElement.getBoundingClientRect();
            return [...document.querySelectorAll('text')].filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < box.left || own.right > box.right || own.top < box.top || own.bottom > box.bottom;
            }).map(text => text.textContent)""")
        assert wide == []
    assert all(by_day != by_night for by_day, by_night in zip(*colours, strict=True))


def test_the_rendering_is_that_of_commonmark_with_tables() -> None:
    assert "<table>" in as_html("---\na: b\n---\n\n| a |\n| - |\n| b |\n")
