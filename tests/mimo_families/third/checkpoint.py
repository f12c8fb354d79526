"""A checkpoint of the family in `tests/murmur`, trained in seconds to name two sounds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch.nn.functional import cross_entropy

from mimo_convert.formats.config import Config
from mimo_convert.model.checkpoint import open_checkpoint
from runtime_check.audio.wave import Wave
from runtime_check.run.activations import RESPONSE_LOGITS
from runtime_check.text.tokenizer import TextTokenizer
from tests.murmur.front_end import RATE, frames_of, tokens_of
from tests.murmur.layout import SPECIAL, TEXT, Dims, dimensions, tensors
from tests.murmur.reference import forward

CONFIG: dict[str, Any] = {
    "architectures": ["MurmurForSpeechRecognition"], "tie_word_embeddings": True, "vocab_size": 288, "width": 256,
    "n_blocks": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "ffn": 512, "context": 1024, "n_bands": 32,
    "stacked": 8, "theta": 10000.0, "eps": 1e-6,
}  # fmt: skip
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("o", "u"), ("ou", "r"), ("e", "r")]
SAID = {"hum": "a low hum", "hiss": "the hiss of rain"}  # sound: what the recogniser makes of it
STEPS = 40


class Weights(dict[str, torch.Tensor]):
    """Parameters of the reference, by their names in the checkpoint."""

    def __call__(self, name: str) -> torch.Tensor:
        return self[name]

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        return self[name][ids]


def sounds() -> dict[str, Wave]:
    """A hum that swells, and a hiss: each of two seconds."""
    t = np.arange(2 * RATE) / RATE
    hum = 0.15 * np.sin(2 * np.pi * 220 * t) * (1 + np.sin(2 * np.pi * 3 * t))
    hiss = 0.1 * np.random.default_rng(1).standard_normal(len(t))
    return {"hum": hum.astype(np.float32), "hiss": hiss.astype(np.float32)}


def write_checkpoint(folder: Path) -> None:
    """Config, tokenizer and weights, in one safetensors file; beside them the sounds, as WAV files."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder)
    torch.manual_seed(3)
    d = dimensions(Config(folder, CONFIG))
    weights = Weights((s.name, initial(s.name, s.shape)) for tensor in tensors(d) for s in tensor.sources)
    save_file(weights, folder / "model.safetensors")
    train(weights, d, TextTokenizer.from_checkpoint(open_checkpoint(str(folder)), d.vocab_size, TEXT))
    save_file(weights, folder / "model.safetensors")
    for name, wave in sounds().items():
        soundfile.write(folder / f"{name}.wav", wave, RATE)


def train(w: Weights, d: Dims, text: TextTokenizer) -> None:
    """Change the weights until the reference says what `SAID` tells of each sound."""
    torch.set_num_threads(1)  # matrices are too small for more
    for parameter in w.values():
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(w.values(), lr=2e-3)
    for _ in range(STEPS):
        for sound, wave in sounds().items():
            frames, response = frames_of(wave, RATE, d), text.response(SAID[sound])
            prompt = torch.from_numpy(tokens_of(len(frames), text.encode, d, "auto")).long()[0]
            stages = forward(w, d, text, prompt, torch.from_numpy(frames), response)  # type: ignore[arg-type]
            cross_entropy(stages[RESPONSE_LOGITS], torch.tensor(response)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for parameter in w.values():
        parameter.requires_grad_(False)


def initial(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.full(shape, float(not name.endswith("bias")))
    return torch.randn(shape) * shape[-1] ** -0.5


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json: every byte, a few merges, the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: i for i, text in enumerate([*letters, *("".join(pair) for pair in MERGES)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<s>"}))
