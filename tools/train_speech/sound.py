"""Train the audio tokenizer's decoder and vocoder on its frozen encoder and codebooks.

The decoder learns the log-mel spectrogram of codes, the vocoder waves of true spectrograms, each on its own; then both
learn together to make waves that sound, and that the encoder hears, as the clips do.
"""

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.mimo_tokenizer import reference
from mimo_families.mimo_tokenizer.decoder.reference import WINDOW, code_embeddings, decoder, inverse_stft, vocoder
from mimo_families.mimo_tokenizer.decoder.stages import DEC_MEL, VOC_SPEC
from mimo_families.mimo_tokenizer.decoder_layout import decoder_tensors
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims
from tools.train_tiny.weights import TinyWeights, initial_weights, optimize

from .clips import Said

MEL_STEPS, WAVE_STEPS, VOICE_STEPS = 500, 500, 750
HEARD_SHARE = 6.0  # in the loss, of what the encoder makes of waves, beside how they sound
WEIGHT_NOISE, WAVE_NOISE = 0.02, 0.005  # of the decoder's and the vocoder's matrices, relative to a row
CROP = 120  # mel frames that the vocoder learns from at once
FLOOR = 3e-3  # of magnitudes whose logarithm is compared: -60 dB below speech
RECOGNITION_CODEBOOKS = 8
RESOLUTIONS = ((960, 240), (480, 120))  # window and hop of the spectra that are compared
LOUDNESS = -1.0  # the head's first log-magnitude
DELAYS = (20.0, 100.0)  # samples by which a unit of the head's first two inputs delays a frame
VOCODER = "decoder.vocoder."
HEAD = f"{VOCODER}head.out."

Spectra = list[Tensor]


class Ear:
    """The spectra by which two waves are compared."""

    def __init__(self, d: AudioTokenizerDims) -> None:
        self.filters = reference.mel_filters(d)
        self.windows = [torch.hann_window(size) for size, _ in RESOLUTIONS]

    def __call__(self, wave: Tensor) -> Spectra:
        """(…, samples) → the log-mel spectrum, and log spectra of all RESOLUTIONS."""
        spectra = []
        for (size, hop), window in zip(RESOLUTIONS, self.windows, strict=True):
            parts = torch.view_as_real(torch.stft(wave, size, hop, size, window, return_complex=True))
            magnitude = (parts.square().sum(-1) + 1e-9).sqrt().transpose(-1, -2)
            spectra.append((magnitude + FLOOR * size / RESOLUTIONS[0][0]).log())
            if len(spectra) == 1:
                spectra.insert(0, (magnitude @ self.filters + FLOOR).log())
        return spectra


def difference(ours: Spectra, theirs: Spectra) -> Tensor:
    """The mean absolute difference of spectra; that of log-mel counts most."""
    weights = (2.0, *[0.5] * len(RESOLUTIONS))
    return sum(
        (weight * F.l1_loss(a, b) for weight, a, b in zip(weights, ours, theirs, strict=True)), start=torch.zeros(())
    )


class Mels:
    """The log-mel spectrograms of clips, (4 T, n_mels), of mean 0 and deviation 1 over all of them."""

    def __init__(self, clips: Sequence[Said], d: AudioTokenizerDims) -> None:
        ratio = d.stride_size * d.avg_pooler
        mels = [(reference.log_mel(clip.wave, d).exp() + FLOOR).log()[: ratio * len(clip.codes)] for clip in clips]
        whole = torch.cat(mels)
        self.all = [(mel - whole.mean()) / whole.std() for mel in mels]


