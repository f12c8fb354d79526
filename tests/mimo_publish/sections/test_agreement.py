"""Which files an agreement of a card may be about, and what of it the card has."""

from dataclasses import replace
from pathlib import Path

import pytest

from mimo_agreement.records import Agreement
from mimo_publish.sections.agreement import NAMES, check_agreement, only_published, view_of
from mimo_publish.upload.changes import LocalFile
from quantize.errors import InputError
from tests.mimo_agreement import made_up


def local(name: str, sha256: str) -> LocalFile:
    return LocalFile(name, Path(name), 1, sha256)


TOKENIZER = local("mimo-tokenizer-q8_0.gguf", made_up.TOKENIZER)
Q4 = local("mimo-asr-q4_k.gguf", made_up.sha("q4_k"))
OTHER = "0" * 64
AGAIN = "leave out --agreement, or make it again with mimo-check agreement"


def refused(files: list[LocalFile], agreement: Agreement) -> str:
    with pytest.raises(InputError) as caught:
        check_agreement(agreement, "agreement.json", files)
    return str(caught.value)


def test_files_are_matched_by_their_hashes() -> None:
    check_agreement(made_up.agreement(), "agreement.json", [Q4, TOKENIZER])
    renamed = local("another-name.gguf", made_up.sha("q4_k"))
    check_agreement(made_up.agreement(), "agreement.json", [renamed, TOKENIZER])


def test_a_file_that_was_not_run_or_has_other_bytes_is_refused() -> None:
    said = refused([Q4, local("mimo-asr-q6_k.gguf", OTHER), TOKENIZER], made_up.agreement())
    assert said == f"mimo-asr-q6_k.gguf: was not run for agreement.json; {AGAIN}"
    said = refused([local(Q4.name, OTHER), TOKENIZER], made_up.agreement())
    assert said == f"mimo-asr-q4_k.gguf: is not the file that agreement.json is about; {AGAIN}"
    said = refused([Q4, local(TOKENIZER.name, OTHER)], made_up.agreement())
    assert said.startswith("mimo-tokenizer-q8_0.gguf: is not the file that")


def test_a_companion_that_is_not_published_is_refused() -> None:
    said = refused([Q4], made_up.agreement())
    assert "was run for agreement.json with another mimo-tokenizer-q8_0.gguf than is published" in said
    alone = tuple(
        replace(file, companion="", companion_sha256="", companion_bytes=0) for file in made_up.agreement().files
    )
    check_agreement(replace(made_up.agreement(), files=alone), "agreement.json", [Q4])


def test_a_companion_alone_is_no_reason_for_a_section() -> None:
    assert "is about none of the files that are published" in refused([TOKENIZER], made_up.agreement())


def test_files_that_are_not_published_stay_out_but_for_the_baseline() -> None:
    found = only_published(made_up.unanswered(), {Q4.sha256, TOKENIZER.sha256})
    kept = {made_up.sha("q4_k"), made_up.BASELINE}
    assert {file.sha256 for file in found.files} == {row.file for row in found.rows} == kept
    assert {*found.front_wer, *found.front_kl} == kept
    assert found.verdict == made_up.agreement().verdict
    assert (found.quarantined, found.notes) == ((), ()), "of a file that nobody can have"
    assert len(view_of(found).files) == 2


def test_a_verdict_on_a_file_that_is_not_published_is_left_out() -> None:
    found = only_published(made_up.agreement(), {made_up.sha("q8_0")})
    assert (found.smallest, found.verdict) == (None, "")


def test_plots_have_the_names_that_are_kept_from_deletion() -> None:
    assert [plot.file for plot in view_of(made_up.agreement()).plots] == list(NAMES)
