"""Writes a synthetic pair of checkpoints with random weights: `python -m benchmarks.generate FOLDER --size full`; with
`--speaks` one of MiMo-Audio-7B and the whole audio tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tests.synthetic import (
    MIMO_AUDIO_CONFIG,
    REAL_ASR_CONFIG,
    REAL_DECODER_CONFIG,
    REAL_TOKENIZER_CONFIG,
    write_audio_tokenizer,
    write_speech_lm,
)

# The real shapes and vocabulary; all of the layers, a quarter of them, or next to none.
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "quarter": {"num_hidden_layers": 9},
    "small": {"num_hidden_layers": 1, "vocab_size": 1280, "local_layers": 1, "input_local_layers": 1},
}
WHOLE_TOKENIZER = REAL_TOKENIZER_CONFIG | REAL_DECODER_CONFIG
TOKENIZER_SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "quarter": {"encoder_layers": 8, "decoder_layers": 8, "vocoder_num_layers": 4},
    "small": {"encoder_layers": 3, "decoder_layers": 1, "vocoder_num_layers": 1},
}
N_SHARDS = {"full": 4, "quarter": 2, "small": 2}


def generate_speaking(folder: Path, size: str) -> tuple[Path, Path]:
    """MiMo-Audio-7B in a folder of `folder` called as it is, and the whole audio tokenizer in `folder`/tokenizer."""
    config = REAL_ASR_CONFIG | MIMO_AUDIO_CONFIG | SIZES[size]
    lm = write_speech_lm(folder / "MiMo-Audio-7B-Instruct", n_shards=N_SHARDS[size], **config)
    return lm, write_audio_tokenizer(folder / "tokenizer", **(WHOLE_TOKENIZER | TOKENIZER_SIZES[size]))


def generate(folder: Path, size: str) -> tuple[Path, Path]:
    """The speech LM in `folder`/asr and its audio tokenizer in `folder`/tokenizer."""
    lm = write_speech_lm(folder / "asr", n_shards=N_SHARDS[size], **(REAL_ASR_CONFIG | SIZES[size]))
    return lm, write_audio_tokenizer(folder / "tokenizer", **REAL_TOKENIZER_CONFIG)


size_option = click.option("--size", type=click.Choice(list(SIZES)), default="full", show_default=True)


def pair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--size`, `--checkpoint` and `--folder` of the benchmarks that need a pair."""
    path = click.Path(path_type=Path)
    made = click.option("--checkpoint", type=path, help="A pair that benchmarks.generate made already.")
    where = click.option("--folder", type=path, help="Where to make everything.  [default: a temporary one]")
    return size_option(made(where(command)))


def pair(checkpoint: Path | None, folder: Path, size: str) -> tuple[Path, Path]:
    """The pair in `checkpoint`, which this module made, or else a new one in `folder`."""
    return (checkpoint / "asr", checkpoint / "tokenizer") if checkpoint else generate(folder, size)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@size_option
@click.option("--speaks", is_flag=True, help="MiMo-Audio-7B with the whole audio tokenizer.")
def main(folder: Path, size: str, speaks: bool) -> None:
    """Write the pair into FOLDER."""
    (generate_speaking if speaks else generate)(folder, size)


if __name__ == "__main__":
    main()
