"""The model card: what its Markdown says, rendered and looked at."""

import re
from dataclasses import replace

import pytest

from mimo_publish.card import as_card, as_plots
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.gate import LAYER
from runtime_check.text.words import align_words, count_words
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
    with_file,
    with_provenance,
    without_figures,
    without_provenance,
)  # fmt: skip
from ..rendered import read, table, tables


def test_the_first_look_tells_what_it_is_and_whether_it_passed() -> None:
    body = read(as_card(good()))
    assert [heading.text for heading in body.all("h1", "h2")] == [
        "MiMo-V2.5-ASR-GGUF", "Choose a file", "How to run", "Validation", "Transcripts", "Reproduce", "Verify",
    ]  # fmt: skip
    what, verdict = (paragraph.text for paragraph in body.all("p")[:2])
    assert "XiaomiMiMo/MiMo-V2.5-ASR (speech LM) and of XiaomiMiMo/MiMo-Audio-Tokenizer (audio tokenizer)" in what
    assert verdict == "PASS: every gate passed, 715 of them in 3 files."
    assert "FAIL" not in body.text
    assert "WARNING" not in body.text


def test_the_files_with_what_decides_between_them() -> None:
    body = read(as_card(good()))
    measured = ["0.016", "26\xa0of\xa027", "22\xa0of\xa022"]
    assert table(body, "type") == [
        ["type", "size", "KL divergence", "equal top-1 tokens", "words right", "memory", "for", "file"],
        ["q4_k recommended", "4.93\xa0GB", *measured, "5.54\xa0GB", "little memory", LM],
        ["q8_0", "8.93\xa0GB", *measured, "9.54\xa0GB", "plenty of memory", Q8],
    ]
    assert {link.attributes["href"] for link in body.all("a")} >= {LM, Q8, TOKENIZER}
    assert (
        f"Each file needs {TOKENIZER} (402.65\xa0MB) beside it, with which it was checked; sizes are of both."
        in body.text
    )
    assert "KV cache need at most for 11 s of audio" in body.text
    assert "at least 90 % equal top-1 tokens, a KL divergence of at most 0.05. The commands below use it." in body.text


def test_every_file_is_listed_once_with_its_hash_and_verdict() -> None:
    rows = table(read(as_card(good())), "file")
    assert [row[:-1] for row in rows] == [
        ["file", "type", "QKV", "size", "bits/weight", "check"],
        [LM, "q4_k", "fused", "4.52\xa0GB", "4.51", "PASS"],
        [Q8, "q8_0", "fused", "8.53\xa0GB", "8.50", "PASS"],
        [TOKENIZER, "q4_k", "–", "402.65\xa0MB", "4.51", "PASS"],
    ]
    assert [row[-1] for row in rows[1:]] == [digest * 4 for digest in (
        "0123456789abcdef", "89abcdef01234567", "76543210fedcba98",
    )]  # fmt: skip


def test_commands_are_those_of_the_recommended_file() -> None:
    """A file of 4 bits that is heard to lose a word is cheaper, and not recommended; nor does a command name it."""
    first, second = good().checks
    heard = JFK_TEXT.removesuffix(" your country.")
    lost = replace(first, transcript=heard, words=count_words(JFK_TEXT, heard))
    card = as_card(of_checks(lost, second))
    rows = table(read(card), "type")
    assert [row[0] for row in rows[1:]] == ["q4_k", "q8_0 recommended"]
    assert rows[1][4:7:2] == ["20\xa0of\xa022", "little memory; 2 more word errors than the model"]
    fences = [fence.text for fence in read(card).all("pre") if "--no-check" not in fence.text]
    assert [Q8 in text for text in fences] == [True] * 5, (
        "to download, to run here and elsewhere, to verify, to compare"
    )
    assert not any(LM in text for text in fences)


def test_a_mix_is_called_by_its_types() -> None:
    report = with_file(good(), LM, mixed={"q6_k": 2, "f16": 1})
    body = read(as_card(report))
    assert table(body, "type")[1][0] == "q4_k + 2 q6_k + 1 f16 recommended"
    assert table(body, "file")[1][1] == "q4_k + 2 q6_k + 1 f16"