def initial_decoder(d: AudioTokenizerDims) -> dict[str, Tensor]:
    """Decoder and vocoder before training.

    The head's phases put a pulse into the middle of each frame, and its first two inputs can move it: phase is the sum
    of π k for the middle, and 2 π k delay / nfft, for bin k. So the vocoder begins as a buzz at the frame rate.
    """
    tensors = initial_weights(one for one in decoder_tensors(d) if one.name != "voc.window")
    bins = torch.arange(d.nfft // 2 + 1, dtype=torch.float32)
    head, bias = tensors[f"{HEAD}weight"], tensors[f"{HEAD}bias"]
    head *= 0.3
    for column, delay in enumerate(DELAYS):
        head[len(bins) :, column] = 2 * math.pi * bins / d.nfft * delay
    bias[: len(bins)], bias[len(bins) :] = LOUDNESS, bins % 2 * math.pi
    return tensors | {WINDOW: torch.hann_window(d.nfft)}


def pick(clips: Sequence[Said], n: int, rng: random.Random) -> list[int]:
    """`n` sentences, or JFK, the last clip, alone."""
    return [len(clips) - 1] if rng.random() < 1 / 6 else rng.sample(range(len(clips) - 1), n)


def heard_codes(codes: Tensor, rng: random.Random) -> Tensor:
    """Codes (T, codebooks) of the codebooks that recognition uses, at times of all; a few are wrong."""
    codes = codes[:, : RECOGNITION_CODEBOOKS if rng.random() < 3 / 4 else None]
    wrong = torch.rand(codes.shape) < rng.uniform(0, 0.1)
    wrong[:, 0] = False
    return torch.where(wrong, torch.randint(128, codes.shape), codes)


def train_mel(clips: Sequence[Said], frozen: dict[str, Tensor], d: AudioTokenizerDims, seed: int) -> dict[str, Tensor]:
    """The decoder, by the mel spectrograms of the clips' codes."""
    torch.manual_seed(seed)
    rng, mels = random.Random(seed), Mels(clips, d).all
    tensors = {name: tensor for name, tensor in initial_decoder(d).items() if not name.startswith(VOCODER)}
    w = TinyWeights(frozen | tensors, WEIGHT_NOISE)

    def loss() -> Tensor:
        picked = pick(clips, 4, rng)
        found = [mel_of(heard_codes(clips[i].codes, rng), w, frozen, d) for i in picked]
        return torch.stack([F.l1_loss(mel, mels[i]) for mel, i in zip(found, picked, strict=True)]).mean()

    optimize(list(tensors.values()), MEL_STEPS, 1e-3, loss, "decoder")
    return tensors


def mel_of(codes: Tensor, w: TinyWeights, frozen: dict[str, Tensor], d: AudioTokenizerDims) -> Tensor:
    """Codes (T, codebooks) → mel frames (4 T, n_mels)."""
    return decoder(code_embeddings(codes, TinyWeights(frozen)), w, d)[DEC_MEL]


def train_wave(clips: Sequence[Said], d: AudioTokenizerDims, seed: int) -> dict[str, Tensor]:
    """The vocoder, by crops of the clips and their true mel spectrograms."""
    torch.manual_seed(seed)
    rng, ear, mels = random.Random(seed), Ear(d), Mels(clips, d).all
    tensors = {name: tensor for name, tensor in initial_decoder(d).items() if name.startswith(VOCODER)}
    w = TinyWeights(tensors, WAVE_NOISE)
    lengths = [len(mel) for mel in mels]

    def loss() -> Tensor:
        picked = [(i, rng.randrange(lengths[i] - CROP)) for i in rng.choices(range(len(clips)), lengths, k=4)]
        mel = torch.stack([mels[i][first : first + CROP] for i, first in picked])
        waves = [clips[i].wave[d.hop_length * first :][: d.hop_length * CROP] for i, first in picked]
        wave = wave_of(mel + 0.1 * rng.random() * torch.randn_like(mel), w, d)
        return difference(ear(wave), ear(torch.stack(waves)))

    trained = [tensor for name, tensor in tensors.items() if name != WINDOW]
    optimize(trained, WAVE_STEPS, 7e-4, loss, "vocoder")
    return tensors


def wave_of(mel: Tensor, w: TinyWeights, d: AudioTokenizerDims) -> Tensor:
    """Mel frames (…, T, n_mels) → (…, hop_length T) samples."""
    return inverse_stft(vocoder(mel, w, d)[VOC_SPEC], w(WINDOW), d.hop_length)


def train_voice(
    clips: Sequence[Said], frozen: dict[str, Tensor], tensors: dict[str, Tensor], d: AudioTokenizerDims, seed: int
) -> dict[str, Tensor]:
    """Decoder and vocoder together, by spectra of the clips and by what the frozen encoder makes of their waves."""
    torch.manual_seed(seed)
    rng, ear = random.Random(seed), Ear(d)
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    w, hearing = TinyWeights(frozen | tensors, WAVE_NOISE), TinyWeights(frozen)
    with torch.no_grad():
        spectra = [ear(clip.wave) for clip in clips]
        pools = [pool_of(clip.wave, hearing, d) for clip in clips]

    def loss() -> Tensor:
        losses = []
        for i in pick(clips, 3, rng):
            wave = wave_of(mel_of(heard_codes(clips[i].codes, rng), w, frozen, d), w, d)
            losses.append(
                difference(ear(wave), spectra[i]) + HEARD_SHARE * F.mse_loss(pool_of(wave, hearing, d), pools[i])
            )
        return torch.stack(losses).mean()

    trained = [tensor for name, tensor in tensors.items() if name != WINDOW]
    optimize(trained, VOICE_STEPS, 4e-4, loss, "decoder and vocoder")
    return tensors


def pool_of(wave: Tensor, w: TinyWeights, d: AudioTokenizerDims) -> Tensor:
    """What the encoder makes of a wave before it is quantized: (samples,) → (T, d_model)."""
    return reference.encoder(reference.log_mel(wave, d), w, d)["tok_pool"]
