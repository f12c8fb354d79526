"""mimo-check transcribe: the words of audio files, and nothing else. Parse, call, print."""

from collections.abc import Callable
from pathlib import Path

import click

from mimo_convert.files import STREAM, write_whole
from mimo_convert.terminal import put
from quantize.errors import InputError
from runtime_check import choices

from ..check_options import (
    attention_option,
    context_option,
    language_option,
    max_new_tokens_option,
    products_option,
    repack_option,
    runtime_option,
    tokenizer_option,
)
from ..console import AUDIO_TOKENIZER, handle_errors, threads_option
from ..paths import READS, WRITES, current_claims

IDLE = "10s"


class Seconds(click.ParamType[float]):
    """A time such as `10s` or `2.5`."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value.removesuffix("s")) if isinstance(value, str) else value
        except ValueError:
            seconds = 0
        if not 0 < seconds <= 1e6:
            self.fail(f"{value!r} is not a time; expected seconds, such as {IDLE}", param, ctx)
        return seconds


@click.command("transcribe", short_help="Print what is said, and nothing else.")
@click.argument("file", type=READS, metavar="FILE.gguf")
@tokenizer_option
@click.option(
    "--audio",
    type=READS,
    metavar="SOUND",
    multiple=True,
    required=True,
    help="An audio file, a folder of them, a manifest, or - for standard input; may repeat.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(choices.TRANSCRIPTS),
    default="text",
    show_default=True,
    help="text: a line a clip; srt: subtitles of one clip; json: an object a line, tsv: a line a piece.",
)
@click.option("-o", "--output", type=WRITES, metavar="FILE", default=STREAM, help="Write to FILE.  [default: stdout]")
@click.option("--follow", is_flag=True, help="Go on while the audio file grows; pieces have 30 s at most.")
@click.option("--idle", type=Seconds(), default=IDLE, show_default=True, help="A file that did not grow so long ended.")
@language_option
@context_option
@attention_option
@runtime_option
@max_new_tokens_option
@repack_option
@products_option
@threads_option
@handle_errors
def transcribe(
    file: Path, tokenizer: Path | None, audio: tuple[Path, ...], form: str, output: Path, follow: bool, idle: float,
    language: str | None, context: str, attention: str, runtime: str, max_new_tokens: int | None, repack: str,
    products: str, threads: int,
) -> None:  # fmt: skip
    """Print what FILE.gguf hears in audio files.

    Audio that the model's context cannot hold is cut in pauses. Times in srt, json and tsv are those of these pieces,
    not of words.

    Exit status: 0 transcribed; 2 bad input or usage; 3 internal error; 130 interrupted.
    """
    from mimo_api import TranscribeOptions  # late: --help needs none of it
    from mimo_api import transcribe as transcripts_of
    from runtime_check.report.transcripts import FORMATS, HEADS

    options = TranscribeOptions(
        file,
        audio,
        threads,
        companions={AUDIO_TOKENIZER: tokenizer},
        language=language,
        context=context,
        attention=attention,
        runtime=runtime,
        max_new_tokens=max_new_tokens,
        repack=repack,
        products=products,
        follow_idle=idle if follow else None,
    )
    transcripts = transcripts_of(options, claims=current_claims())
    if form == "srt" and len(transcripts) > 1:
        todo = "use --format tsv, or json"
        raise InputError("--format srt", f"is for one clip, found {len(transcripts)}", todo=todo)
    parts: list[str] = []
    write: Callable[[str], object] = put if output == STREAM else parts.append
    write(HEADS.get(form, ""))
    for transcript in transcripts:
        for text in FORMATS[form](transcript):
            write(text)
    if output != STREAM:
        write_whole(output, "".join(parts).encode())
