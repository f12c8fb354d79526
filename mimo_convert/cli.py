"""mimo-convert: parse, call, print. The one file of this floor that reaches up: it checks what it wrote."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from publish.options import publish_options
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import TYPES, Type
from runtime_check import bundled
from runtime_check.options import audio_option, repack_option, report_options

from .checkpoint import Checkpoint
from .console import (
    TYPE_NAME,
    asr_only_option,
    exit_status,
    one_line_errors,
    quantizer_option,
    read_rules,
    rule_options,
    threads_option,
)
from .convert import claim_files, convert, replan
from .describe import describe, print_plans
from .models import family_of, mimo_asr
from .paths import FOLDER, SOURCE, current_claims
from .plan import Options, Plan
from .request import Request, check_rules_of, make_request
from .terminal import show, tell


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=SOURCE, default=bundled.MODEL)
@click.option(
    "--tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint.  [default: {bundled.TOKENIZER}]",
)
@click.option(
    "--outtype",
    "outtypes",
    type=TYPE_NAME,
    multiple=True,
    default=["f16"],
    show_default=True,
    metavar="TYPE",
    help=f"Type of the matrices; may repeat. One of {' '.join(TYPES)}.",
)
@click.option(
    "--tokenizer-outtype",
    type=TYPE_NAME,
    metavar="TYPE",
    help="Type of the audio tokenizer's matrices.  [default: the first --outtype]",
)
@click.option(
    "--fuse-qkv/--no-fuse-qkv",
    " /--split-qkv",
    default=False,
    show_default=True,
    help="Store Q, K and V of the language model's blocks as one tensor.",
)
@rule_options
@asr_only_option
@quantizer_option
@click.option(
    "--base-model",
    metavar="OWNER/NAME",
    help="The Hub's id, or OWNER/NAME@REVISION, of what is in the folder MODEL: recorded in the file.",
)
@click.option("--tokenizer-base-model", metavar="OWNER/NAME", help="The same of what is in the folder --tokenizer.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder for the files.  [default: ./<model name>-GGUF]")
@threads_option
@click.option(
    "--check/--no-check",
    "checked",
    default=True,
    show_default=True,
    help="Run the files and compare every stage with the reference.",
)
@click.option(
    "--reference",
    type=SOURCE,
    metavar="CKPT_OR_FILE",
    help="What to compare with.  [default: MODEL itself, in PyTorch; for tiny the bundled file]",
)
@audio_option
@repack_option
@report_options
@click.option("--publish", "publish_to", metavar="USER/REPO", help="Upload the files to the Hub, once they passed.")
@publish_options
@click.option("--stream", is_flag=True, help="Delete each shard of a Hub checkpoint from the cache once it is used.")
@click.option("--dry-run", is_flag=True, help="Print the plan, and write nothing.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@click.version_option(package_name="mimo-convert")
@one_line_errors
def main(
    model: str, tokenizer: str | None, outtypes: tuple[str, ...], tokenizer_outtype: str | None, fuse_qkv: bool,
    tensor_types: tuple[str, ...], recipe: Path | None, asr_only: bool, quantizer: str, base_model: str | None,
    tokenizer_base_model: str | None, out: Path | None, threads: int, checked: bool, reference: str | None,
    audio: Path, repack: str, json_file: Path | None, junit_file: Path | None, html_file: Path | None,
    publish_to: str | None, private: bool, yes: bool, even_if_failed: bool, card_template: Path | None, stream: bool,
    dry_run: bool, force: bool,
) -> None:  # fmt: skip
    """Convert a MiMo speech checkpoint and its audio tokenizer to GGUF, then prove the files by running them.

    MODEL is a folder, a Hub id, or `tiny`, the self-test that comes with the package.

    Exit status: 0 converted, and every gate reached; 1 a gate failed; 2 bad input or usage; 3 internal error; 130
    interrupted. With --publish, 0 if they are published, too; 1 also if what arrived is not what was sent; 130 also if
    you say no.
    """
    from runtime_check import proof, report  # late: --help needs none of it
    from runtime_check.static_check import check_static

    outputs = report.Outputs(json_file, junit_file, html_file)
    outputs.check()
    types = [TYPES[name] for name in dict.fromkeys(outtypes)]
    options = Options(fuse_qkv, asr_only, read_rules(tensor_types, recipe), quantizer=quantizer)
    if stream and checked and not (reference and Path(reference).is_file()):
        raise InputError(
            "--stream", "the check would need the shards that it deletes", expected="--no-check or --reference FILE"
        )
    how = {"--private": private, "--yes": yes, "--even-if-failed": even_if_failed, "--card-template": card_template}
    for option, value in how.items():
        if value and not publish_to:
            raise InputError(option, "is about --publish, which was not given", todo="give both, or neither")
    if publish_to and not checked:
        raise InputError("--publish", "is for files that were checked", todo="leave out --no-check")
    tokenizer_type = TYPES.get(tokenizer_outtype or "")
    checkpoints = open_checkpoints(model, tokenizer, base_model, tokenizer_base_model, stream=stream and not dry_run)
    if publish_to and not checkpoints[0].repo:
        raise InputError(
            "--publish", f"the card must name the base model, and {model} does not tell", todo="say it: --base-model"
        )
    claims = current_claims()
    for checkpoint in checkpoints:
        claims.reads("the checkpoint", checkpoint.folder)
    requests = make_requests(checkpoints, types, tokenizer_type, options)
    check_rules_of(requests)
    out = out or Path(f"{requests[0].model.name}-GGUF")
    claim_files(requests, out, claims, "--out")

    if dry_run:
        plans = [plan for request in look_at_weights(requests, threads) for plan in request.plans]
        print_plans(plans, out)
        report.Results("mimo-convert", plans).write(outputs)
        return

    if publish_to:
        from publish.publish import Destination, check_beforehand, publication, publish  # late: it takes 30 MB

        to = Destination(publish_to, private, yes, even_if_failed, card_template)
        check_beforehand(out, to, claims)
    inputs = proof.prepare(reference or model, tokenizer, [audio]) if checked else None
    plans = convert(requests, out, threads=threads, force=force, tell=tell)
    for plan in plans:
        show(f"{quoted(out / plan.file_name)}: {describe(plan)}")
    results = report.Results("mimo-convert", plans)
    if inputs:
        for plan in plans:
            results.add(check_static(out / plan.file_name, threads))
        with results.as_far_as_possible():
            for check in proof.prove(replace(inputs, repack=repack), pairs_to_check(plans, out), threads):
                results.add(check)
    found = results.as_report()
    if publish_to:
        found["publication"] = publication(found, to)
    outputs.write(found)
    sys.exit(publish(found, out, to, claims, tell) if publish_to else exit_status([results.passed]))


def open_checkpoints(
    model: str, tokenizer: str | None, base_model: str | None, tokenizer_base_model: str | None, *, stream: bool
) -> list[Checkpoint]:
    """What is to be converted: a speech LM and its audio tokenizer, or an audio tokenizer alone."""
    checkpoint = bundled.open_model(model, stream=stream)
    if base_model is not None:
        checkpoint = checkpoint.of_base_model(base_model, "--base-model")
    if family_of(checkpoint) is not mimo_asr.FAMILY:
        for option, value in (("--tokenizer", tokenizer), ("--tokenizer-base-model", tokenizer_base_model)):
            if value:
                raise InputError(option, f"{value}, but {model} is itself an audio tokenizer", todo="leave it out")
        return [checkpoint]
    beside = bundled.open_tokenizer(tokenizer, model, stream=stream)
    if family_of(beside) is mimo_asr.FAMILY:
        raise InputError(beside.folder, "is a speech LM", expected="an audio tokenizer as --tokenizer")
    if tokenizer_base_model is not None:
        beside = beside.of_base_model(tokenizer_base_model, "--tokenizer-base-model")
    return [checkpoint, beside]


def make_requests(
    checkpoints: list[Checkpoint], types: list[Type], tokenizer_type: Type | None, options: Options
) -> list[Request]:
    """The speech LM in every type, and the audio tokenizer in its own or else the first; one alone in every type."""
    *lms, tokenizer = checkpoints
    of_tokenizer = [tokenizer_type] if tokenizer_type else types[:1] if lms else types
    return [*(make_request(lm, types, options) for lm in lms), make_request(tokenizer, of_tokenizer, options)]


def look_at_weights(requests: list[Request], threads: int) -> list[Request]:
    """As a conversion would end up with them: every weight is read, to find those too large for their type.

    Nothing is downloaded: models that are not all here stay as they are, and a line says so.
    """
    here = [all(request.model.shards.is_here(file) for file in request.files) for request in requests]
    if not all(here):
        absent = " and ".join(r.model.name for r, is_here in zip(requests, here, strict=True) if not is_here)
        tell(f"{absent}: not all here, and no weight was read: a tensor that needs f32 is not known yet")
    return [replan(r, threads) if is_here else r for r, is_here in zip(requests, here, strict=True)]


def pairs_to_check(plans: list[Plan], out: Path) -> list[tuple[Path | None, Path]]:
    """Each speech LM with the audio tokenizer that was written last; or each audio tokenizer alone."""
    paths = [out / plan.file_name for plan in plans]
    lms = [path for plan, path in zip(plans, paths, strict=True) if plan.family is mimo_asr.FAMILY]
    return [(lm, paths[-1]) for lm in lms] or [(None, path) for path in paths]
