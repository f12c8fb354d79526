"""mimo-check: run GGUF files and compare them with the model they came from."""

import sys
from pathlib import Path

import click
import numpy as np

from mimo_convert.console import exit_status, one_line_errors, threads_option
from mimo_convert.gguf_file import read_gguf
from mimo_convert.models import mimo_tokenizer
from quantize.errors import InputError

from . import bundled, report
from .activations import Stages
from .files import check_can_write
from .options import FILE, audio_option, json_option
from .prompt import LANGUAGE_TAGS
from .proof import MAX_NEW_TOKENS, prepare, prove
from .references import choose_language, open_reference
from .transcribe import read_clip

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

    Exit status: 0 every gate reached, or nothing to compare with; 1 a gate failed; 2 bad input or usage.
    """


@main.command("file", short_help="Transcribe with a file; compare it with a reference.")
@click.argument("file", type=FILE, metavar="LM.gguf")
@click.option(
    "--tokenizer",
    type=FILE,
    metavar="TOK.gguf",
    help="The audio tokenizer's file.  [default: mimo-tokenizer-<type>.gguf beside LM.gguf]",
)
@click.option(
    "--reference",
    metavar="CKPT_OR_FILE",
    help="What to compare with: a file of `mimo-check reference`, a checkpoint, or tiny.",
)
@click.option(
    "--reference-tokenizer",
    metavar="CKPT",
    help=f"The audio tokenizer's checkpoint beside a --reference checkpoint.  [default: {bundled.TOKENIZER}]",
)
@audio_option
@click.option("--text", metavar="TEXT", help="What is said, for the word error rate; known for the JFK clip.")
@language_option
@json_option
@click.option("--dump", type=FILE, metavar="DIR", help="Write every stage as DIR/<stage>.npy.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=MAX_NEW_TOKENS,
    show_default=True,
    help="The transcript's length at most.",
)
@threads_option
@one_line_errors
def check_file(
    file: Path, tokenizer: Path | None, reference: str | None, reference_tokenizer: str | None, audio: Path,
    text: str | None, language: str | None, json_file: Path | None, dump: Path | None, max_new_tokens: int,
    threads: int,
) -> None:  # fmt: skip
    """Transcribe with LM.gguf and its audio tokenizer; with a reference, compare every stage.

    An audio tokenizer's file in the place of LM.gguf is checked alone.
    """
    check_can_write(json_file)
    make_folder(dump)
    alone = read_gguf(file).architecture == mimo_tokenizer.FAMILY.gguf
    pair = (None, file) if alone else (file, tokenizer or find_tokenizer(file))
    inputs = prepare(reference, reference_tokenizer, audio, language)
    [check] = prove(inputs, [pair], threads, max_new_tokens, text, keep_stages=dump is not None)
    if dump:
        write_stages(dump, check.run.stages)
    click.echo(report.as_text(check))
    if json_file:
        report.write_json(json_file, report.as_json("mimo-check", [check]))
    sys.exit(exit_status([check.passed]))


@main.command("reference", short_help="Store what PyTorch computes, for checks without it.")
@click.argument("model", default=bundled.MODEL)
@click.option("--tokenizer", metavar="CKPT", help=f"The audio tokenizer's checkpoint.  [default: {bundled.TOKENIZER}]")
@audio_option
@language_option
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Tokens to decode; each after the first is one more pass over the checkpoint.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", required=True, help="The file to write.")
@one_line_errors
def make_reference(
    model: str, tokenizer: str | None, audio: Path, language: str | None, max_new_tokens: int, output: Path
) -> None:  # fmt: skip
    """Run MODEL in PyTorch, fp32, and store every stage, for later checks without torch."""
    check_can_write(output)
    clip = read_clip(audio)
    activations = open_reference(model, tokenizer).activations(
        clip, choose_language(language, None, clip), max_new_tokens
    )
    activations.save(output)
    click.echo(f"{output}: {len(activations.stages)} stages of {clip.path.name}; {activations.transcript!r}")


def find_tokenizer(lm: Path) -> Path:
    """The audio tokenizer's file beside a speech LM's: of the same type, else the only one there.

    Raises InputError if there is none, or a choice.
    """
    same = lm.with_name(lm.name.replace("mimo-asr", mimo_tokenizer.FAMILY.file_stem))
    if same != lm and same.exists():
        return same
    found = sorted(lm.parent.glob(f"{mimo_tokenizer.FAMILY.file_stem}-*.gguf"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(lm, f"audio tokenizer files beside it: {names}", expected="one", todo="name it: --tokenizer")
    return found[0]


def write_stages(folder: Path, stages: Stages) -> None:
    """Every stage as `<stage>.npy`. Raises InputError if the folder cannot be written."""
    try:
        for name, array in stages.items():
            np.save(folder / f"{name}.npy", array)
    except OSError as error:
        raise InputError(folder, f"cannot be written: {error.strerror}", todo="choose another --dump") from error


def make_folder(folder: Path | None) -> None:
    """Make the folder, if one is wanted, before long work. Raises InputError if it cannot be."""
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be written: {error.strerror}", todo="choose another --dump") from error