def test_companions_that_differ_stand_in_their_rows() -> None:
    first, second = good().checks
    other = replace(
        first.files[1], file="/models/mimo-tokenizer-q8_0.gguf", sha256="cd" * 32, type="q8_0", outtype="q8_0"
    )
    body = read(as_card(of_checks(first, replace(second, files=(second.files[0], other)))))
    assert [row[-1] for row in table(body, "type")] == [
        "files", f"{LM} {TOKENIZER}", f"{Q8} mimo-tokenizer-q8_0.gguf",
    ]  # fmt: skip
    assert "Each row’s files are needed together" in body.text


def test_without_a_file_that_is_good_enough_none_is_recommended() -> None:
    checks = [reports.with_steps(one, replace(one.steps, kl_mean=0.06)) for one in good().checks if one.steps]
    body = read(as_card(of_checks(*checks)))
    assert "recommended" not in " ".join(row[0] for row in table(body, "type"))
    assert "None is recommended: no file passed every gate" in body.text
    assert table(body, "type")[1][6] == "little memory; differs from the model more than a 5-bit file may"


def test_the_tool_is_a_link_where_its_metadata_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mimo-convert" not in [link.text for link in read(as_card(good())).all("a")]
    monkeypatch.setattr("mimo_publish.card.home_page", lambda: "https://git.example/o/mimo-convert")
    [link] = [link for link in read(as_card(good())).all("a") if link.text == "mimo-convert"]
    assert link.attributes["href"] == "https://git.example/o/mimo-convert"


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
        assert shown[f"{stage.name} {wanted}"] == [cosines] * columns, "what all must reach is said once"
    assert shown["tok_codes ≥\xa042.50%"] == ["81.23% equal"]
    assert "Equal to the reference’s in every file: vocabulary, prompt_ids, first top-1 token, transcript." in body.text
    assert shown["top-1 token ≥\xa085.00%"][0] == "96.30% equal"
    assert shown["KL divergence ≤\xa00.2"][0] == "0.016068\xa0/\xa00.410000"
    assert shown["incremental vs. full decoding ≤\xa00.003"][0] == "1.0e-06"
    worst = min((stage for stage in check.stages if stage.kind == LAYER), key=lambda stage: stage.cos_min or 0)
    [name] = [name for name in shown if name.startswith("worst of 36 layers")]
    assert shown[name][0].startswith(f"{worst.cos_mean:.6f}")
    assert worst.name in name
    assert len(lms) == 10  # layers are in a table of their own, which is folded up
    assert [summary.text for summary in body.all("summary")] == [
        "Every layer", "The other files", "Hashes of the checkpoints’ files",
    ]  # fmt: skip


def test_thresholds_that_differ_stand_with_their_files() -> None:
    first, second = good().checks
    loose = [replace(gate, bound=0.9) for gate in first.gates if gate.metric == "kl_mean"]
    rows = table(read(as_card(of_checks(reports.with_gates(first, *loose), second))), "stage")
    assert next(row for row in rows if row[0] == "KL divergence")[1:] == [
        "0.016068\xa0/\xa00.410000 ≤\xa00.9", "0.016068\xa0/\xa00.410000 ≤\xa00.2",
    ]  # fmt: skip


def test_files_that_failed_alike_are_told_of_once() -> None:
    checks = [reports.with_gates(check, reports.vocabulary_gate(False)) for check in good().checks]
    [warning] = read(as_card(of_checks(*checks, lint=(), tensors=()))).all("blockquote")[:1]
    assert f"{LM} and {Q8}, 1 of " in warning.text
    assert warning.text.count("tokens or merges differ") == 1


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
    assert table(body, "type")[1][-2] == "nobody: FAIL"
    assert table(body, "file")[1][-2] == "FAIL merges and 10 more"
    assert table(body, "file")[2][-2] == "PASS"  # its audio tokenizer did nothing wrong
    lms, layers, tokenizers = (rows for rows in tables(body) if rows[0][0] == "stage")
    assert lms[0] == ["stage", f"{LM} talk.flac"]  # the clip at which it failed
    failed = {re.split(r" (?:layer_20\s)?(?:≥|≤|equal)", row[0])[0]
              for rows in (lms, layers) for row in rows if row[1].startswith("FAIL")}  # fmt: skip
    assert failed == {
        "vocabulary", "worst of 36 layers", "layer_20", "layer_21", "prefill_last_hidden",
        "first top-1 token", "KL divergence",
    }  # fmt: skip
    assert not any("FAIL" in row[1] for row in tokenizers)
    assert "10 lint rules, 1 failed; 600 tensors compared with their source, 4 failed" in body.text


