"""The model card: what its Markdown says, rendered and looked at."""

import re
from dataclasses import replace

import pytest

from mimo_publish.card import as_card, as_plots
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.gate import LAYER
from runtime_check.text.words import align_words
from tests import reports

from ..published import (
    EVERY,
    LM,
    Q8,
    TOKENIZER,
    MakeReport,
    alone,
    bad,
    good,
    of_checks,
    one_pair,
    uncompared,
    with_provenance,
    without_figures,
    without_provenance,
)  # fmt: skip
from ..rendered import read, table, tables


def test_the_first_look_tells_what_it_is_and_whether_it_passed() -> None:
    body = read(as_card(good()))
    assert [heading.text for heading in body.all("h1", "h2")] == [
        "MiMo-V2.5-ASR-GGUF", "Files", "How to run", "Validation", "Transcripts", "Reproduce", "Verify",
    ]  # fmt: skip
    what, verdict = (paragraph.text for paragraph in body.all("p")[:2])
    assert "XiaomiMiMo/MiMo-V2.5-ASR and of XiaomiMiMo/MiMo-Audio-Tokenizer" in what
    assert verdict == "PASS: every gate passed, 715 of them in 3 files."
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
    assert "KV cache need at most for 11 s of audio" in body.text


def test_every_stage_of_every_file_with_its_gates() -> None:
    report = good()
    body = read(as_card(report))
    lms, layers, tokenizers = (rows for rows in tables(body) if rows[0][0] == "stage")
    assert lms[0] == layers[0] == ["stage", LM, Q8]
    assert tokenizers[0] == ["stage", TOKENIZER]
    shown = {row[0]: row[1:] for rows in (lms, layers, tokenizers) for row in rows}
    check = report.checks[0]
    for stage in check.stages:
        if stage.cos_mean is None:
            continue
        bounds = {gate.metric: gate.bound for gate in check.gates if gate.stage == stage.name}
        cosines = f"{stage.cos_mean:.6f}\xa0/\xa0{stage.cos_min:.6f}"
        wanted = f"≥\xa0{bounds['cos_mean']:.3f}\xa0/\xa0{bounds['cos_min']:.3f}"
        columns = 1 if stage.name.startswith("tok_") else 2
        assert shown[stage.name] == [f"{cosines} {wanted}"] * columns
    assert shown["tok_codes"] == ["81.23% equal ≥\xa042.50%"]
    assert shown["vocabulary"] == shown["prompt_ids"] == ["equal", "equal"]
    assert shown["first top-1 token"] == ["equal", "equal"]
    assert shown["top-1 token"][0] == "96.30% equal ≥\xa085.00%"
    assert shown["KL divergence"][0] == "0.016068\xa0/\xa00.410000 ≤\xa00.2"
    assert shown["incremental vs. full decoding"][0] == "1.0e-06 ≤\xa00.003"
    worst = min((stage for stage in check.stages if stage.kind == LAYER), key=lambda stage: stage.cos_min or 0)
    assert shown["worst of 36 layers"][0].startswith(f"{worst.cos_mean:.6f}")
    assert worst.name in shown["worst of 36 layers"][0]
    assert len(lms) == 14  # layers are in a table of their own, which is folded up
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
    assert "FAIL: 11 of 715 gates failed, in 1 file of 2." in body.text
    assert table(body, "file")[1][-1] == "FAIL merges and 10 more"
    assert table(body, "file")[2][-1] == "PASS"  # its audio tokenizer did nothing wrong
    lms, layers, tokenizers = (rows for rows in tables(body) if rows[0][0] == "stage")
    assert lms[0] == ["stage", f"{LM} talk.flac"]  # the clip at which it failed
    failed = {row[0] for rows in (lms, layers) for row in rows if row[1].startswith("FAIL")}
    assert failed == {
        "vocabulary", "worst of 36 layers", "layer_20", "layer_21", "prefill_last_hidden",
        "first top-1 token", "KL divergence",
    }  # fmt: skip
    assert not any("FAIL" in row[1] for row in tokenizers)
    assert "10 lint rules, 1 failed; 600 tensors compared with their source, 4 failed" in body.text


def test_a_file_that_failed_is_not_the_one_that_is_shown_how_to_run() -> None:
    first, second = good().checks
    report = of_checks(reports.with_gates(first, reports.vocabulary_gate(False)), second)
    assert f"mimo-check {Q8} --tokenizer" in as_card(report)
    assert f"mimo-check {LM} --tokenizer" not in as_card(report)


