"""Print down to which noise the tiny hears, with and without its adapter: `python -m tools.train_tiny_qwen3.noise`.

JFK and the tests' sentences, with white noise of three seeds at each level.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from mimo_families.qwen3_asr.system import TINY
from runtime_check.audio.jfk import JFK, JFK_TEXT
from tools.train_tiny.files import read_weights
from tools.train_tiny.weights import TinyWeights

from .adapter import merged
from .speech import SILENCE
from .text import TAG, Prompts, read_text_tokenizer
from .transcribe import transcribe

CLIPS = Path(__file__).parents[2] / "tests" / "data" / "tiny_qwen3"
LEVELS = (15, 12, 10, 8, 6, 4, 2, 0, -3, -6, -9)  # dB of signal to noise
SEEDS = range(3)


def clips() -> Iterator[tuple[Tensor, str]]:
    """(samples,) and text."""
    entries = map(json.loads, (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    for path, text in [(JFK, JFK_TEXT), *((CLIPS / entry["audio"], entry["text"]) for entry in entries)]:
        yield torch.from_numpy(soundfile.read(path, dtype="float32")[0]), text


def noisy(wave: Tensor, level: float, seed: int) -> Tensor:
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(len(wave), np.float32))
    return (wave + noise * wave.pow(2).mean().sqrt() * 10 ** (-level / 20)).clamp(-1, 1)


def main() -> None:
    torch.set_num_threads(2)
    prompts, model = Prompts(read_text_tokenizer(TINY / "model")), read_weights(TINY / "model")
    adapted = merged(model, load_file(TINY / "noise" / "adapter_model.safetensors"))
    print("dB    model: right, none    with adapter: right, none    of")
    for level in LEVELS:
        heard = [(noisy(wave, level, seed), text) for wave, text in clips() for seed in SEEDS]
        counts = []
        for weights in (model, adapted):
            answers = [transcribe(wave, TinyWeights(weights), prompts) for wave, _ in heard]
            right = sum(answer.endswith(TAG + text) for answer, (_, text) in zip(answers, heard, strict=True))
            counts += [right, answers.count(f"language {SILENCE}{TAG}")]
        print(level, *counts, len(heard), sep="\t", flush=True)


if __name__ == "__main__":
    main()
