"""Resampling in PyTorch; its numpy counterpart is `runtime_check/audio/wave.py`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from quantize.errors import InputError

LARGEST_KERNEL = 10_000_000  # of the resampler, in taps


def resample(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample (samples,) at `rate` to (ceil(samples × new_rate / rate),), by a windowed sinc.

    Source: torchaudio.functional.resample with its defaults: sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99.
    The kernel holds every phase of the ratio: raises InputError for rates with almost no common divisor, such as 44101
    and 24000.
    """
    if rate == new_rate:
        return wave
    length = math.ceil(len(wave) * new_rate / rate)
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    if old * new > LARGEST_KERNEL:
        raise InputError(
            "audio", f"has a sampling rate of {rate} Hz", expected="a common sampling rate", todo="resample it to 16000"
        )
    cutoff, zeros = min(old, new) * 0.99, 6
    width = math.ceil(zeros * old / cutoff)
    taps = torch.arange(-width, width + old, dtype=torch.float64) / old  # (2 width + old,)
    t = (torch.arange(0, -new, -1, dtype=torch.float64)[:, None] / new + taps) * cutoff
    t = t.clamp(-zeros, zeros)
    window = torch.cos(t * math.pi / zeros / 2) ** 2
    kernel = (torch.sinc(t) * window * cutoff / old).float()  # (new, 2 width + old)
    padded = F.pad(wave, (width, width + old))
    phases = F.conv1d(padded[None, None], kernel[:, None], stride=old)[0]  # (new, blocks)
    return phases.T.reshape(-1)[:length]
