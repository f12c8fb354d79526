"""Sound → text by the files under test, with every stage and the time each phase took."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError

from . import audio
from .activations import Activations, Origin, Stages
from .audio_tokenizer import AudioTokenizer
from .graph import Backend
from .prompt import build_prompt, check_room
from .speech_lm import Context, SpeechLM

DEFAULT_LEVELS = 8  # of the residual quantizer that recognition uses, where no speech LM says how many


@dataclass(frozen=True)
class Clip:
    """A sound file: its wave (samples,) at `rate` Hz, and the hash of its bytes."""

    path: Path
    wave: audio.Wave
    rate: int
    sha256: str

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate


def read_clip(path: Path) -> Clip:
    """Decode a sound file. Raises InputError if it cannot be, or is empty."""
    wave, rate = audio.read_audio(path)
    return Clip(path, wave, rate, hashlib.sha256(path.read_bytes()).hexdigest())


class Harness:
    """An audio tokenizer file and, unless that is checked alone, a speech LM file, mapped and ready to run."""

    def __init__(self, lm_path: Path | None, tokenizer_path: Path, threads: int) -> None:
        self.timings: dict[str, float] = {}
        with self._timed("load_s"):
            backend = Backend(threads)
            self.tokenizer = AudioTokenizer(tokenizer_path, backend)
            self.lm = SpeechLM(lm_path, backend) if lm_path else None
        if self.lm:
            check_pair(self.lm, self.tokenizer)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[phase] = time.perf_counter() - start

    def run(self, clip: Clip, language: str, max_new_tokens: int, *, keep_stages: bool) -> Activations:
        """Transcribe `clip`, greedily, up to `max_new_tokens`; without a speech LM, only encode it."""
        n_levels = self.lm.d.channels if self.lm else DEFAULT_LEVELS
        with self._timed("tokenize_s"):
            if self.lm:  # a clip too long is known before it is encoded
                check_room(int(clip.seconds * self.tokenizer.d.frames_per_second) // self.lm.d.group_size, self.lm.d)
            wave = audio.resample(clip.wave, clip.rate, self.tokenizer.d.sampling_rate)
            stages = self.tokenizer.encode(wave, min(n_levels, self.tokenizer.d.num_quantizers))
        transcript = ""
        if self.lm:
            with self._timed("prefill_s"):
                context, lm_stages = read_prompt(
                    self.lm, stages["tok_codes"], language, max_new_tokens, keep_stages=keep_stages
                )
            with self._timed("decode_s"):
                answer = list(context.greedy(max_new_tokens, self.lm.text.stops))
            seconds = self.timings.pop("decode_s")
            if len(answer) > 1:  # the first token comes with the prefill
                self.timings["ms_per_token"] = seconds * 1000 / (len(answer) - 1)
            stages |= lm_stages | {"greedy_ids": np.array(answer, np.int32)}
            transcript = self.lm.text.transcript(answer)
        files = [str(model.file.path) for model in (self.lm, self.tokenizer) if model]
        origin = Origin(files, str(clip.path), clip.sha256, language, self.lm.text.sha256 if self.lm else "")
        return Activations(stages, transcript, origin, dict(self.timings))


def read_prompt(
    lm: SpeechLM, codes: npt.NDArray[np.int32], language: str, n_more: int, *, keep_stages: bool
) -> tuple[Context, Stages]:
    """The speech LM after it read the prompt for `codes`, (frames, channels), and the stages from prompt_ids on."""
    ids = build_prompt(codes, lm.text.encode, lm.d, language)
    room = lm.d.max_position_embeddings - ids.shape[1] // lm.d.group_size
    context = lm.prefill(ids, min(n_more, room), keep_stages=keep_stages)
    return context, {"prompt_ids": ids, **context.stages}


def check_pair(lm: SpeechLM, tokenizer: AudioTokenizer) -> None:
    """Every code that the tokenizer can give must be one that the speech LM has an embedding for."""
    ours, theirs = lm.d.speech_zeroemb, tokenizer.d.codebook_size
    if len(theirs) < len(ours) or any(size > zero for size, zero in zip(theirs, ours, strict=False)):
        raise InputError(
            tokenizer.file.path, f"codebooks of {theirs[: len(ours)]} rows",
            expected=f"{ours}, which {lm.file.path.name} was trained with",
        )  # fmt: skip