def test_a_check_of_another_file_of_that_name_proves_nothing() -> None:
    publication = good().publication
    assert publication is not None
    first, *others = publication.files
    files = (replace(first, sha256="f" * 64), *others)
    report = replace(good(), publication=replace(publication, files=files))
    body = read(as_card(report))
    assert table(body, "file")[-1][0] == LM
    assert table(body, "file")[-1][-1] == "NOT COMPARED"
    assert f"NOT COMPARED: {LM} was not compared with the model." in body.text


def test_what_was_heard_wrongly_is_struck_or_bold_and_counted_over_all_clips() -> None:
    report = bad()
    body = read(as_card(report))
    check = report.checks[1]
    spans = align_words(check.clip.text or "", check.transcript or "")
    quote = next(quote for quote in body.all("blockquote") if quote.all("s"))
    assert quote.text.strip() == "“" + " ".join(span.text for span in spans) + "”"
    for tag, kind in (("s", "deletion"), ("strong", "insertion")):
        assert [found.text for found in quote.all(tag)] == [span.text for span in spans if span.kind == kind]
    assert table(body, "file")[1][6] == "18.2%"
    assert table(body, "clip") == [["clip", LM], ["jfk.wav", "0.0%"], ["talk.flac", "36.4%"], ["all", "18.2%"]]
    assert f"{LM} transcribed every word. Word error rate 0.0%." in body.text


def test_two_clips_of_one_name_are_two() -> None:
    report = bad()
    first, second = report.checks
    clip = replace(second.clip, file=first.clip.file, sha256="cd" * 32)
    rows = table(read(as_card(replace(report, checks=(first, replace(second, clip=clip))))), "clip")
    assert rows == [["clip", LM], ["jfk.wav", "0.0%"], ["jfk.wav", "36.4%"], ["all", "18.2%"]]


def test_a_clip_of_which_it_is_not_known_what_is_said() -> None:
    [check] = one_pair().checks
    report = of_checks(replace(check, clip=replace(check.clip, text=None), words=None))
    body = read(as_card(report))
    assert f"“{JFK_TEXT}”" in body.all("blockquote")[0].text
    assert table(body, "file")[1][6] == "–"


def test_how_the_files_are_run_made_and_verified() -> None:
    fences = [block.text for block in read(as_card(good())).all("pre")]
    commands = "".join(fences).replace("\\\n    ", "")
    for line in (
        f"hf download someone/MiMo-V2.5-ASR-GGUF {LM} {TOKENIZER} --local-dir .",
        f"mimo-check {LM} --tokenizer {TOKENIZER} --audio clip.wav",
        f"crispasr --backend mimo-asr -m {LM} --codec-model {TOKENIZER} -f clip.wav",
        "pip install /path/to/mimo-convert  # a checkout of mimo-convert 0.5.0",
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
    report = with_provenance(without_provenance(good(), Q8), LM, version="")
    text = read(as_card(report)).text
    assert f"{Q8} does not say which checkpoint it was made from, so no command" in text
    assert "which version of mimo-convert made it is not known" in text
    assert "from which commit" not in text


def test_the_same_bytes_are_not_promised_of_a_checkpoint_at_no_commit() -> None:
    report = good()
    assert f"{LM}, {Q8} and {TOKENIZER}, the same bytes, in an empty folder:" in read(as_card(report)).text
    report = with_provenance(with_provenance(report, LM, revision=""), Q8, revision="")
    text = read(as_card(report)).text
    assert f"{LM}, {Q8} and {TOKENIZER}, in an empty folder; from which commit of the checkpoint is not known" in text
    assert "the same bytes" not in text


@pytest.mark.parametrize("make", EVERY)
def test_every_row_has_its_columns_and_no_markup_is_left_over(make: MakeReport) -> None:
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
        (alone, "PASS: every gate passed, 6 of them in 1 file."),
        (uncompared, f"NOT COMPARED: {LM} and {TOKENIZER} were not compared with the model."),
        (without_figures, "FAIL: "),
    ],
)
def test_a_report_of_less_has_a_card_of_less(make: MakeReport, says: str) -> None:
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
    assert f"mimo-check {TOKENIZER} --audio clip.wav" in commands
    assert (
        f"mimo-convert XiaomiMiMo/MiMo-Audio-Tokenizer@{'0123456789' * 4} --outtype q4_k --out . --no-check" in commands
    )
    assert "crispasr" not in commands
