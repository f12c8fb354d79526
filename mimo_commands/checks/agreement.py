"""mimo-check agreement: which of several files is good enough. Parse, call, print."""

import sys
from pathlib import Path

import click

from mimo_agreement.conditions.condition import CLEAN, KNOWN
from runtime_check import choices

from ..check_options import (
    attention_option,
    cluster_options,
    context_option,
    language_option,
    max_new_tokens_option,
    products_option,
    report_options,
    runtime_option,
    tokenizer_option,
)
from ..console import AUDIO_TOKENIZER, handle_errors, results_option, threads_option
from ..paths import FOLDER, READS, WRITES, current_claims

MOST_WORKERS = 128


@click.command("agreement", short_help="Say how many words each of several files gets wrong.")
@click.argument("files", type=READS, metavar="FILE.gguf ...", nargs=-1, required=True)
@tokenizer_option
@click.option(
    "--audio",
    type=READS,
    metavar="SOUND",
    multiple=True,
    required=True,
    help="An audio file, a folder of them, or a manifest of files and texts; may repeat.",
)
@click.option(
    "--condition",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    default=[CLEAN],
    show_default=True,
    help=f"What is done to each clip before it is heard: {KNOWN}; may repeat.",
)
@click.option(
    "--baseline",
    type=READS,
    metavar="FILE.gguf",
    help="The file that others are compared with.  [default: the one with the most bits per weight]",
)
@click.option(
    "--noise",
    type=READS,
    metavar="DIR",
    help="Clips that are heard in noise:babble.  [default: six other clips of --audio]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, choices.MOST_SEED),
    default=0,
    show_default=True,
    help="Of all that conditions draw.",
)
@click.option(
    "--reference",
    "references",
    type=READS,
    metavar="FILE_OR_DIR",
    multiple=True,
    help="What `mimo-check reference` stored of a clip, or a folder of such files, for the KL divergence; may repeat.",
)
@click.option(
    "--store",
    type=FOLDER,
    metavar="DIR",
    help="Keep every answer in DIR: the same command resumes, and nothing is run twice.  [default: nothing is kept]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    help="Run in so many processes, as far as they fit into memory, which share the --threads.  [default: in this one]",
)
@cluster_options
@click.option("--keep-clips", type=FOLDER, metavar="DIR", help="Write the degraded clips into DIR, as WAV files.")
@language_option
@context_option
@attention_option
@runtime_option
@max_new_tokens_option
@click.option(
    "--repack",
    type=click.Choice(choices.REPACK),
    default=choices.AUTO,
    show_default=True,
    help="Lay quantized weights out anew in memory for faster products; auto: where own kernels are missing.",
)
@products_option
@threads_option
@results_option
@report_options
@click.option("--csv", "csv_file", type=WRITES, metavar="FILE", help="Write a row a file and condition as CSV.")
@click.option("--include-audio", is_flag=True, help="Put players of the worst clips on the --html page.")
@handle_errors
def agreement(
    files: tuple[Path, ...], tokenizer: Path | None, audio: tuple[Path, ...], conditions: tuple[str, ...],
    baseline: Path | None, noise: Path | None, seed: int, references: tuple[Path, ...], store: Path | None,
    workers: int | None, cluster: str, insecure_cluster: bool, keep_clips: Path | None, language: str | None,
    context: str, attention: str, runtime: str, max_new_tokens: int | None, repack: str, products: str, threads: int,
    json_file: Path | None, junit_file: Path | None, html_file: Path | None, csv_file: Path | None,
    include_audio: bool,
) -> None:  # fmt: skip
    """Run files of a model on clips, clean and degraded, and say how many words each gets wrong, with intervals, and
    which is the smallest that is good enough.

    Every file is also compared with the transcripts of the baseline; with stored references, by KL divergence, too.

    Exit status: 0 done; 1 a clip has no answer of a file; 2 bad input or usage; 3 internal error; 130 interrupted: with
    --store, the same command resumes.
    """
    from mimo_agreement.report.outputs import Outputs
    from mimo_api import AgreementOptions, measure_agreement  # late: --help needs none of it
    from mimo_convert.command.outcome import exit_status

    options = AgreementOptions(
        files,
        audio,
        conditions,
        baseline,
        Outputs(json_file, junit_file, html_file, csv_file),
        threads,
        companions={AUDIO_TOKENIZER: tokenizer},
        noise=noise,
        seed=seed,
        store=store,
        references=references,
        workers=workers,
        cluster=cluster,
        insecure_cluster=insecure_cluster,
        keep_clips=keep_clips,
        include_audio=include_audio,
        language=language,
        context=context,
        attention=attention,
        runtime=runtime,
        max_new_tokens=max_new_tokens,
        repack=repack,
        products=products,
    )
    found = measure_agreement(options, claims=current_claims())
    sys.exit(exit_status([not found.quarantined]))
