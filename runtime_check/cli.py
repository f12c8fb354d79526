"""mimo-check: run GGUF files and compare them with the model they came from."""

import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path

import click
import numpy as np

from mimo_convert.checkpoint import Checkpoint
from mimo_convert.claims import Claims
from mimo_convert.console import exit_status, one_line_errors, threads_option
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.gguf_file import read_gguf
from mimo_convert.models import mimo_tokenizer
from mimo_convert.paths import FOLDER, READS, SOURCE, WRITES, current_claims
from mimo_convert.stored_model import model_of_checkpoint, model_of_file
from mimo_convert.terminal import show
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

from . import bundled
from .activations import Stages
from .options import audio_option, dtype_option, repack_option, report_options
from .pairs import pair_of
from .prompt import LANGUAGE_TAGS
from .proof import prepare, prove
from .references import checkpoint_reference, choose_language, file_reference
from .report import Outputs, Results
from .sounds import Sound, find_sounds
from .static_check import check_static
from .tensor_check import check_against
from .transcribe import Harness

language_option = click.option(
    "--language", type=click.Choice(list(LANGUAGE_TAGS)),
    help="Of the prompt.  [default: the reference's; else english for JFK, auto for other sounds]",
)  # fmt: skip


class FileByDefault(click.Group):
    """A group whose first word may be a file: `mimo-check LM.gguf` means `mimo-check file LM.gguf`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in (*ctx.help_option_names, "--version"):
            args = ["file", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=FileByDefault, no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip
@click.version_option(package_name="mimo-convert")
def main() -> None:
    """Run MiMo GGUF files on a sound and compare every stage with the PyTorch model.

    `mimo-check LM.gguf [OPTIONS]` is short for `mimo-check file LM.gguf [OPTIONS]`.

    Exit status: 0 every gate reached, or nothing to compare with; 1 a gate failed; 2 bad input or usage; 3 internal
    error; 130 interrupted.
    """


@main.command("file", short_help="Transcribe with a file; compare it with a reference.")
@click.argument("file", type=READS, metavar="FILE.gguf")
@click.option(
    "--tokenizer",
    type=READS,
    metavar="TOK.gguf",
    help="The audio tokenizer's file.  [default: mimo-tokenizer-<type>.gguf beside FILE.gguf]",
)
@click.option(
    "--reference",
    type=SOURCE,
    metavar="CKPT_OR_FILE",
    help="What to compare with: a file of `mimo-check reference`, a checkpoint, or tiny.",
)
@click.option(
    "--reference-tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint beside a --reference checkpoint.  [default: {bundled.TOKENIZER}]",
)
@dtype_option
@click.option(
    "--against",
    type=READS,
    metavar="OTHER.gguf",
    help="Compare with another file of the same model: its tensors, and every stage.",
)
@click.option("--static", is_flag=True, help="Examine the file without running it.")
@click.option(
    "--checkpoint",
    type=SOURCE,
    metavar="CKPT",
    help="Examine the file without running it, and compare every row with the checkpoint it was made from.",
)
@click.option(
    "--audio",
    type=READS,
    metavar="SOUND",
    multiple=True,
    default=[bundled.JFK],
    show_default="the JFK clip",
    help='A sound file, a folder of them, or a manifest: lines of {"audio": FILE, "text": …}; may repeat.',
)
@click.option("--text", metavar="TEXT", help="What is said, for the word error rate; known for the JFK clip.")
@language_option
@report_options
@click.option("--dump", type=FOLDER, metavar="DIR", help="Write every stage as DIR/<stage>.npy.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    show_default="8 a second, at least 256",
    help="The transcript's length at most.",
)
@repack_option
@threads_option
@one_line_errors
def check_file(
    file: Path, tokenizer: Path | None, reference: str | None, reference_tokenizer: str | None, dtype: str,
    against: Path | None, static: bool, checkpoint: str | None, audio: tuple[Path, ...], text: str | None,
    language: str | None, json_file: Path | None, junit_file: Path | None, html_file: Path | None, dump: Path | None,
    max_new_tokens: int | None, repack: str, threads: int,
) -> None:  # fmt: skip
    """Transcribe with FILE.gguf and its audio tokenizer; with a reference, compare every stage.

    An audio tokenizer's file in the place of FILE.gguf is examined alone. With --static or --checkpoint nothing is run,
    unless --reference or --against asks for it.
    """
    if reference and against:
        raise InputError("--against", "and --reference: there can be one reference", todo="give one of them")
    outputs = Outputs(json_file, junit_file, html_file)
    outputs.check()
    claims = current_claims()
    make_folder(dump)
    results = Results("mimo-check")
    if static or checkpoint:
        results.add(check_static(file, threads))
    with results.as_far_as_possible():
        if checkpoint:
            results.add(check_against(file, model_of_checkpoint(open_source(file, checkpoint)), threads))
        if against:
            results.add(check_against(file, model_of_file(against), threads))
        if reference or against or not (static or checkpoint):
            pair = pair_of(file, tokenizer)
            claims.reads("--tokenizer", pair[1])
            inputs = prepare(reference, reference_tokenizer, audio, text, dtype)
            for sound in inputs.sounds:
                claims.reads("--audio", sound.path)
            if against:
                others = partial(Harness, *pair_of(against), threads, repack, inputs.work)
                inputs = replace(inputs, reference=file_reference(others, max_new_tokens))
            inputs = replace(
                inputs, language=language, repack=repack, max_new_tokens=max_new_tokens, keep_stages=dump is not None
            )
            folders = folders_of(inputs.sounds, dump) if dump else repeat(None)
            for check, folder in zip(prove(inputs, [pair], threads), folders, strict=False):
                results.add(check)
                if folder:
                    make_folder(folder)
                    write_stages(folder, check.run.stages, claims)
    results.write(outputs)
    sys.exit(exit_status([results.passed]))


@main.command("reference", short_help="Store what PyTorch computes, for checks without it.")
@click.argument("model", type=SOURCE, default=bundled.MODEL)
@click.option(
    "--tokenizer",
    type=SOURCE,
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint.  [default: {bundled.TOKENIZER}]",
)
@audio_option
@click.option("--text", metavar="TEXT", help="What is said: the answer that files are to follow; known for JFK.")
@language_option
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Without a text, tokens to decode; each after the first is one more pass over the checkpoint.",
)
@dtype_option
@click.option("-o", "--output", type=WRITES, metavar="FILE", required=True, help="The file to write.")
@one_line_errors
def make_reference(
    model: str, tokenizer: str | None, audio: Path, text: str | None, language: str | None, max_new_tokens: int,
    dtype: str, output: Path,
) -> None:  # fmt: skip
    """Run MODEL in PyTorch and store every stage, for later checks without torch."""
    check_can_write(output)
    [sound] = find_sounds([audio], text)
    clip = sound.read()
    reference = checkpoint_reference(model, tokenizer, dtype, max_new_tokens)
    activations = reference.activations(clip, choose_language(language, None, clip), None)
    activations.save(output)
    heard = quoted(repr(activations.transcript), 1000)
    show(f"{quoted(output)}: {len(activations.stages)} stages of {quoted(clip.path.name)}; {heard}")


@main.command("nightly", short_help="Check published files, night after night.")
@click.argument("config", type=READS, metavar="CONFIG.toml")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Check this one alone; may repeat.")
@click.option("--junit", "junit_file", type=WRITES, metavar="FILE", help="Write the results as JUnit XML.")
@click.option("--summary", "summary_file", type=WRITES, metavar="FILE", help="Write the results as Markdown.")
@one_line_errors
def check_nightly(config: Path, targets: tuple[str, ...], junit_file: Path | None, summary_file: Path | None) -> None:
    """Check the targets of CONFIG.toml (docs/nightly.md) and compare them with the runs before.

    Each target is checked in a process of its own, and recorded as soon as it is done. A run that was interrupted is
    continued by the same command.

    Exit status: 0 all passed; 1 a target failed; 2 none failed, but one could not be checked, or bad input; 3 internal
    error; 130 interrupted.
    """
    from watch import cli  # late: other commands need none of it

    cli.run_nightly(config, targets, junit_file, summary_file, current_claims())


@main.command("history", short_help="Show what nightly runs have found.")
@click.argument("config", type=READS, metavar="CONFIG.toml")
@click.option("--target", metavar="NAME", help="Show the trends of this one.")
@one_line_errors
def show_history(config: Path, target: str | None) -> None:
    """Show what the nightly runs of CONFIG.toml have found; the history's file itself may stand in its place."""
    from watch import cli

    cli.print_history(config, target)


