"""Options shared by commands that check files."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
    "--max-new",
    type=click.IntRange(1),
    show_default="MiMo: 8 a second, at least 256; Qwen3-ASR: 512, Mega-ASR: 256; another task: 8192",
    help="The transcript's length at most, or a reply's, in groups.",
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
    help="What computes products, attention and GELU: own kernels, as far as they equal ggml, or ggml alone.",
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


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cluster` and `--insecure-cluster`: whose workers run what audio is heard by."""
    command = click.option(
        "--insecure-cluster", is_flag=True, help="Let --cluster be a plain tcp:// address elsewhere."
    )(command)
    return click.option(
        "--cluster",
        metavar="ADDRESS",
        default="",
        show_default="none",
        help="Run on the workers of a Dask scheduler: tls://HOST:PORT, or tcp://127.0.0.1:PORT on this machine.",
    )(command)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, `--junit` and `--html`: the report as a file."""
    for name, what in (("html", "as a page"), ("junit", "as JUnit XML"), ("json", "as JSON")):
        option = click.option(
            f"--{name}", f"{name}_file", type=WRITES, metavar="FILE", help=f"Write the report {what}."
        )
        command = option(command)
    return command


class SpeechChoices(NamedTuple):
    """What the options say about a task beside transcription."""

    task: str
    instruct: str | None
    voice: Path | None
    as_is: bool
    question: str | None
    system: str | None
    dialogue: Path | None
    history: Path | None
    save_history: Path | None
    reply: str | None
    thinking: bool
    stream: Path | None
    prompt_only: bool
    seed: int
    greedy: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    local_temperature: float | None
    local_top_p: float | None
    min_new: int

    @property
    def wanted(self) -> bool:
        """Whether any is about another task than a transcription, or about a prompt alone."""
        return self.task != choices.TRANSCRIBE or any(self[1:])


SAMPLING = (
    "seed", "greedy", "temperature", "top_k", "top_p", "local_temperature", "local_top_p", "min_new",
)  # fmt: skip
OF_COMPARISONS = frozenset(  # parameters that are about transcription compared with a reference
    {
        "reference_tokenizer", "compare", "against", "checkpoint", "imatrix", "static", "adapter", "context",
        "attention", "runtime", "others", "calibration",
    }
)  # fmt: skip
ABOVE_0 = click.FloatRange(0, 100, min_open=True)
SHARE = click.FloatRange(0, 1, min_open=True)
SPEECH_OPTIONS = [
    click.option(
        "--task", type=click.Choice(choices.TASKS), default=choices.TRANSCRIBE, show_default=True,
        help="What to do: say a --text, answer a --question about --audio, or the last turn of a dialogue in speech, "
        "or in text (chat), or speak as examples do (continue).",
    ),
    click.option("--instruct", metavar="TEXT", help="The style to speak in; or what the examples of continue do."),
    click.option("--voice", type=READS, metavar="SOUND", help="A clip of the voice to speak with."),
    click.option("--as-is", is_flag=True, help="The --text itself says how to speak, as in `(whispering) Come in.`"),
    click.option("--question", metavar="TEXT", help="What to answer about the audio."),
    click.option("--system", metavar="TEXT", help="What the first turn of a spoken dialogue begins with."),
    click.option(
        "--dialogue", type=READS, metavar="FILE.jsonl",
        help='The turns before: lines of {"role": "user" or "assistant", "text": …, "audio": FILE}; without a last '
        "turn in --audio, or --text, the last one is to be answered.",
    ),
    click.option("--history", type=READS, metavar="FILE.npy", help="The sequence to go on with, of --save-history."),
    click.option("--save-history", type=WRITES, metavar="FILE.npy", help="Write the whole sequence, for --history."),
    click.option(
        "--reply", type=click.Choice(choices.REPLIES), show_default="speech", help="What a dialogue is answered with."
    ),
    click.option("--thinking", is_flag=True, help="Let the model think before it writes."),
    click.option(
        "--stream", type=WRITES, metavar="FILE", help="Write it while it is spoken; - is stdout, with nothing else."
    ),
    click.option("--prompt-only", is_flag=True, help="Only print the text ids of the prompt, in a line."),
    click.option(
        "--seed", type=click.IntRange(0, choices.MOST_SEED), default=0, show_default=True, help="Of all draws."
    ),
    click.option("--greedy", is_flag=True, help="Draw nothing: the argmax of text ids and codes."),
    click.option("--temperature", type=ABOVE_0, show_default="the task's", help="Of text ids."),
    click.option("--top-k", type=click.IntRange(0), show_default="all", help="Of text ids."),
    click.option("--top-p", type=SHARE, show_default="the task's", help="Of text ids."),
    click.option("--local-temperature", type=ABOVE_0, show_default="0.9", help="Of codes."),
    click.option("--local-top-p", type=SHARE, show_default="0.95", help="Of codes."),
    click.option("--min-new", type=click.IntRange(0), default=0, show_default=True, help="A reply's length at least."),
]  # fmt: skip


def speech_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of tasks beside transcription, as the one argument `speech`."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        chosen = SpeechChoices(*(kwargs.pop(name) for name in SpeechChoices._fields))
        return command(*args, speech=chosen, **kwargs)

    for option in reversed(SPEECH_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
