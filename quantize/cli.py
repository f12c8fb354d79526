"""mimo-quantize: GGUF → GGUF. The one file of this floor that reaches up: it runs the pipeline of `mimo_convert`."""

from pathlib import Path

import click

from mimo_convert.console import (
    TYPE_NAME,
    asr_only_option,
    one_line_errors,
    quantizer_option,
    read_rules,
    rule_options,
    threads_option,
)
from mimo_convert.convert import claim_files, convert, replan
from mimo_convert.describe import describe, print_plans
from mimo_convert.paths import READS, WRITES, current_claims
from mimo_convert.plan import Options
from mimo_convert.request import Request, check_rules_of
from mimo_convert.stored_model import model_of_file
from mimo_convert.terminal import show, tell
from quantize.quoting import quoted

from .errors import InputError
from .types import TYPES


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("source", type=READS, metavar="IN.gguf")
@click.argument("target", type=WRITES, metavar="OUT.gguf")
@click.option(
    "--outtype",
    type=TYPE_NAME,
    metavar="TYPE",
    help=f"Type of the matrices. One of {' '.join(TYPES)}.  [default: what each is stored in]",
)
@click.option(
    "--fuse-qkv/--split-qkv",
    " /--no-fuse-qkv",
    default=None,
    help="Store Q, K and V of the language model's blocks as one tensor, or as three.  [default: as in IN.gguf]",
)
@rule_options
@asr_only_option
@click.option(
    "--allow-requantize", is_flag=True, help="Quantize anew what has fewer than 8 bits a weight: it gets worse."
)
@quantizer_option
@threads_option
@click.option("--dry-run", is_flag=True, help="Print the plan, and write nothing.")
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@click.version_option(package_name="mimo-convert")
@one_line_errors
def main(
    source: Path, target: Path, outtype: str | None, fuse_qkv: bool | None, tensor_types: tuple[str, ...],
    recipe: Path | None, asr_only: bool, allow_requantize: bool, quantizer: str, threads: int, dry_run: bool,
    force: bool,
) -> None:  # fmt: skip
    """Make a GGUF file of another type or layout from one that mimo-convert wrote, or a tool like it.

    Tensors whose type does not change are copied byte by byte.

    Exit status: 0 written; 2 bad input or usage; 3 internal error; 130 interrupted.
    """
    model = model_of_file(source)
    if model.recipe_problem:
        tell(f"warning: {model.recipe_problem}; read as a file without rules")
    if target.is_dir():
        raise InputError(target, "is a folder", expected="the name of the file to write")
    options = Options(
        model.fused if fuse_qkv is None else fuse_qkv,
        asr_only or model.asr_only,
        read_rules(tensor_types, recipe),
        allow_requantize,
        quantizer,
    )
    request = Request(model, [TYPES[outtype] if outtype else None], options, target.name)
    check_rules_of([request])
    if dry_run:
        print_plans(replan(request, threads).plans, target.parent)
        return
    claim_files([request], target.parent, current_claims(), "OUT.gguf")
    [plan] = convert([request], target.parent, threads=threads, force=force, tell=tell)
    show(f"{quoted(target)}: {describe(plan)}")
