"""mimo-calibrate: checkpoint and clips → calibration file. Parse, call, print."""

from pathlib import Path

import click

from mimo_families.mimo_audio import REPO
from mimo_families.mimo_tokenizer import REPO as TOKENIZER_REPO

from .check_options import adapter_option, cluster_options
from .console import AUDIO_TOKENIZER, handle_errors, threads_option
from .paths import READS, SOURCE, WRITES, current_claims

MINUTES = 15.0  # as mimo_api has it


@click.command(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", type=SOURCE, default=REPO)
@click.option(
    "--tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint.  [default: {TOKENIZER_REPO}]",
)
@click.option(
    "--audio",
    type=READS,
    metavar="SOUND",
    multiple=True,
    help="What to calibrate with: a folder of audio files, a manifest with their texts, or a file; may repeat.  "
    "[default: synthetic speech by espeak-ng]",
)
@click.option("-o", "--output", type=WRITES, metavar="FILE", help="The calibration file to write.")
@click.option(
    "--answers",
    type=READS,
    metavar="FILE.gguf",
    help="A file of the same checkpoint, q8_0 or better, that hears clips whose text is not known.",
)
@click.option("--dat", type=WRITES, metavar="FILE", help="Write the importance matrix for ik_llama.cpp, too.")
@click.option(
    "--in",
    "others",
    type=READS,
    metavar="OTHER.gguf",
    multiple=True,
    help="Add the sums of another calibration of the same model; may repeat. Without --audio nothing else is done.",
)
@click.option("--show", is_flag=True, help="Print a table of what was collected, tensor by tensor.")
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Also collect how much the output depends on what each matrix gives, for --target-size and --target-bpw.",
)
@click.option(
    "--hessian",
    is_flag=True,
    help="Also write second moments of what each matrix is multiplied with, for --feedback: 14 GB of an 8 B model.",
)
@click.option(
    "--language",
    metavar="NAME",
    callback=lambda ctx, param, value: value and value.lower(),
    help="Of the prompt: english, chinese, auto, …  [default: auto; of synthetic speech english]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides which clips are held out, and draws."
)
@click.option(
    "--synthetic-minutes",
    "minutes",
    type=click.FloatRange(0, 600, min_open=True),
    metavar="MINUTES",
    default=MINUTES,
    show_default=True,
    help="How much synthetic speech is made, about.",
)
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@cluster_options
@adapter_option
@threads_option
@click.version_option(package_name="mimo-convert")
@handle_errors
def main(
    model: str, tokenizer: str | None, audio: tuple[Path, ...], output: Path | None, answers: Path | None,
    dat: Path | None, others: tuple[Path, ...], show: bool, sensitivity: bool, hessian: bool,
    language: str | None, seed: int, minutes: float, force: bool, cluster: str, insecure_cluster: bool,
    adapter: str | None, threads: int,
) -> None:  # fmt: skip
    """Collect what each matrix of a model is multiplied with on speech, for mimo-convert --imatrix.

    MODEL is a folder, a Hub id, or one of the self-tests that come with the package, as mimo-convert takes it; PyTorch
    runs it. Interrupted, the same command resumes.

    Exit status: 0 written; 2 bad input or usage; 3 internal error; 130 interrupted.
    """
    from mimo_api import CalibrateOptions, calibrate  # late: --help needs none of it

    options = CalibrateOptions(
        model,
        output,
        audio,
        threads,
        companions={AUDIO_TOKENIZER: tokenizer},
        answers=answers,
        legacy=dat,
        others=others,
        show=show,
        language=language,
        seed=seed,
        minutes=minutes,
        adapter=adapter,
        sensitivity=sensitivity,
        hessian=hessian,
        cluster=cluster,
        insecure_cluster=insecure_cluster,
        force=force,
    )
    calibrate(options, claims=current_claims())


if __name__ == "__main__":
    main()
