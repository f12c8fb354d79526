"""Train the model: letters by CTC for the audio tower, then the responses to the prompts."""

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.pytorch.weights import Weights
from tools.train_tiny.weights import WEIGHT_NOISE, TinyWeights, optimize, rounded

from .configs import AUDIO
from .model import EMBEDDING, decode, encode, log_mel, shapes
from .speech import Clip, Speech
from .text import Prompts

TOWER_STEPS, STEPS = 400, 800
CTC_SHARE = 0.3  # of the loss, beside the responses
CONV_GAIN = 2
SLOTS = 3  # places for letters that an audio token has
LETTERS = " abcdefghijklmnopqrstuvwxyzäöüß'"  # CTC classes 1 …; 0 is the blank
CONTEXTS = ("", "", "", "", "", "", "", "The library", "Berlin", "a conversation")  # of which one is in the prompt


class Letters(torch.nn.Module):
    """What teaches the audio tower its features, and is thrown away: letters by CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(AUDIO["d_model"], SLOTS * (1 + len(LETTERS)))

    def loss(self, features: list[Tensor], clips: Sequence[Clip]) -> Tensor:
        """features (A, d_model) of each clip."""
        spoken = [torch.tensor([1 + LETTERS.index(c) for c in clip.text.lower() if c in LETTERS]) for clip in clips]
        rows = [self.head(x).reshape(-1, 1 + len(LETTERS)) for x in features]
        log_probs = torch.nn.utils.rnn.pad_sequence(rows).log_softmax(-1)
        lengths, target_lengths = (torch.tensor([len(x) for x in side]) for side in (rows, spoken))
        return F.ctc_loss(log_probs, torch.cat(spoken).long(), lengths, target_lengths, zero_infinity=True)


def initial_weights() -> dict[str, Tensor]:
    """Norms are 1, biases small, the rest as wide as its fan-in allows: the convolutions so that GELU loses nothing."""
    tensors = {}
    for name, shape in shapes().items():
        if name.endswith(".bias"):
            tensors[name] = 0.01 * torch.randn(shape)
        elif len(shape) == 1:
            tensors[name] = torch.ones(shape)
        else:
            gain = CONV_GAIN if len(shape) == 4 else 1
            tensors[name] = gain * torch.randn(shape) / math.prod(shape[1:]) ** 0.5
    return tensors


def train(speech: Speech, prompts: Prompts, rng: random.Random) -> dict[str, Tensor]:
    tensors, letters = initial_weights(), Letters()
    weights = TinyWeights(tensors, WEIGHT_NOISE)
    heads = list(letters.parameters())

    def hear() -> Tensor:
        clips = speech.batch()
        features, _ = encode([log_mel(clip.wave) for clip in clips], weights)
        return letters.loss(features, clips)

    def answer() -> Tensor:
        clips = speech.batch()
        features, rows = encode([log_mel(clip.wave) for clip in clips], weights)
        return response_loss(clips, rows, weights, prompts, rng) + CTC_SHARE * letters.loss(features, clips)

    tower = [tensor for name, tensor in tensors.items() if "audio_tower" in name]
    optimize(tower + heads, TOWER_STEPS, 1e-3, hear, "audio tower")
    optimize([*tensors.values(), *heads], STEPS, 1.5e-3, answer, "model")
    return rounded(tensors)


def response_loss(
    clips: Sequence[Clip], audio: list[Tensor], w: Weights, prompts: Prompts, rng: random.Random,
    hears_drowned: bool = False,
) -> Tensor:  # fmt: skip
    """Cross entropy of each clip's response. audio: (A, hidden_size) of each clip."""
    inputs, labels = [], []
    for clip, rows in zip(clips, audio, strict=True):
        text, language = clip.answer(hears_drowned)
        forced = bool(text) and rng.random() < 0.3
        prompt = prompts.prompt(len(rows), rng.choice(CONTEXTS), language if forced else "")
        follow = prompts.response(text, language, forced)
        inputs.append(input_embeds([*prompt, *follow[:-1]], rows, w, prompts.pad))
        labels.append(torch.tensor([-100] * (len(prompt) - 1) + follow))
    x = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)
    expected = torch.nn.utils.rnn.pad_sequence(labels, True, -100)
    asked = expected != -100
    return F.cross_entropy(F.linear(decode(x, w)[asked], w(EMBEDDING)), expected[asked])


def input_embeds(ids: list[int], audio: Tensor, w: Weights, pad: int) -> Tensor:
    """Token ids (T,) and audio rows (A, hidden_size), which stand at the `pad` ids → (T, hidden_size)."""
    tokens = torch.tensor(ids)
    x = w.rows(EMBEDDING, tokens)
    return x.masked_scatter((tokens == pad)[:, None], audio)
