"""mimo-quantize: GGUF → GGUF. Parse, call, print."""

from pathlib import Path

import click

from quantize.types import TYPES

from .console import (
    TYPE_NAME,
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
)
from .paths import FOLDER, READS, WRITES, current_claims


@click.command(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("source", type=READS, metavar="IN.gguf")
@click.argument("target", type=WRITES, metavar="OUT.gguf", required=False)
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="The same as OUT.gguf.")
@click.option(
    "--outtype",
    type=TYPE_NAME,
    metavar="TYPE",
    help=f"Type of the matrices. One of {' '.join(TYPES)}.  [default: what each is stored in, or the named recipe's]",
)
@click.option(
    "--fuse-qkv/--split-qkv",
    " /--no-fuse-qkv",
    default=None,
    help="Store Q, K and V of the language model's blocks as one tensor, or as three.  [default: as in IN.gguf]",
)
@rule_options
@target_options
@parts_options
@click.option(
    "--allow-requantize", is_flag=True, help="Quantize anew what has fewer than 8 bits a weight: it gets worse."
)
@imatrix_option
@feedback_option
@quantizer_option
@threads_option
@click.option("--dry-run", is_flag=True, help="Print the plan, and write nothing.")
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@click.version_option(package_name="mimo-convert")
@handle_errors
def main(
    source: Path, target: Path | None, output: Path | None, outtype: str | None, fuse_qkv: bool | None,
    tensor_types: tuple[str, ...], recipe: Path | None, target_size: str | None, target_bpw: str | None,
    calibration: Path | None, floors: tuple[str, ...], without: frozenset[str], asr_only: bool, no_output_copy: bool,
    allow_requantize: bool, imatrix: Path | None, feedback: bool, quantizer: str, threads: int, dry_run: bool,
    force: bool,
) -> None:  # fmt: skip
    """Make a GGUF file of another type or layout from one that mimo-convert wrote, or a tool like it.

    Tensors whose type does not change are copied byte by byte.

    Exit status: 0 written; 2 bad input or usage; 3 internal error; 130 interrupted.
    """
    from mimo_api import QuantizeOptions, quantize  # late: --help needs none of it

    named = [path for path in (target, output) if path]
    if not named:
        raise click.UsageError("Missing argument 'OUT.gguf'.")
    if len(named) > 1:
        raise click.UsageError("OUT.gguf and --output both name the file to write; give one of them.")
    rules, size = read_rules(tensor_types, recipe), read_target(target_size, target_bpw, floors)
    options = QuantizeOptions(
        source,
        named[0],
        threads,
        outtype,
        fuse_qkv,
        rules.rules,
        skipped_parts(without, asr_only, no_output_copy),
        allow_requantize,
        quantizer,
        dry_run,
        force,
        rules.recipe,
        size.target,
        calibration,
        size.floors,
        imatrix,
        feedback,
    )
    quantize(options, claims=current_claims())
