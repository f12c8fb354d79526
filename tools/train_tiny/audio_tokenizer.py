"""Train the audio tokenizer: letters by CTC, codebooks by k-means, distance from the borders of cells."""

import random

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.family import Layout
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from mimo_families.mimo_tokenizer import reference
from mimo_families.mimo_tokenizer.decoder_layout import DECODER
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims

from .speech import Clip, augmented_mels, pick_batch
from .weights import WEIGHT_NOISE, TinyWeights, initial_weights, optimize, rounded

ENCODER = Layout(without=frozenset({DECODER}))  # tools/train_speech trains the rest
ENCODER_STEPS = 400
CODEBOOK_STEPS = 600
K_MEANS_STEPS = 15
MEL_SHARE = 0.2  # of the loss, beside CTC
BORDER = 0.5  # the distance that frames shall keep from the borders of their codebook cell
EVENNESS = 0.05  # weight of the entropy of a codebook's use: without it the deep levels stop telling frames apart
COMMITMENT = 1.0  # weight of what the codes leave of a frame
LETTERS = " abcdefghijklmnopqrstuvwxyz'"  # CTC classes 1 …; 0 is the blank


def codebook(level: int) -> str:
    return f"encoder.quantizer.vq.layers.{level}._codebook.embed"


def train_audio_tokenizer(
    clips: list[Clip], d: AudioTokenizerDims, channels: int, rng: random.Random
) -> dict[str, Tensor]:
    """The encoder and its codebooks. The heads that teach it (letters, mel spectrogram) are thrown away."""
    tensors = initial_weights(mimo_tokenizer.FAMILY.tensors(d, ENCODER))
    weights, noisy_weights = TinyWeights(tensors), TinyWeights(tensors, WEIGHT_NOISE)
    to_letters = torch.nn.Linear(d.d_model, 1 + len(LETTERS))
    to_mel = torch.nn.Linear(d.d_model, d.stride_size * d.avg_pooler * d.n_mels)
    heads = [*to_letters.parameters(), *to_mel.parameters()]
    parameters = [tensor for name, tensor in tensors.items() if "_codebook" not in name] + heads

    def content_loss(pool: Tensor, batch: list[Clip], clean_mel: Tensor) -> Tensor:
        """pool (batch, T, d_model): the letters spoken, and the mel spectrogram without the noise."""
        letters = [torch.tensor([1 + LETTERS.index(c) for c in clip.text.lower() if c in LETTERS]) for clip in batch]
        log_probs = to_letters(pool).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(batch),), pool.shape[1])
        target_lengths = torch.tensor([len(target) for target in letters])
        ctc = F.ctc_loss(log_probs, torch.cat(letters), lengths, target_lengths, zero_infinity=True)
        mel = to_mel(pool).reshape(len(batch), -1, d.n_mels)[:, : clean_mel.shape[1]]
        return ctc + MEL_SHARE * F.l1_loss(mel, clean_mel[:, : mel.shape[1]])

    def encode() -> Tensor:
        batch = pick_batch(clips, rng)
        mel, clean_mel = augmented_mels(batch, d, rng)
        return content_loss(reference.encoder(mel, noisy_weights, d)["tok_pool"], batch, clean_mel)

    def encode_to_codes() -> Tensor:
        batch = pick_batch(clips, rng)
        mel, clean_mel = augmented_mels(batch, d, rng)
        with torch.no_grad():
            codes = reference.residual_codes(reference.encoder(mel, weights, d)["tok_pool"], weights, channels)
        pool = reference.encoder(mel, noisy_weights, d)["tok_pool"]
        borders, rest = border_loss(pool, codes, weights)
        quantized = pool - rest.detach()  # the sum of the codebook rows; gradients pass to pool
        return content_loss(quantized, batch, clean_mel) + borders

    optimize(parameters, ENCODER_STEPS, 1e-3, encode, "encoder")
    fit_codebooks(tensors, range(channels), clips, d, rng)
    codebooks = [tensors[codebook(level)] for level in range(channels)]
    optimize(parameters + codebooks, CODEBOOK_STEPS, 7e-4, encode_to_codes, "codes")
    fit_codebooks(tensors, range(channels, d.num_quantizers), clips, d, rng)
    return rounded(tensors)


def border_loss(pool: Tensor, codes: Tensor, w: TinyWeights) -> tuple[Tensor, Tensor]:
    """How much closer than BORDER frames come to the borders of the codebook cells they shall lie in, and how unevenly
    they share the cells.

    pool (batch, T, d_model), codes (batch, T, levels) → the loss, and what the codes leave of pool.
    """
    loss, rest, n_codebooks = torch.zeros(()), pool, codes.shape[-1]
    for level in range(n_codebooks):
        rows, code = w(codebook(level)), codes[..., level]
        distances = torch.cdist(rows, rows).detach()
        score = 2 * rest @ rows.T - rows.pow(2).sum(-1)  # (batch, T, codebook size)
        own = F.one_hot(code, len(rows)).bool()
        border = (score.gather(-1, code[..., None]) - score) / (2 * distances[code] + own)  # to each half-space
        short = F.relu(1 - border.masked_fill(own, torch.inf).amin(-1) / BORDER).mean()
        loss = loss + 2 * (1 - level / n_codebooks) * short  # a wrong code spoils all after it
        share = (5 * score / (BORDER * distances.mean())).softmax(-1).mean((0, 1))  # of each cell, nearly hard
        loss = loss + EVENNESS * (share * share.clamp(min=1e-9).log()).sum()
        rest = rest - F.embedding(code, rows)
    return loss + COMMITMENT * rest.pow(2).mean(), rest


def fit_codebooks(
    tensors: dict[str, Tensor], levels: range, clips: list[Clip], d: AudioTokenizerDims, rng: random.Random
) -> None:
    """k-means of what the levels before leave of tok_pool, one of `levels` after the other."""
    weights = TinyWeights(tensors)
    with torch.no_grad():
        mels = [augmented_mels([clip], d, rng)[0] for clip in [*clips * 3, *clips[-1:] * 20]]
        rest = torch.cat([reference.encoder(mel, weights, d)["tok_pool"][0] for mel in mels])  # (frames, d_model)
        for level in range(levels.stop):
            if level in levels:
                tensors[codebook(level)] = k_means(rest, d.codebook_size[level]).to(torch.bfloat16).float()
            rest = rest - tensors[codebook(level)][nearest(rest, tensors[codebook(level)])]


def nearest(x: Tensor, rows: Tensor) -> Tensor:
    """x (n, columns) → the index of the nearest row for each, (n,)."""
    return (2 * x @ rows.T - rows.pow(2).sum(-1)).argmax(-1)


def k_means(x: Tensor, size: int) -> Tensor:
    """x (n, columns) → (size, columns); a row that no point is nearest to starts again at some point."""
    rows = x[torch.randperm(len(x))[:size]].clone()
    for _ in range(K_MEANS_STEPS):
        code = nearest(x, rows)
        counts = torch.bincount(code, minlength=size)
        rows = torch.zeros_like(rows).index_add_(0, code, x) / counts.clamp(min=1)[:, None]
        empty = counts == 0
        rows[empty] = x[torch.randint(len(x), (int(empty.sum()),))]
    return rows
