"""Streaming: codes as they come → samples as soon as they are known.

`Redecoding` is what upstream publishes. `Cached` computes every position once, and equals decoding all codes at once if
it is given the statistics of both group norms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from runtime_check.audio.wave import Wave
from runtime_check.ggml.decoder import Attention, cache_of, places
from runtime_check.ggml.graph import LAYER_NORM_EPS, Graph, State, TensorPtr

from .harness import (
    PIECE_FRAMES,
    Codes,
    SpeechDecoder,
    check_codes,
    code_embeddings,
    code_inputs,
    decoder_block,
    vocoder,
)
from .stages import DEC_MEL, DEC_NORM, DEC_UP, VOC_SPEC

Rows = npt.NDArray[np.float32]  # (positions, width)
NO_SAMPLES: Wave = np.zeros(0, np.float32)


class Stream(Protocol):
    """Codes in, samples out. All samples together are as many as those of decoding all codes at once."""

    def push(self, codes: Codes, *, last: bool = False) -> Wave:
        """Append codes (n, Q): the samples that are known now, (m,) float32; with `last` all that are left."""


class Redecoding:
    """Streaming as published (github.com/XiaomiMiMo/MiMo-Audio, `streaming_decode`): each chunk is decoded with up to
    LEFT frames before it, and the last RIGHT frames wait for the next one.

    `decode` gives the samples of codes (T, Q), `hop` for each of them. The result is not that of decoding all codes at
    once: what is cut off at the left is missing, and both group norms see a chunk instead of the whole.
    """

    LEFT, RIGHT = 250, 40

    def __init__(self, decode: Callable[[Codes], Wave], hop: int) -> None:
        self.decode, self.hop = decode, hop
        self.codes: Codes | None = None
        self.done = 0  # of the codes that are held, those whose samples were given out

    def push(self, codes: Codes, *, last: bool = False) -> Wave:
        """Append codes (n, Q): the samples that are known now; with `last` all that are left."""
        held = codes if self.codes is None else np.concatenate([self.codes, codes])
        end = len(held) if last else max(0, len(held) - self.RIGHT)
        wave = self.decode(held)[self.hop * self.done : self.hop * end] if end > self.done else NO_SAMPLES
        self.done = end
        if end and len(held) > self.LEFT:
            self.done -= len(held) - self.LEFT
            held = held[-self.LEFT :]
        self.codes = held
        return wave


class Statistics(NamedTuple):
    """Mean and variance of what a group norm sees."""

    mean: float
    variance: float


@dataclass
class Running:
    """The statistics of all that was seen so far, unless they are `frozen`."""

    frozen: Statistics | None = None
    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def see(self, x: Rows) -> None:
        """Count values in."""
        wide = x.astype(np.float64)
        self.n, self.total, self.squares = self.n + x.size, self.total + wide.sum(), self.squares + (wide**2).sum()

    @property
    def statistics(self) -> Statistics:
        """Those to normalize with."""
        if self.frozen:
            return self.frozen
        mean = self.total / self.n
        return Statistics(mean, max(0.0, self.squares / self.n - mean**2))

    def normalize(self, x: Rows) -> Rows:
        """(x - mean) / √(variance + ε)."""
        mean, variance = self.statistics
        return np.asarray((x - mean) / np.sqrt(variance + LAYER_NORM_EPS), np.float32)


class Cached:
    """Streaming with a KV cache in the decoder's blocks; the vocoder is run anew on the mel frames that new samples
    depend on, and waits for those it looks ahead to (160 frames, 1.6 s).

    Pieces of PIECE_FRAMES are decoded each alone, as `SpeechDecoder.decode` does. Group norms use what was seen so far;
    with `up` and `mel`, the statistics of both over the whole (such as `statistics_of` gives), the samples are those
    of decoding all codes at once.
    """

    def __init__(
        self, decoder: SpeechDecoder, up: Statistics | None = None, mel: Statistics | None = None,
        piece_frames: int = PIECE_FRAMES,
    ) -> None:  # fmt: skip
        self.decoder, self.d, self.piece_frames = decoder, decoder.d, piece_frames
        self.frozen = up, mel
        names = [f"{c}{i}" for i in range(self.d.decoder_layers) for c in "kv"]
        heads = self.d.decoder_heads
        shape = heads, piece_frames * self.d.avg_pooler, self.d.d_model // heads
        self.state = State(decoder.backend, dict.fromkeys(names, shape))
        self._begin()

    def _begin(self) -> None:
        """Begin a piece."""
        self.up, self.mel = (Running(statistics) for statistics in self.frozen)
        self.n_past = 0  # positions of the decoder in the cache
        reach = -(-self.d.decoder_kernel_size // self.d.decoder_stride_size) - 1
        self.before: Rows = np.zeros((reach, self.d.d_model), np.float32)  # the last positions: their kernel reaches on
        self.frames: Rows = np.zeros((0, self.d.n_mels), np.float32)  # mel frames of the piece, not normalized
        self.overhang = self.frames  # those that later codes would add to, and are cut off behind the last ones
        self.done = 0  # samples of the piece that were given out

    def push(self, codes: Codes, *, last: bool = False) -> Wave:
        """Append codes (n, Q): the samples that are known now; with `last` all that are left."""
        check_codes(codes, self.d)
        waves = []
        while True:
            room = self.piece_frames - self.n_past // self.d.avg_pooler
            now, codes = codes[:room], codes[room:]
            if len(now):
                self.read(now)
            full = len(now) == room
            waves.append(self._samples(whole=full or (last and not len(codes))))
            if full:
                self._begin()
            if not len(codes):
                return np.concatenate(waves)

    def read(self, codes: Codes) -> None:
        """Append the mel frames of codes (n, Q)."""
        d, n = self.d, len(codes) * self.d.avg_pooler
        g = self._graph()
        embeddings = code_embeddings(g, *codes.shape)
        g.output(DEC_UP, g.transposed_convolution(embeddings, "dec.up.conv", stride=d.avg_pooler))
        rows = g.run(code_inputs(codes))[DEC_UP]
        self.up.see(rows)

        rows = np.concatenate([self.before, self._transform(self.up.normalize(rows))])
        g, stride, first = self._graph(), d.decoder_stride_size, len(self.before) * d.decoder_stride_size
        g.output(DEC_MEL, g.transposed_convolution(g.input(DEC_NORM, rows.shape), "dec.mel.conv", stride=stride))
        frames: Rows = g.run({DEC_NORM: rows})[DEC_MEL]
        self.before = rows[n:]
        new, self.overhang = np.split(frames[first:], [n * stride])
        self.mel.see(new)
        self.frames = np.concatenate([self.frames, new])

    def _transform(self, rows: Rows) -> Rows:
        """The decoder's blocks on new positions (n, d_model), normalized but for weight and bias, over the cache."""
        g, n = self._graph(), len(rows)
        n_kv = self.n_past + n

        def block(i: int, x: TensorPtr, positions: TensorPtr, attention: Attention) -> TensorPtr:
            return decoder_block(g, x, i, self.d, positions, attention)

        x = g.scale_and_shift(g.input(DEC_UP, rows.shape), "dec.up.norm")
        *_, x = cache_of(self.state, n_kv).attend(g, self.d.decoder_layers, x, block)
        g.output(DEC_NORM, g.layer_norm(x, "dec.norm"))
        out: Rows = g.run({DEC_UP: rows} | places(self.n_past, n, n_kv))[DEC_NORM]
        self.n_past = n_kv
        return out

    def _samples(self, *, whole: bool) -> Wave:
        """The samples after those that were given out; of the whole piece, or those that later codes do not change."""
        d, hop, n = self.d, self.d.hop_length, len(self.frames)
        if whole:
            self.mel.see(self.overhang)
        before, after = (reach * d.vocoder_layers if reach >= 0 else n for reach in d.vocoder_window)
        known = n if whole else n - after  # frames of the spectrum
        end = known * hop - (0 if whole else (d.nfft - hop) // 2)
        if end <= self.done:
            return NO_SAMPLES
        first = max(0, (self.done - d.nfft) // hop)  # frame of the spectrum that new samples depend on
        begin = max(0, first - before)
        mel = self.mel.normalize(self.frames[begin : n if whole else known + after])
        g = self._graph()
        x = g.scale_and_shift(g.input(DEC_MEL, mel.shape), "dec.mel.norm")
        g.output(VOC_SPEC, vocoder(g, x, d, lambda name, x: x))
        spectrum = g.run({DEC_MEL: mel})[VOC_SPEC][first - begin : known - begin]
        wave = self.decoder.samples(spectrum)[self.done - first * hop : end - first * hop]
        self.done = end
        return wave

    def _graph(self) -> Graph:
        return Graph(self.decoder.backend, self.decoder.weights, widen=True)


def statistics_of(decoder: SpeechDecoder, codes: Codes) -> tuple[Statistics, Statistics]:
    """The statistics of both group norms where all codes (T, Q) are decoded at once."""
    stream = Cached(decoder, piece_frames=len(codes))
    stream.read(codes)
    stream.mel.see(stream.overhang)
    return stream.up.statistics, stream.mel.statistics
