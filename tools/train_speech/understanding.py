"""Train decoder and vocoder until the pair's own recogniser understands what they say.

It recognises codes, of which many change on the way through a wave and back. So the transcript's cross-entropy is
taken back through the codes, by the straight-through estimator (Bengio et al. 2013): forward the nearest row of each
codebook, backward the softmax of the distances.
"""

import math
import random
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.mimo_audio import reference
from mimo_families.mimo_tokenizer.decoder.reference import WINDOW
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims
from tools.train_tiny.speech_lm import Prompts
from tools.train_tiny.weights import WEIGHT_NOISE, TinyWeights, optimize

from .clips import Said, in_groups
from .sound import HEARD_SHARE, WAVE_NOISE, Ear, difference, mel_of, pool_of, wave_of

# Steps, and the peak of the learning rate. What the two halves end with is averaged (Izmailov et al. 2018).
HALVES = (((800, 3e-4), (300, 1e-4), (200, 3e-5)), ((300, 2e-4), (200, 5e-5)))
UNDERSTOOD_SHARE = 1.0  # of the transcript in the loss
WORST = (2, 3)  # clips of each step of a half: those that were understood worst
MOST_SILENCE = 2  # groups that the speech LM may say behind a sentence
SOFTNESS = 0.1  # of the codes, relative to the mean square of what is quantized


class Recogniser(NamedTuple):
    """The speech LM that recognises, and the codebooks that it reads."""

    lm: dict[str, Tensor]
    codebooks: Sequence[Tensor]
    prompts: Prompts

    def cross_entropy(self, pool: Tensor, text: str) -> Tensor:
        """The transcript's cross-entropy, of what the encoder made of a wave, (T, d_model): the mean of its tokens, and
        that of the worst, which decides what all others follow."""
        w, d = TinyWeights(self.lm, WEIGHT_NOISE), self.prompts.d
        chosen, x = [], pool
        for rows in self.codebooks:
            scores = 2 * x @ rows.T - rows.square().sum(-1)
            soft = (scores / (SOFTNESS * pool.detach().square().sum(-1).mean())).softmax(-1)
            hard = F.one_hot(scores.argmax(-1), len(rows)).float()
            chosen.append(hard + soft - soft.detach())
            x = x - chosen[-1] @ rows
        codes = torch.stack([one.argmax(-1) for one in chosen], -1)
        ids, blocks = self.prompts.prompt(codes, "english")
        speech = ids == self.prompts.empty
        frames = torch.arange(int(speech.sum()) * d.group_size).clamp(max=len(codes) - 1)
        assert torch.equal(blocks[speech].flatten(0, 1), codes[frames]), "a prompt repeats the last frame"
        embeds = torch.stack([one @ w(f"speech_embeddings.{c}.weight")[: one.shape[1]] for c, one in enumerate(chosen)])
        audio = embeds.sum(0)[frames].unflatten(0, (-1, d.group_size))
        every = torch.ones(len(audio), dtype=torch.bool)
        for i in range(d.input_layers):
            audio = reference.input_local_block(audio, w, d, i)
        answer = torch.tensor(self.prompts.encode(f" {text}<|im_end|>"))
        text_ids = torch.cat([ids, answer[:-1]])
        of_text = torch.cat([~speech, torch.ones(len(answer) - 1, dtype=torch.bool)])
        inputs = reference.text_embeds(text_ids, ~of_text, w)
        inputs = inputs.index_put((~of_text,), reference.group_features(audio, every, w, d))
        _, hidden = reference.language_model(inputs, w, d)
        of_tokens = F.cross_entropy(F.linear(hidden[len(ids) - 1 :], w("lm_head.weight")), answer, reduction="none")
        return of_tokens.mean() + of_tokens.max()


def train_understood(
    clips: Sequence[Said], frozen: dict[str, Tensor], tensors: dict[str, Tensor], recogniser: Recogniser,
    d: AudioTokenizerDims, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Decoder and vocoder together: the losses of `train_voice`, and the transcript. Sentences are as the speech LM
    says them; JFK, the last clip, is as the audio tokenizer hears it. Each step has the clips that were understood
    worst, and another."""
    torch.manual_seed(seed)
    rng, ear = random.Random(seed), Ear(d)
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    w, hearing = TinyWeights(frozen | tensors, WAVE_NOISE), TinyWeights(frozen)
    n_spoken, group_size = len(recogniser.codebooks), recogniser.prompts.d.group_size
    worst = [math.inf] * len(clips)

    def loss_of(i: int) -> Tensor:
        clip, n_codebooks = clips[i], None
        if i < len(clips) - 1:
            clip, n_codebooks = in_groups(clip, group_size, rng.randint(0, MOST_SILENCE)), n_spoken
        wave = wave_of(mel_of(clip.codes[:, :n_codebooks], w, frozen, d), w, d)
        pool = pool_of(wave, hearing, d)
        with torch.no_grad():
            expected = pool_of(clip.wave, hearing, d)
        understood = recogniser.cross_entropy(pool, clip.text)
        worst[i] = understood.item()
        heard = HEARD_SHARE * F.mse_loss(pool, expected) + UNDERSTOOD_SHARE * understood
        return difference(ear(wave), ear(clip.wave)) + heard

    def loss(n_worst: int) -> Tensor:
        chosen = sorted(range(len(clips)), key=worst.__getitem__)[-n_worst:]
        return torch.stack([loss_of(i) for i in {*chosen, rng.randrange(len(clips))}]).mean()

    trained = [tensor for name, tensor in tensors.items() if name != WINDOW]
    ends = []
    for rounds, n_worst in zip(HALVES, WORST, strict=True):
        for steps, peak_rate in rounds:
            optimize(trained, steps, peak_rate, partial(loss, n_worst), "understanding")
        print("worst cross-entropies:", sorted((round(x, 2) for x in worst), reverse=True)[:8], flush=True)
        ends.append({name: tensor.detach().clone() for name, tensor in tensors.items()})
    return {name: torch.stack([end[name] for end in ends]).mean(0) for name in tensors}
