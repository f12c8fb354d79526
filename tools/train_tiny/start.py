"""How a trainer of tiny checkpoints begins: its folder, its seeds, its threads."""

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

SEED = 1961


def begin(what: str, folders: Sequence[str]) -> tuple[Path, random.Random]:
    """Read `--out`, and make its `folders` for `what` is trained; the generator of everything that is drawn.

    Exits if espeak-ng is missing.
    """
    parser = argparse.ArgumentParser(description=f"Train {what}.")
    parser.add_argument(
        "--out", type=Path, required=True, help=f"folder for {' and '.join(f'{one}/' for one in folders)}"
    )
    out: Path = parser.parse_args().out
    need_espeak()
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    for folder in folders:
        (out / folder).mkdir(parents=True, exist_ok=True)
    return out, random.Random(SEED)


def need_espeak() -> None:
    """Exit if espeak-ng is missing."""
    if not shutil.which("espeak-ng"):
        sys.exit("espeak-ng is not installed: it speaks the sentences to learn from (apt install espeak-ng)")
