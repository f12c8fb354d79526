"""Reports of published files, for their card."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCard

from mimo_convert.model.provenance import Provenance
from runtime_check.report.records import Report
from runtime_check.run.records import Check, FileFacts
from tests import reports

LM, Q8, TOKENIZER = "mimo-asr-q4_k.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-q4_k.gguf"
MakeReport = Callable[[], Report]


def good() -> Report:
    return reports.published_report()


def bad() -> Report:
    """Of one pair, on two clips, of which the second fails; its lint and its tensors fail, too."""
    report = reports.failed_report()
    return replace(report, publication=reports.publication_of(report.checks, even_if_failed=True))


def one_pair() -> Report:
    return of_checks(good().checks[0])


def of_checks(*checks: Check, **more: Any) -> Report:
    """The good report with these checks, of whose files it is."""
    return replace(good(), checks=checks, publication=reports.publication_of(checks), **more)


def alone() -> Report:
    """Of an audio tokenizer alone."""
    return of_checks(reports.tokenizer_alone(reports.check()), lint=(), tensors=())


def uncompared() -> Report:
    """Of a pair that was run without a reference."""
    return of_checks(reports.without_reference(reports.check()), passed=None)


def without_figures() -> Report:
    """With None wherever a number may be missing."""
    check = reports.check()
    for stage in check.stages:
        if stage.cos_mean is not None:
            check = reports.with_stage(check, stage.name, cos_mean=None, cos_min=None, rel_rmse=None)
    assert check.steps is not None
    check = reports.with_steps(check, replace(check.steps, kl_mean=None, kl_max=None))
    files = tuple(replace(file, bits_per_weight=None, quantizer="", outtype="") for file in check.files)
    return of_checks(replace(check, files=files, words=None, memory={}))


EVERY = [good, bad, one_pair, alone, uncompared, without_figures]


def with_file(report: Report, name: str, **facts: Any) -> Report:
    """The report with other facts of a file, in every check that it was run in."""
    checks = tuple(
        replace(check, files=tuple(replace(file, **facts) if is_called(file, name) else file for file in check.files))
        for check in report.checks
    )
    return replace(report, checks=checks)


def with_provenance(report: Report, name: str, **told: Any) -> Report:
    """The report with another account of where a file comes from."""
    [provenance, *_] = [file.provenance for check in report.checks for file in check.files if is_called(file, name)]
    return with_file(report, name, provenance=replace(provenance, **told))


def without_provenance(report: Report, name: str) -> Report:
    return with_file(report, name, provenance=Provenance())


def is_called(file: FileFacts, name: str) -> bool:
    return file.file.endswith(f"/{name}")


def metadata(card: str) -> dict[str, Any]:
    """As the Hub's own library reads it."""
    return dict(ModelCard(card, ignore_metadata_errors=False).data.to_dict())
