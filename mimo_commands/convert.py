"""mimo-convert: parse, call, print."""

import sys
from pathlib import Path
from typing import Any

import click

from mimo_convert.plan.variant import MIX, variant_of
from mimo_families.mimo_audio import REPO
from mimo_families.mimo_tokenizer import REPO as TOKENIZER_REPO
from quantize.types import TYPES

from .check_options import adapter_option, audio_option, products_option, repack_option, report_options
from .console import (
    AUDIO_TOKENIZER,
    TYPE_NAME,
    agreed,
    feedback_option,
    handle_errors,
    imatrix_option,
    parts_options,
    quantizer_option,
    read_rules,
    read_target,
    rule_options,
    skipped_parts,
    target_options,
    threads_option,
    with_option,
)
from .paths import FOLDER, SOURCE, current_claims
from .publish import check_has_destination, publish_options


@click.command(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=SOURCE, default=REPO)
@click.option(
    "--tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint.  [default: {TOKENIZER_REPO}]",
)
@click.option(
    "--outtype",
    "outtypes",
    type=TYPE_NAME,
    multiple=True,
    metavar="TYPE",
    help=f"Type of the matrices; may repeat. One of {' '.join(TYPES)}.  [default: f16, or the named recipe's]",
)
@click.option(
    "--tokenizer-outtype",
    type=TYPE_NAME,
    metavar="TYPE",
    help="Type of the audio tokenizer's matrices.  [default: for each --outtype the same down to q8_0, else q8_0]",
)
@click.option(
    "--fuse-qkv/--no-fuse-qkv",
    " /--split-qkv",
    default=False,
    show_default=True,
    help="Store Q, K and V of the language model's blocks as one tensor.",
)
@rule_options
@target_options
@click.option(
    "--name",
    metavar="NAME",
    help="What the files are called behind their type, beside others of it: mimo-asr-q4_k-NAME.gguf.  "
    f"[default: of files that rules apply to, the recipe's name, or {MIX}]",
)
@with_option
@parts_options
@imatrix_option
@feedback_option
@quantizer_option
@click.option(
    "--base-model",
    metavar="OWNER/NAME",
    help="The Hub's id, or OWNER/NAME@REVISION, of what is in the folder MODEL: recorded in the file.",
)
@adapter_option
@click.option(
    "--runtime",
    metavar="NAME",
    default="",
    show_default="the family's own",
    help="The program that the files are for, where it takes another layout: of Qwen3-ASR, llama.cpp.",
)
@click.option("--adapter-model", metavar="OWNER/NAME", help="The same of the adapter in the folder --adapter.")
@click.option("--tokenizer-base-model", metavar="OWNER/NAME", help="The same of what is in the folder --tokenizer.")
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    type=FOLDER,
    metavar="DIR",
    help="Folder for the files.  [default: ./<model name>-GGUF]",
)
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
    help="What to compare with.  [default: MODEL itself, in PyTorch; for tiny the stored one]",
)
@audio_option
@repack_option
@products_option
@report_options
@click.option("--publish", "publish_to", metavar="USER/REPO", help="Upload the files to the Hub, once they passed.")
@publish_options
@click.option("--stream", is_flag=True, help="Delete each shard of a Hub checkpoint from the cache once it is used.")
@click.option("--dry-run", is_flag=True, help="Print the plan, and write nothing.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@click.version_option(package_name="mimo-convert")
@handle_errors
def main(
    model: str, tokenizer: str | None, outtypes: tuple[str, ...], tokenizer_outtype: str | None, fuse_qkv: bool,
    tensor_types: tuple[str, ...], recipe: Path | None, target_size: str | None, target_bpw: str | None,
    calibration: Path | None, floors: tuple[str, ...], name: str | None, parts: frozenset[str],
    without: frozenset[str], asr_only: bool, no_output_copy: bool, imatrix: Path | None, feedback: bool, quantizer: str,
    base_model: str | None, adapter: str | None, runtime: str, adapter_model: str | None,
    tokenizer_base_model: str | None, out: Path | None, threads: int, checked: bool, reference: str | None, audio: Path,
    repack: str, products: str, json_file: Path | None, junit_file: Path | None, html_file: Path | None,
    publish_to: str | None, how: dict[str, Any], stream: bool, dry_run: bool, force: bool,
) -> None:  # fmt: skip
    """Convert a speech model, with its audio tokenizer if it has one, to GGUF, then prove the files by running them.

    MODEL is a folder, a Hub id, or one of the self-tests that come with the package, `tiny` and `tiny-qwen3`.

    Exit status: 0 converted, and every gate reached; 1 a gate failed; 2 bad input or usage; 3 internal error; 130
    interrupted. With --publish, 0 if they are published, too; 1 also if what arrived is not what was sent; 130 also if
    you say no.
    """
    from mimo_api import ConvertOptions, Destination, Outputs, convert  # late: --help needs none of it
    from mimo_convert.command.outcome import exit_status

    check_has_destination(how, publish_to)
    types, size = read_rules(tensor_types, recipe), read_target(target_size, target_bpw, floors)
    destination = Destination(publish_to, **how) if publish_to else None
    options = ConvertOptions(
        model,
        list(dict.fromkeys(outtypes)),
        outputs=Outputs(json_file, junit_file, html_file),
        audio=audio,
        threads=threads,
        base_model=base_model,
        companions={AUDIO_TOKENIZER: tokenizer},
        companion_base_models={AUDIO_TOKENIZER: tokenizer_base_model},
        companion_type=tokenizer_outtype,
        adapter=adapter,
        runtime=runtime,
        adapter_model=adapter_model,
        fuse_qkv=fuse_qkv,
        parts=parts,
        without=skipped_parts(without, asr_only, no_output_copy),
        rules=types.rules,
        recipe=types.recipe,
        size=size.target,
        calibration=calibration,
        floors=size.floors,
        variant=variant_of(name, types.file),
        imatrix=imatrix,
        feedback=feedback,
        quantizer=quantizer,
        out=out,
        checked=checked,
        reference=reference,
        repack=repack,
        products=products,
        destination=destination,
        stream=stream,
        dry_run=dry_run,
        force=force,
    )
    converted = convert(options, agree=lambda cost: bool(how.get("yes")) or agreed("Go on?"), claims=current_claims())
    sys.exit(exit_status([converted.passed]))
