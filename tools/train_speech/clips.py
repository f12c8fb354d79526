"""What the tiny pair learns to say: forty sentences in one voice, and the JFK clip, with their codes."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.mimo_tokenizer import reference
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims
from runtime_check.pytorch.weights import Weights
from tools.train_tiny.speech import VOICES, Clip, espeak, jfk_clip
from tools.train_tiny.text import SENTENCES


@dataclass(frozen=True)
class Said:
    """A text, its wave (960 T,), padded to whole code frames, and its codes (T, codebooks)."""

    text: str
    wave: Tensor
    codes: Tensor


def said(clip: Clip, w: Weights, d: AudioTokenizerDims) -> Said:
    """A clip as the audio tokenizer hears it."""
    with torch.no_grad():
        codes = reference.residual_codes(
            reference.encoder(reference.log_mel(clip.spoken, d), w, d)["tok_pool"], w, d.num_quantizers
        )
    samples = round(len(codes) * d.sampling_rate / d.frames_per_second)
    return Said(clip.text, F.pad(clip.spoken, (0, max(0, samples - len(clip.spoken))))[:samples], codes)


def every_clip(w: Weights, d: AudioTokenizerDims) -> list[Said]:
    """The sentences in the first voice that the tiny pair knows, then JFK."""
    clips = [*(espeak(sentence, *VOICES[0]) for sentence in sentences()), jfk_clip()]
    return [said(clip, w, d) for clip in clips]


def in_groups(clip: Said, group_size: int, more: int = 0) -> Said:
    """A clip as the speech LM says it: the last group is filled up with its last codes, and the wave with silence; so
    are `more` groups behind it."""
    missing, samples = -len(clip.codes) % group_size + more * group_size, len(clip.wave) // len(clip.codes)
    codes = torch.cat([clip.codes, clip.codes[-1:].expand(missing, -1)])
    return Said(clip.text, F.pad(clip.wave, (0, missing * samples)), codes)


def sentences(path: Path = SENTENCES) -> list[str]:
    """The forty sentences."""
    return path.read_text(encoding="utf-8").splitlines()
