"""mimo-check: run GGUF files and compare them with the model they came from. Parse, call, print."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from mimo_convert.terminal import show_whole
from mimo_families.mimo_audio import REPO
from mimo_families.mimo_tokenizer import REPO as TOKENIZER_REPO
from quantize.errors import InputError
from runtime_check import choices
from runtime_check.audio.jfk import JFK

from .check_options import (
    OF_COMPARISONS,
    SAMPLING,
    SpeechChoices,
    adapter_option,
    attention_option,
    audio_option,
    context_option,
    dtype_option,
    language_option,
    max_new_tokens_option,
    products_option,
    repack_option,
    report_options,
    runtime_option,
    speech_options,
    tokenizer_option,
)
from .checks.agreement import agreement
from .checks.transcribe import transcribe
from .console import AUDIO_TOKENIZER, handle_errors, results_option, threads_option
from .paths import FOLDER, READS, SOURCE, WRITES, current_claims, label


class FileByDefault(click.Group):
    """A group whose first word may be a file: `mimo-check LM.gguf` means `mimo-check file LM.gguf`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in (*ctx.help_option_names, "--version"):
            near = get_close_matches(args[0], self.commands, 1)
            if near and not Path(args[0]).exists():
                ctx.fail(f"No such command or file {args[0]!r}. Did you mean {near[0]!r}?")
            args = ["file", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Subcommands and options; else files."""
        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]


@click.group(
    cls=FileByDefault, no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip
@click.version_option(package_name="mimo-convert")
def main() -> None:
    """Run GGUF files of a speech model on a sound and compare every stage with the PyTorch model.

    `mimo-check LM.gguf [OPTIONS]` is short for `mimo-check file LM.gguf [OPTIONS]`.

    Exit status: 0 every gate reached, or nothing to compare with; 1 a gate failed; 2 bad input or usage; 3 internal
    error; 130 interrupted.
    """


main.add_command(agreement)
main.add_command(transcribe)


@main.command("file", short_help="Transcribe with a file; compare it with a reference.")
@click.argument("file", type=READS, metavar="FILE.gguf")
@click.argument("others", type=READS, metavar="[MORE.gguf ...]", nargs=-1)
@tokenizer_option
@click.option(
    "--reference",
    type=SOURCE,
    metavar="SOURCE",
    help="What to compare with: a checkpoint (a folder, a Hub id, tiny, tiny-qwen3), a file of `mimo-check reference`, "
    "or another GGUF file of the same model.",
)
@click.option(
    "--compare",
    type=click.Choice(choices.COMPARED),
    help="What is compared with the --reference: rows of all tensors, without running the file; stages of a run; or "
    "both.  [default: stages; with a GGUF file both]",
)
@click.option(
    "--reference-tokenizer",
    type=SOURCE,
    metavar="SOURCE",
    help=f"The audio tokenizer beside the --reference: of a checkpoint a checkpoint, of a GGUF file a GGUF file.  "
    f"[default: {TOKENIZER_REPO}; the file beside it]",
)
@adapter_option
@dtype_option
@click.option(
    "--against",
    type=READS,
    metavar="OTHER.gguf",
    help="The same as --reference OTHER.gguf.",
)
@click.option("--static", is_flag=True, help="Examine the file without running it.")
@click.option(
    "--checkpoint",
    type=SOURCE,
    metavar="CKPT",
    help="The same as --reference CKPT --compare rows; may stand beside another --reference.",
)
@click.option(
    "--imatrix",
    type=READS,
    metavar="FILE",
    help="The importance matrix that FILE.gguf was made with: its blocks are then compared byte by byte, too.",
)
@click.option(
    "--audio",
    type=READS,
    metavar="SOUND",
    multiple=True,
    default=[JFK],
    show_default="the JFK clip",
    help='A sound file, a folder of them, or a manifest: lines of {"audio": FILE, "text": …}; may repeat.',
)
@click.option("--text", metavar="TEXT", help="What is said, for the word error rate; known for the JFK clip.")
@click.option(
    "--calibration",
    type=READS,
    metavar="FILE",
    help="What the files were calibrated with: of --audio only clips are run that it holds out, if there are any.",
)
@language_option
@context_option
@attention_option
@runtime_option
@results_option
@report_options
@click.option(
    "--wav",
    type=WRITES,
    metavar="OUT.wav",
    help="Write what is spoken, or what an audio tokenizer makes of the sound's codes: 24 kHz, 16 bits, mono.",
)
@click.option("--dump", type=FOLDER, metavar="DIR", help="Write every stage as DIR/<stage>.npy.")
@max_new_tokens_option
@speech_options
@repack_option
@products_option
@threads_option
@handle_errors
def check_file(
    file: Path, others: tuple[Path, ...], tokenizer: Path | None, reference: str | None, compare: str | None,
    reference_tokenizer: str | None, adapter: str | None, dtype: str, against: Path | None, static: bool,
    checkpoint: str | None, imatrix: Path | None, audio: tuple[Path, ...], text: str | None, calibration: Path | None,
    language: str | None, context: str, attention: str, runtime: str, json_file: Path | None, junit_file: Path | None,
    html_file: Path | None, wav: Path | None, dump: Path | None, max_new_tokens: int | None, speech: SpeechChoices,
    repack: str, products: str, threads: int,
) -> None:  # fmt: skip
    """Transcribe with FILE.gguf and its audio tokenizer; with a reference, compare every stage. With another --task,
    speak or converse. More files of the same model are run on the same clips, and compared side by side.

    An audio tokenizer's file in the place of FILE.gguf is examined alone: it encodes the sound and, if it has a
    decoder, decodes the codes. With --static, or rows alone to compare, nothing is run.
    """
    if speech.wanted:
        perform(file, {AUDIO_TOKENIZER: tokenizer}, speech, click.get_current_context().params)
        return
    from mimo_api import CheckOptions, Outputs, check  # late: --help needs none of it
    from mimo_convert.command.outcome import exit_status

    options = CheckOptions(
        file,
        audio,
        Outputs(json_file, junit_file, html_file),
        threads,
        companions={AUDIO_TOKENIZER: tokenizer},
        reference_companions={AUDIO_TOKENIZER: reference_tokenizer},
        reference=reference,
        compare=compare,
        reference_dtype=dtype,
        adapter=adapter,
        against=against,
        static=static,
        checkpoint=checkpoint,
        imatrix=imatrix,
        text=text,
        language=language,
        context=context,
        attention=attention,
        runtime=runtime,
        max_new_tokens=max_new_tokens,
        repack=repack,
        products=products,
        wav=wav,
        dump=dump,
        others=others,
        calibration=calibration,
    )
    sys.exit(exit_status([check(options, claims=current_claims()).passed]))


PASSED_ON = ("threads", "text", "language", "repack", "products", "wav", "dump", "reference")  # to a task as they are


def perform(file: Path, companions: dict[str, Path | None], speech: SpeechChoices, other: dict[str, Any]) -> None:
    """Perform the task of the options `speech`, with what `other` parameters say of any task. Raises InputError for one
    that is about a comparison."""
    from mimo_api import Outputs, Sampling, SpeechOptions, prompt_ids, speak
    from mimo_convert.command.outcome import exit_status

    context = click.get_current_context()
    given = {name for name in other if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    for param in context.command.params:
        if param.name in given & OF_COMPARISONS:
            raise InputError(label(param), f"is not for --task {speech.task}", todo="leave it out")
    chosen = speech._asdict()
    prompt_only, sampling = chosen.pop("prompt_only"), {name: chosen.pop(name) for name in SAMPLING}
    options = SpeechOptions(
        file,
        outputs=Outputs(*(other[f"{name}_file"] for name in ("json", "junit", "html"))),
        companions=companions,
        audio=other["audio"] if "audio" in given else (),
        sampling=Sampling(**sampling, max_new=other["max_new_tokens"]),
        reference_dtype=other["dtype"],
        **{name: other[name] for name in PASSED_ON},
        **chosen,
    )
    if prompt_only:
        show_whole(" ".join(map(str, prompt_ids(options))))
    else:
        sys.exit(exit_status([speak(options, claims=current_claims()).passed]))


@main.command("reference", short_help="Store what PyTorch computes, for checks without it.")
@click.argument("model", type=SOURCE, default=REPO)
@click.option(
    "--tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint.  [default: {TOKENIZER_REPO}]",
)
@adapter_option
@audio_option
@click.option("--text", metavar="TEXT", help="What is said: the answer that files are to follow; known for JFK.")
@language_option
@context_option
@attention_option
@runtime_option
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Without a text, tokens to decode; each after the first is one more pass over the checkpoint.",
)
@dtype_option
@click.option("-o", "--output", type=WRITES, metavar="FILE", required=True, help="The file to write.")
@handle_errors
def store_reference(
    model: str, tokenizer: str | None, adapter: str | None, audio: Path, text: str | None, language: str | None,
    context: str, attention: str, runtime: str, max_new_tokens: int, dtype: str, output: Path,
) -> None:  # fmt: skip
    """Run MODEL in PyTorch and store every stage, for later checks without torch."""
    from mimo_api import ReferenceOptions, make_reference  # late: --help needs none of it

    companions = {AUDIO_TOKENIZER: tokenizer}
    options = ReferenceOptions(
        model,
        output,
        audio,
        companions,
        text,
        language,
        context,
        attention,
        max_new_tokens,
        dtype,
        adapter,
        runtime,
    )
    make_reference(options)


@main.command("nightly", short_help="Check published files, night after night.")
@click.argument("config", type=READS, metavar="CONFIG.toml")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Check this one alone; may repeat.")
@click.option("--junit", "junit_file", type=WRITES, metavar="FILE", help="Write the results as JUnit XML.")
@click.option("--summary", "summary_file", type=WRITES, metavar="FILE", help="Write the results as Markdown.")
@click.option("--check-config", is_flag=True, help="Only say what CONFIG.toml asks for; nothing is run.")
@click.option("--dry-run", is_flag=True, help="The same, and which old reports a run would delete.")
@click.option("--test-notify", is_flag=True, help="Only send a test message as [notify] says; nothing is run.")
@results_option
@handle_errors
def check_nightly(
    config: Path, targets: tuple[str, ...], junit_file: Path | None, summary_file: Path | None, check_config: bool,
    dry_run: bool, test_notify: bool,
) -> None:  # fmt: skip
    """Check the targets of CONFIG.toml (docs/nightly.md) and compare them with the runs before.

    Each target is checked in a process of its own, and recorded as soon as it is done. A run that was interrupted is
    continued by the same command.

    Exit status: 0 all passed; 1 a target failed, or a test message could not be sent; 2 none failed, but one could not
    be checked, or bad input; 3 internal error; 130 interrupted. A notification that fails does not change it.
    """
    from . import nightly as cli  # late: other commands need none of it

    if dry_run:
        cli.dry_run(config, targets)
    elif check_config:
        cli.check_config(config, targets)
    elif test_notify:
        cli.try_notify(config)
    else:
        cli.run_nightly(config, targets, junit_file, summary_file, current_claims())


@main.command("history", short_help="Show what nightly runs have found.")
@click.argument("config", type=READS, metavar="CONFIG.toml")
@click.option("--target", metavar="NAME", help="Show the trends of this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--max-age", metavar="TIME", help="How long ago a target may have been checked, such as 36h.")
@results_option
@handle_errors
def show_history(config: Path, target: str | None, as_json: bool, max_age: str | None) -> None:
    """Show what the nightly runs of CONFIG.toml have found; the history's file itself may stand in its place.

    Exit status: 0 every target passed when it was last checked; 1 one failed; 2 none failed, but one could not be
    checked, never was, or not within --max-age; or bad input; 3 internal error.
    """
    from . import nightly as cli

    cli.print_history(config, target, as_json, None if max_age is None else cli.age(max_age))
