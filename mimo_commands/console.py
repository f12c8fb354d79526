"""Parts shared by all commands: error handling, exit statuses, options."""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from mimo_convert.command.console import ALWAYS, AUTO, NEVER, NORMAL, QUIET, VERBOSE, Console
from mimo_convert.command.outcome import exit_with_status, want_debug
from mimo_convert.files import MB, check_can_write, read_text, write_whole
from mimo_convert.files import did_you_mean as did_you_mean_file
from mimo_convert.listener import listening
from mimo_convert.plan.mix import BITS_OPTION, SIZE_OPTION, Target, parse_bits, parse_target
from mimo_convert.plan.named_recipes import NAMED, NamedRecipe, list_of_recipes
from mimo_convert.plan.named_recipes import did_you_mean as did_you_mean_recipe
from mimo_convert.threads import MAX_THREADS, default_threads
from quantize.backends import BACKENDS
from quantize.errors import InputError
from quantize.recipes import Rule, parse_recipe, parse_rule
from quantize.types import TYPES, did_you_mean

from .paths import READS, WRITES, Writes, claim_parameters, streams

MOST_RECIPE_BYTES = MB
LIST = "list"  # the name that stands for all recipes


def handle_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command: errors become one line, files are claimed before it begins, what it says goes to a console,
    and it has the options about these."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        options = ConsoleOptions(*(kwargs.pop(name, None) for name in ConsoleOptions._fields))
        with exit_with_status(), results_to(options.results) as write, listening(console(context, options, write)):
            claim_parameters(context)
            check_can_write(options.results)
            return command(*args, **kwargs)

    for option in reversed(CONSOLE_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


class ConsoleOptions(NamedTuple):
    """What the options say about the console."""

    quiet: bool
    verbose: bool
    color: str
    results: Path | None


@contextmanager
def results_to(file: Path | None) -> Iterator[Callable[[str], object] | None]:
    """What results are given to that go to a file, which is written when the block ends; None if there is none."""
    if file is None:
        yield None
        return
    parts: list[str] = []
    try:
        yield parts.append
    finally:
        if parts:
            write_whole(file, "".join(f"{part}\n" for part in parts).encode())


def console(context: click.Context, options: ConsoleOptions, write: Callable[[str], object] | None) -> Console:
    """The console of a command, whose results make way for an output that is `-`. Raises InputError for a
    contradiction."""
    if options.quiet and options.verbose:
        raise InputError("--quiet", "and --verbose contradict each other", todo="give one of them")
    verbosity = QUIET if options.quiet else VERBOSE if options.verbose else NORMAL
    return Console(verbosity, options.color, to_stderr=bool(streams(context, Writes)), write=write)


results_option = click.option(
    "-o", "--output", "results", type=WRITES, metavar="FILE", help="Write what is printed to FILE.  [default: stdout]"
)

CONSOLE_OPTIONS = [
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings, errors and why a file failed."),
    click.option("-v", "--verbose", is_flag=True, help="Say more: every tensor, how long each phase took."),
    click.option(
        "--color", type=click.Choice((AUTO, ALWAYS, NEVER)), default=AUTO, metavar="WHEN",
        help="Colour verdicts: auto (on a terminal, unless NO_COLOR is set), always or never.",
    ),
    click.option(
        "--debug", is_flag=True, expose_value=False, callback=want_debug,
        help="Show the traceback of an internal error.",
    ),
]  # fmt: skip


def agreed(question: str) -> bool:
    """Whether the user agrees; where there is no terminal to ask at, they do."""
    return not sys.stdin.isatty() or click.confirm(question, default=True, err=True)


class Rules(NamedTuple):
    """What the options say about the types of single tensors: rules, a named recipe, and the file that rules came
    from."""

    rules: tuple[Rule, ...]
    recipe: NamedRecipe | None = None
    file: Path | None = None


def read_rules(tensor_types: Iterable[str], recipe: Path | None) -> Rules:
    """The rules of the command line, then those of a recipe: a file, or else its name. Raises InputError for an invalid
    rule, and for a recipe that is neither."""
    rules = [parse_rule(text, "--tensor-type") for text in tensor_types]
    if recipe is None:
        return Rules(tuple(rules))
    if found := named_recipe(recipe):
        return Rules(tuple(rules), found)
    expected = f"a text file of rules, or one of {' '.join(NAMED)}"
    text = read_text(recipe, MOST_RECIPE_BYTES, expected=expected, todo=recipe_meant(recipe), bom=True)
    return Rules((*rules, *parse_recipe(text, str(recipe))), file=recipe)


def named_recipe(recipe: Path) -> NamedRecipe | None:
    """The recipe of that name; None if it has none, or there is such a file."""
    return None if os.path.lexists(recipe) else NAMED.get(str(recipe).lower())


def recipe_meant(recipe: Path) -> str:
    """Which recipe, or file beside it, may have been meant by one that is not there; empty if no name is alike, and of
    a file that is."""
    if os.path.lexists(recipe):
        return ""
    return did_you_mean_recipe(str(recipe)) or did_you_mean_file(str(recipe))


def list_recipes(context: click.Context, _: click.Parameter, recipe: Path | None) -> Path | None:
    """Print the named recipes for `list`, unless it is a file, and exit."""
    if recipe is not None and str(recipe) == LIST and not os.path.lexists(recipe):
        click.echo(list_of_recipes())
        context.exit()
    return recipe


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--tensor-type` and `--recipe`, for `read_rules`."""
    of_one = click.option(
        "--tensor-type",
        "tensor_types",
        multiple=True,
        metavar="REGEX=TYPE",
        help="Type of the matrices in whose name REGEX is found; may repeat, the first that matches wins.",
    )
    of_file = click.option(
        "--recipe",
        type=READS,
        is_eager=True,
        callback=list_recipes,
        metavar="NAME_OR_FILE",
        help=f"A mix of types by name ({', '.join(NAMED)}; `{LIST}` tells what is in them), or a file of more such "
        "rules, one a line; those of --tensor-type come first.",
    )
    return of_one(of_file(command))


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--target-size`, `--target-bpw`, `--calibration` and `--floor`, for `read_target`."""
    size = click.option(
        "--target-size", metavar="SIZE",
        help="Choose a type for each tensor such that the file is no larger: 4.6GB, 900MiB; GB is 10⁹ bytes.",
    )  # fmt: skip
    bits = click.option(
        "--target-bpw", metavar="BITS", help="The same in bits per weight of the tensor data: 4.5.",
    )  # fmt: skip
    calibration = click.option(
        "--calibration", type=READS, metavar="FILE",
        help="What says how much the output depends on each tensor, of mimo-calibrate --sensitivity.",
    )  # fmt: skip
    floor = click.option(
        "--floor", "floors", multiple=True, metavar="REGEX=TYPE",
        help="The smallest type that may be chosen for the matrices in whose name REGEX is found; may repeat, the "
        "first that matches wins.  [default: q8_0 for an audio tower]",
    )  # fmt: skip
    return size(bits(calibration(floor(command))))


class Size(NamedTuple):
    """What the options say about the size of the file."""

    target: Target | None
    floors: tuple[Rule, ...] = ()


def read_target(target_size: str | None, target_bpw: str | None, floors: Iterable[str]) -> Size:
    """The target of the command line. Raises InputError for one that is malformed, and for two."""
    if target_size is not None and target_bpw is not None:
        raise InputError(SIZE_OPTION, f"and {BITS_OPTION} both say how large the file may be", todo="give one of them")
    rules = tuple(parse_rule(text, "--floor") for text in floors)
    if target_bpw is not None:
        return Size(parse_bits(target_bpw), rules)
    return Size(parse_target(target_size, SIZE_OPTION) if target_size is not None else None, rules)


class TypeName(click.Choice[str]):
    """The name of a type."""

    def __init__(self) -> None:
        super().__init__(list(TYPES), case_sensitive=False)

    def get_invalid_choice_message(self, value: str, ctx: click.Context | None) -> str:
        """click's message, and what may have been meant."""
        meant = did_you_mean(str(value))
        said = super().get_invalid_choice_message(value, ctx)
        return f"{said.rstrip('.')}; {meant}" if meant else said


TYPE_NAME = TypeName()

AUDIO_TOKENIZER = "audio_tokenizer"  # the role that --tokenizer is about
# Parts of a model, as Family.parts names them.
DECODER, SPEECH_GENERATION, OUTPUT_COPY = "decoder", "speech_generation", "output_copy"
PARTS = "decoder (of an audio tokenizer), speech-generation (of a MiMo model) or output-copy (of a Qwen3-ASR model)"


def part_named(ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> frozenset[str]:
    """The parts that an option names, as Family.parts has them."""
    return frozenset(name.strip().lower().replace("-", "_") for name in names)


with_option = click.option(
    "--with", "parts", multiple=True, metavar="PART", callback=part_named,
    help="Write a part that files of the model lack by default: of MiMo-V2.5-ASR, the decoder of its audio tokenizer.",
)  # fmt: skip


def parts_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--without`, `--asr-only` and `--no-output-copy`, for `skipped_parts`."""
    without = click.option(
        "--without", multiple=True, metavar="PART", callback=part_named, help=f"Leave out a part: {PARTS}; may repeat."
    )
    speech = click.option(
        "--asr-only", is_flag=True, help="Leave out what only speech generation needs, of a MiMo model: both its parts."
    )
    copy = click.option(
        "--no-output-copy",
        is_flag=True,
        help="Leave out the copy of the embedding that a tied head is written as, of a Qwen3-ASR model.",
    )
    return without(speech(copy(command)))


quantizer_option = click.option(
    "--quantizer",
    type=click.Choice(BACKENDS, case_sensitive=False),
    default=AUTO,
    show_default=True,
    help="What makes the blocks: our SIMD kernels (auto: where there are any) or ggml, which judges them.",
)

imatrix_option = click.option(
    "--imatrix",
    type=READS,
    metavar="FILE",
    help="Round by what the matrices are multiplied with: a file of mimo-calibrate, llama-imatrix or CrispASR.",
)

feedback_option = click.option(
    "--feedback",
    is_flag=True,
    help="Choose codes with error feedback, by the second moments beside --imatrix FILE (mimo-calibrate --hessian).",
)

threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), default=default_threads, show_default="all cores", help="Threads."
)


def skipped_parts(without: frozenset[str], asr_only: bool, no_output_copy: bool) -> frozenset[str]:
    """The parts that the options skip, by name."""
    chosen = {DECODER: asr_only, SPEECH_GENERATION: asr_only, OUTPUT_COPY: no_output_copy}
    return without | {part for part, is_set in chosen.items() if is_set}