def folders_of(sounds: Sequence[Sound], dump: Path) -> Iterator[Path]:
    """Where the stages of each clip go: a folder of its own, if there are several; `clip.wav (2)` for another one of a
    name that is taken."""
    seen: Counter[str] = Counter()
    for sound in sounds:
        seen[sound.path.name] += 1
        n = seen[sound.path.name]
        yield dump if len(sounds) == 1 else dump / (sound.path.name if n == 1 else f"{sound.path.name} ({n})")


def open_source(file: Path, checkpoint: str) -> Checkpoint:
    """The checkpoint that a file is compared with; of `tiny`, the half that the file was made from."""
    is_tokenizer = read_gguf(file).architecture == mimo_tokenizer.FAMILY.gguf
    if is_tokenizer and checkpoint == bundled.TINY:
        return bundled.open_tokenizer(None, checkpoint)
    return bundled.open_model(checkpoint)


def write_stages(folder: Path, stages: Stages, claims: Claims) -> None:
    """Every stage as `<stage>.npy`, each whole or not at all. Raises InputError if one cannot be written."""
    for name, array in stages.items():
        path = folder / f"{name}.npy"
        claims.writes("--dump", path)
        data = io.BytesIO()  # numpy's own writing to a file says not why it failed
        np.save(data, array)
        write_whole(path, data.getbuffer())


def make_folder(folder: Path | None) -> None:
    """Make the folder, if one is wanted, before long work. Raises InputError if it cannot be."""
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be written: {reason_of(error)}", todo="choose another --dump") from error
