"""Options shared by commands that check files."""

from collections.abc import Callable
from typing import Any

import click

from runtime_check import choices
from runtime_check.audio.jfk import JFK

from .paths import READS, SOURCE, WRITES

audio_option = click.option(
    "--audio", type=READS, metavar="FILE", default=JFK, show_default="the JFK clip", help="The sound to run."
)
tokenizer_option = click.option(
    "--tokenizer",
    type=READS,
    metavar="TOK.gguf",
    help="The audio tokenizer's file, or mmproj.  [default: the one beside FILE.gguf, of its type down to q8_0]",
)
language_option = click.option(
    "--language", metavar="NAME",
    callback=lambda ctx, param, value: value and value.lower(),
    help="Of the prompt: english, chinese, auto, …  [default: the reference's; else english for JFK, auto for others]",
)  # fmt: skip
context_option = click.option(
    "--context",
    metavar="TEXT",
    default="",
    show_default="none",
    help="Hints for the prompt, such as names: for models that take them.",
)
attention_option = click.option(
    "--attention",
    type=click.Choice(choices.ATTENTION),
    default=choices.AUTO,
    show_default=True,
    help="Of an audio encoder with windows. auto: within them, if the file says so; full: over the whole clip.",
)
runtime_option = click.option(
    "--runtime",
    metavar="NAME",
    default="",
    show_default="upstream",
    help="Compute as another program does, where it differs: for Qwen3-ASR llama.cpp, in both sides of a comparison.",
)
max_new_tokens_option = click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    show_default="MiMo: 8 a second, at least 256; Qwen3-ASR: 512, Mega-ASR: 256",
    help="The transcript's length at most.",
)
repack_option = click.option(
    "--repack",
    type=click.Choice(choices.REPACK),
    default=choices.AUTO,
    show_default=True,
    help="Lay quantized weights out anew in memory for faster products; auto: where it repays the time it takes.",
)
products_option = click.option(
    "--products",
    type=click.Choice(choices.PRODUCTS),
    default=choices.AUTO,
    show_default=True,
    help="What multiplies with weights: own kernels, as far as they equal ggml, or ggml alone.",
)
adapter_option = click.option(
    "--adapter",
    type=SOURCE,
    metavar="DIR",
    help="A LoRA adapter to add to the checkpoint's weights.  [default: of a repository that holds one its own; none: "
    "its base alone]",
)
dtype_option = click.option(
    "--reference-dtype",
    "dtype",
    type=click.Choice(choices.REFERENCE_DTYPES),
    default="f32",
    show_default=True,
    help="What PyTorch computes in: float32, or bfloat16, as upstream does.",
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, `--junit` and `--html`: the report as a file."""
    for name, what in (("html", "as a page"), ("junit", "as JUnit XML"), ("json", "as JSON")):
        option = click.option(
            f"--{name}", f"{name}_file", type=WRITES, metavar="FILE", help=f"Write the report {what}."
        )
        command = option(command)
    return command
