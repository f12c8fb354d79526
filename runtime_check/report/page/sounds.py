"""Waves on the page: a player and a spectrogram each, as data within it, so that nothing is loaded from elsewhere."""

import base64
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime_check.audio.wave import Sound, Wave
from runtime_check.audio.write import encoded

MOST_SECONDS = 20  # of a wave, that a page has; the rest is left out
MOST_BYTES = 2_500_000  # of all waves of a page together
COLUMNS, ROWS = 640, 128  # of a spectrogram at most, and exactly
NFFT = 512
RANGE_DB = 80.0  # below a sine of full scale: what is softer is drawn as silence
PALETTE = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # from silence to full scale


class SoundView(NamedTuple):
    """A wave as the page shows it: `audio` and `image` are data URLs, empty where there is no room left for them."""

    title: str
    seconds: float
    shown: float
    rate: int
    audio: str
    image: str


def views(sounds: Iterable[Sound], room: int) -> tuple[list[SoundView], int]:
    """The views of waves that are heard together, and the bytes of `room` that are left; none of them has data if not
    all have room."""
    found = list(map(view, sounds))
    needed = sum(len(one.audio) + len(one.image) for one in found)
    if needed <= room:
        return found, room - needed
    return [one._replace(audio="", image="") for one in found], room


def view(sound: Sound) -> SoundView:
    """The view of a wave: its first MOST_SECONDS."""
    wave = sound.wave[: MOST_SECONDS * sound.rate]
    audio = encoded(wave, sound.rate, "MP3", "MPEG_LAYER_III")
    return SoundView(
        sound.title, len(sound.wave) / sound.rate, len(wave) / sound.rate, sound.rate, data_url("audio/mpeg", audio),
        data_url("image/png", png(spectrogram(wave))),
    )  # fmt: skip


def data_url(kind: str, data: bytes) -> str:
    """Data as a URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def spectrogram(wave: Wave) -> npt.NDArray[np.uint8]:
    """The levels of a wave, (ROWS, columns), high frequencies first: 0 is RANGE_DB below a sine of full scale, 255 that
    sine. It does not depend on the wave's own loudness, so that two waves can be compared."""
    padded = np.pad(wave, (NFFT // 2, NFFT))
    n = max(1, min(COLUMNS, 1 + len(wave) // (NFFT // 4)))
    starts = np.linspace(0, len(wave), n).astype(int)
    window = np.hanning(NFFT)
    frames = np.lib.stride_tricks.sliding_window_view(padded, NFFT)[starts]
    power = np.abs(np.fft.rfft(frames * window))[:, 1:] ** 2  # (columns, NFFT / 2), without 0 Hz
    rows = power.reshape(n, ROWS, -1).mean(axis=-1) / (window.sum() / 2) ** 2
    level = 10 * np.log10(np.maximum(rows, 1e-12))
    return np.asarray(np.clip((level / RANGE_DB + 1) * 255, 0, 255).round(), np.uint8).T[::-1]


def png(levels: npt.NDArray[np.uint8]) -> bytes:
    """An image of levels, (rows, columns) from 0 to 255, in the colours of PALETTE, as PNG (ISO/IEC 15948)."""
    stops = np.linspace(0, 255, len(PALETTE))
    channels = np.array(PALETTE).T
    colours: Any = np.stack([np.interp(np.arange(256), stops, channel) for channel in channels], axis=1)
    height, width = levels.shape
    lines = np.pad(levels, ((0, 0), (1, 0)))  # each begins with the number of its filter, none

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, indices into a palette
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"PLTE", colours.round().astype(np.uint8).tobytes()),
            chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            chunk(b"IEND", b""),
        ]
    )
