"""Sound → text by the files under test, with every stage and the time each phase took."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mimo_convert.gguf_file import GGUFFile, read_gguf
from mimo_convert.models import mimo_asr, mimo_tokenizer
from quantize.errors import InputError

from . import audio
from .activations import Activations, Origin, Stages
from .audio_tokenizer import AudioTokenizer
from .graph import Backend
from .prompt import Ids, build_prompt
from .speech_lm import Context, SpeechLM
from .text_tokenizer import TextTokenizer

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
            self.tokenizer_file = _open(tokenizer_path, mimo_tokenizer.FAMILY.gguf)
            self.tokenizer = AudioTokenizer(self.tokenizer_file, backend)
            self.lm_file: GGUFFile | None = None
            if lm_path is not None:
                self.lm_file = _open(lm_path, mimo_asr.FAMILY.gguf)
                self.lm = SpeechLM(self.lm_file, backend)
                self.text = TextTokenizer.from_gguf(self.lm_file)
                self._check_pair()

    def _check_pair(self) -> None:
        """Every code that the tokenizer can give must be one that the speech LM has an embedding for."""
        assert self.lm_file is not None
        ours, theirs = self.lm.d.speech_zeroemb, self.tokenizer.d.codebook_size
        if len(theirs) < len(ours) or any(size > zero for size, zero in zip(theirs, ours, strict=False)):
            raise InputError(
                self.tokenizer_file.path, f"codebooks of {theirs[: len(ours)]} rows",
                expected=f"{ours}, which {self.lm_file.path.name} was trained with",
            )  # fmt: skip

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[phase] = time.perf_counter() - start

    def run(self, clip: Clip, language: str, max_new_tokens: int, *, keep_stages: bool) -> Activations:
        """Transcribe `clip`, greedily, up to `max_new_tokens`; without a speech LM, only encode it."""
        n_levels = DEFAULT_LEVELS if self.lm_file is None else self.lm.d.channels
        with self._timed("tokenize_s"):
            wave = audio.resample(clip.wave, clip.rate, self.tokenizer.d.sampling_rate)
            stages = self.tokenizer.encode(wave, min(n_levels, self.tokenizer.d.num_quantizers))
        transcript = ""
        if self.lm_file is not None:
            with self._timed("prefill_s"):
                ids, context = self.prefill(stages["tok_codes"], language, max_new_tokens, keep_stages=keep_stages)
            with self._timed("decode_s"):
                answer = list(context.greedy(max_new_tokens, self.text.stops))
            # the first token comes with the prefill
            self.timings["ms_per_token"] = self.timings.pop("decode_s") * 1000 / max(1, len(answer) - 1)
            stages |= {"prompt_ids": ids, **context.stages, "greedy_ids": np.array(answer, np.int32)}
            transcript = self.text.transcript(answer)
        files = [str(file.path) for file in (self.lm_file, self.tokenizer_file) if file is not None]
        origin = Origin(files, str(clip.path), clip.sha256, language)
        return Activations(stages, transcript, origin, dict(self.timings))

    def prefill(
        self, codes: npt.NDArray[np.int32], language: str, n_more: int, *, keep_stages: bool
    ) -> tuple[Ids, Context]:
        """The prompt for `codes`, (frames, channels), and the context after the speech LM read it."""
        ids = build_prompt(codes, self.text.encode, self.lm.d, language)
        room = self.lm.d.max_position_embeddings - ids.shape[1] // self.lm.d.group_size
        return ids, self.lm.prefill(ids, min(n_more, room), keep_stages=keep_stages)

    def lm_stages(self, codes: npt.NDArray[np.int32], language: str) -> Stages:
        """Every stage of the speech LM, fed these codes."""
        ids, context = self.prefill(codes, language, 1, keep_stages=True)
        return {"prompt_ids": ids, **context.stages}


def _open(path: Path, architecture: str) -> GGUFFile:
    file = read_gguf(path)
    if file.architecture != architecture:
        raise InputError(
            path, f"key general.architecture is {file.architecture!r}", expected=f"{architecture!r}",
            todo="give the other file",
        )  # fmt: skip
    return file
