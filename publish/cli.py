"""mimo-publish: check the files of a folder, and put them on the Hub with their model card."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from jinja2 import TemplateError

from mimo_convert.console import one_line_errors, threads_option
from mimo_convert.disk import sha256_of
from mimo_convert.fields import shown
from mimo_convert.gguf_file import read_gguf
from mimo_convert.json_file import read_json
from mimo_convert.paths import FOLDER, READS, SOURCE, current_claims
from mimo_convert.provenance import provenance_of
from mimo_convert.terminal import tell
from quantize.errors import InputError
from runtime_check.options import audio_option, repack_option, report_options
from runtime_check.pairs import Files, pair_of
from runtime_check.report import SCHEMA, Outputs, Results, json_text
from runtime_check.verdicts import Report

from .card import SUMS, as_card
from .options import publish_options
from .publish import Destination, check_beforehand, checked_files, publication, publish

# What reading a report raises that is not as it should be.
MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TemplateError, TypeError, ValueError
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--to", "repo", metavar="USER/REPO", required=True, help="The repository on the Hub.")
@publish_options
@click.option(
    "--reference",
    type=SOURCE,
    metavar="CKPT_OR_FILE",
    help="What to compare the files with.  [default: the checkpoint on the Hub that they say they were made from]",
)
@click.option(
    "--reference-tokenizer", type=SOURCE, metavar="CKPT", help="The audio tokenizer's, beside a --reference checkpoint."
)
@audio_option
@click.option(
    "--report",
    "report_file",
    type=READS,
    metavar="FILE",
    help="What an earlier --json said of these very files, by their hashes: they are not checked again.",
)
@click.option("--base-model", metavar="OWNER/NAME", help="On the Hub, for the card of files that do not say theirs.")
@repack_option
@report_options
@threads_option
@click.option("--dry-run", is_flag=True, help="Write the card beside the files, show what would be uploaded, and stop.")
@click.version_option(package_name="mimo-convert")
@one_line_errors
def main(
    folder: Path, repo: str, private: bool, yes: bool, even_if_failed: bool, card_template: Path | None,
    reference: str | None, reference_tokenizer: str | None, audio: Path, report_file: Path | None,
    base_model: str | None, repack: str, json_file: Path | None, junit_file: Path | None, html_file: Path | None,
    threads: int, dry_run: bool,
) -> None:  # fmt: skip
    """Check every GGUF file of the folder DIR, and publish them with a model card, checksums and the report.

    The card is written beside the files; your own paragraphs between its two marker comments stay as they are.

    Exit status: 0 published; 1 a check failed, or what arrived is not what was sent; 2 bad input or usage; 3 internal
    error; 130 interrupted, or not agreed to.
    """
    from runtime_check import proof  # late: --help needs none of it
    from runtime_check.static_check import check_static

    outputs = Outputs(json_file, junit_file, html_file)
    outputs.check()
    to = Destination(repo, private, yes, even_if_failed, card_template, base_model)
    files, claims = gguf_files(folder), current_claims()
    for file in files:
        claims.reads("DIR", file)
    check_beforehand(folder, to, claims, dry_run=dry_run)
    if report_file:
        report = earlier_report(report_file, files, to)
        with as_a_report_should_be(report_file):
            outputs.write(report)
    else:
        pairs = pairs_of(files)
        inputs = proof.prepare(*reference_of(pairs, reference, reference_tokenizer), [audio])
        results = Results("mimo-publish")
        for file in files:
            results.add(check_static(file, threads))
        with results.as_far_as_possible():
            for check in proof.prove(replace(inputs, repack=repack), pairs, threads):
                results.add(check)
        report = results.as_report()
        report["publication"] = publication(report, to)
        outputs.write(report)
    sys.exit(publish(report, folder, to, claims, tell, dry_run=dry_run))


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of a folder, in order. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(folder, "is no folder", expected="a folder with GGUF files")
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise InputError(folder, "holds no GGUF files", todo="make some with mimo-convert")
    for file in files:
        if "\\" in file.name or not file.name.isprintable():  # nor is what is not UTF-8
            raise InputError(
                folder, f"the name {file.name!r} cannot stand in {SUMS}, or on the Hub", todo="give it another"
            )
    return files


def pairs_of(files: Sequence[Path]) -> list[Files]:
    """Each speech LM with its audio tokenizer; then each audio tokenizer that belongs to none of them, alone."""
    todo = "call the one that belongs to it as the speech LM is called, with `tokenizer` in the place of `asr`"
    pairs = [pair_of(file, todo=todo) for file in files]
    lms = [(lm, tokenizer) for lm, tokenizer in pairs if lm]
    used = {tokenizer for _, tokenizer in lms}
    return [*lms, *((None, tokenizer) for lm, tokenizer in pairs if lm is None and tokenizer not in used)]


def reference_of(pairs: Sequence[Files], reference: str | None, tokenizer: str | None) -> tuple[str, str | None]:
    """What to compare with, as `proof.prepare` takes it: as said, or what the files say that they were made of.

    Raises InputError if they do not say, or not the same.
    """
    if reference:
        return reference, tokenizer
    lms = {checkpoint_of(lm) for lm, _ in pairs if lm}
    tokenizers = {checkpoint_of(tokenizer) for _, tokenizer in pairs}
    if len(lms) > 1 or len(tokenizers) > 1:
        found = " and ".join(sorted(lms | tokenizers))
        raise InputError("--reference", f"the files were made of {found}", todo="say what to compare them with")
    [of_tokenizer] = tokenizers
    return (lms.pop(), tokenizer or of_tokenizer) if lms else (of_tokenizer, None)


def checkpoint_of(file: Path) -> str:
    """The Hub's id and revision of what a file was made of. Raises InputError if it does not say."""
    told = provenance_of(read_gguf(file))
    if not told.repo:
        raise InputError(
            file, "does not say which model on the Hub it was made from", todo="give a --reference to compare it with"
        )
    return f"{told.repo}@{told.revision}" if told.revision else told.repo


def earlier_report(path: Path, files: Sequence[Path], to: Destination) -> Report:
    """What an earlier `--json` said of these files, all of them and no others, as they are now; and their publication.

    Raises InputError if it is no report, or about other files.
    """
    try:
        report = read_json(path)
    except InputError as error:
        raise InputError(path, error.what, expected="what --json wrote") from error
    if report.get("schema") != SCHEMA:
        raise InputError(path, f"has the schema {shown(report.get('schema'))}", expected=repr(SCHEMA))
    with as_a_report_should_be(path):
        checked = {file.name: file.sha256 for file in checked_files(report, Path())}
    for name in checked.keys() - {file.name for file in files}:
        raise InputError(path, f"is about {name}, too, which is not there", todo="put it there, or check again")
    for file in files:
        if file.name not in checked:
            raise InputError(file, f"was not run for {path}", todo="leave out --report to check it now")
        if sha256_of(file) != checked[file.name]:
            raise InputError(file, f"is not the file that {path} is about", todo="leave out --report to check it now")
    with as_a_report_should_be(path):
        report["publication"] = publication(report, to)
        as_card(report, to.template)
        json_text(report)  # it is published, too
    return report


@contextmanager
def as_a_report_should_be(path: Path) -> Iterator[None]:
    """What is missing in a report that somebody edited, or made by other means, is an InputError."""
    try:
        yield
    except MALFORMED as error:
        raise InputError(
            path,
            f"is not as a report should be ({type(error).__name__}: {error})",
            todo="make it again with --json",
        ) from error


if __name__ == "__main__":
    main()