def test_a_file_that_failed_is_not_the_one_that_is_shown_how_to_run() -> None:
    first, second = good().checks
    report = of_checks(reports.with_gates(first, reports.vocabulary_gate(False)), second)
    assert f"mimo-check transcribe {Q8} --tokenizer" in as_card(report)
    assert f"mimo-check transcribe {LM} --tokenizer" not in as_card(report)
    assert table(read(as_card(report)), "type")[2][0] == "q8_0 recommended"


def test_a_check_of_another_file_of_that_name_proves_nothing() -> None:
    publication = good().publication
    assert publication is not None
    first, *others = publication.files
    files = (replace(first, sha256="f" * 64), *others)
    report = replace(good(), publication=replace(publication, files=files))
    body = read(as_card(report))
    assert table(body, "file")[-1][0] == LM
    assert table(body, "file")[-1][-2] == "NOT COMPARED"
    assert "not compared with the model" in [row[-2] for row in table(body, "type") if row[-1] == LM]
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
    assert table(body, "type")[1][4] == "38\xa0of\xa044,\xa02\xa0added"
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
    assert "words right" not in table(body, "type")[0]


def test_how_the_files_are_run_made_and_verified() -> None:
    fences = [block.text for block in read(as_card(good())).all("pre")]
    commands = "".join(fences).replace("\\\n    ", "")
    for line in (
        f"hf download someone/MiMo-V2.5-ASR-GGUF {LM} {TOKENIZER} --local-dir .",
        f"mimo-check transcribe {LM} --tokenizer {TOKENIZER} --audio clip.wav",
        f"crispasr --backend mimo-asr -m {LM} --codec-model {TOKENIZER} -f clip.wav",
        "pip install /path/to/mimo-convert  # a checkout of mimo-convert 0.5.0",
        f"mimo-convert XiaomiMiMo/MiMo-V2.5-ASR@{'0123456789' * 4} --tokenizer XiaomiMiMo/MiMo-Audio-Tokenizer@"
        f"{'0123456789' * 4} --outtype q4_k --outtype q8_0 --fuse-qkv --out . --no-check",
        "sha256sum --check --ignore-missing SHA256SUMS",
        f"mimo-check {LM} --static",
        f"mimo-check {TOKENIZER} --static",
        f"mimo-check {LM} --tokenizer {TOKENIZER} --reference jfk-reference.safetensors",
    ):
        assert line in commands.splitlines()
    shards = [rows for rows in tables(read(as_card(good()))) if rows[0] == ["shard", "sha256"]]
    assert [len(rows) - 1 for rows in shards] == [4, 1], "of each checkpoint"
    assert "python 3.11.7, mimo-convert 0.5.0, numpy 2.4.6, torch 2.13.0." in read(as_card(good())).text


def test_nothing_is_invented_for_a_file_that_does_not_say_how_it_was_made() -> None:
    report = with_provenance(without_provenance(good(), Q8), LM, version="")
    text = read(as_card(report)).text
    assert f"{Q8} does not say which checkpoint it was made from, so no command" in text
    assert "which version of mimo-convert made it is not known" in text
    assert "from which commit" not in text


def test_the_importance_matrix_of_a_file_is_named_and_what_it_was_collected_from() -> None:
    about = {"imatrix": "ab" * 32, "imatrix_file": "speech.gguf", "imatrix_dataset": "synthetic speech: 00  a.wav"}
    body = read(as_card(with_provenance(good(), LM, **about, feedback="x=feedback-0.1")))
    said = f"{LM}: quantized with the importance matrix speech.gguf (sha256 {'ab' * 32}), which was collected from"
    assert f"{said} synthetic speech alone, and with error feedback." in body.text
    assert "importance matrix" not in read(as_card(good())).text


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
    assert table(body, "type") == [
        ["type", "size", "equal codes", "memory", "for", "file"],
        ["q4_k recommended", "402.65\xa0MB", "81.23%", "5.54\xa0GB", "little memory", TOKENIZER],
    ]
    assert table(body, "file")[1][:-1] == [TOKENIZER, "q4_k", "402.65\xa0MB", "4.51", "PASS"]
    commands = "".join(block.text for block in body.all("pre")).replace("\\\n    ", "")
    assert f"mimo-check {TOKENIZER} --audio clip.wav" in commands
    assert (
        f"mimo-convert XiaomiMiMo/MiMo-Audio-Tokenizer@{'0123456789' * 4} --outtype q4_k --out . --no-check" in commands
    )
    assert "crispasr" not in commands
