"""Sound → text by the files under test, with every stage and the time each phase took."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.disk import sha256_of_open
from mimo_convert.files import open_regular
from mimo_convert.models import Family, mimo_asr, mimo_tokenizer
from quantize.errors import InputError

from . import audio, repack
from .activations import (
    ANSWER,
    ANSWER_LOGITS,
    CACHED_LOGITS,
    CODES,
    FIRST_LOGITS,
    GREEDY,
    LAST_HIDDEN,
    PROMPT,
    Activations,
    Origin,
    Stages,
)
from .audio_tokenizer import AudioTokenizer
from .bundled import JFK_SHA256, JFK_TEXT
from .graph import Backend
from .prompt import Ids, build_prompt, check_room, with_answer
from .speech_lm import HIDDEN, LOGITS, SpeechLM, Step

DEFAULT_LEVELS = 8  # of the residual quantizer that recognition uses, where no speech LM says how many
TEXT_GROUPS = 25  # of a prompt, beside its sound
TOKENS_PER_SECOND = 3  # of speech, as people talk
MOST_TOKENS_PER_SECOND, LEAST_TOKENS = 8, 256  # an answer that is longer does not end by itself


@dataclass(frozen=True)
class Clip:
    """A sound file: its wave (samples,) at `rate` Hz, and the hash of its bytes; and what is said, if that is known."""

    path: Path
    wave: audio.Wave
    rate: int
    sha256: str
    text: str | None = None

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate

    @property
    def longest_answer(self) -> int:
        """Tokens after which an answer can be taken to be none."""
        return max(LEAST_TOKENS, int(self.seconds * MOST_TOKENS_PER_SECOND))


def read_clip(path: Path, text: str | None = None) -> Clip:
    """Decode a sound file, in which `text` is said. Raises InputError if it cannot be, or is empty."""
    with open_regular(path, expected=audio.SOUND) as file:
        wave, rate = audio.decode(file, path)
        sha256 = sha256_of_open(file)
    if text is None and sha256 == JFK_SHA256:
        text = JFK_TEXT
    return Clip(path, wave, rate, sha256, text)


class Work(NamedTuple):
    """How much is ahead: seconds of sound, how many clips that is, and whether each is read once more for a proof."""

    seconds: float
    clips: int = 1
    proof: bool = False


NO_WORK = Work(0)


class Harness:
    """An audio tokenizer file and, unless that is checked alone, a speech LM file, mapped and ready to run.

    `choice` says whether to repack weights (`repack.CHOICES`), for the `work` ahead.
    """

    def __init__(
        self, lm_path: Path | None, tokenizer_path: Path, threads: int, choice: str = repack.OFF, work: Work = NO_WORK
    ) -> None:
        self.timings: dict[str, float] = {}
        self.repacked = 0
        with self._timed("load_s"):
            self.backend = Backend(threads)
            self.tokenizer = AudioTokenizer(tokenizer_path, self.backend)
            self.lm = SpeechLM(lm_path, self.backend) if lm_path else None
        if self.lm:
            check_pair(self.lm, self.tokenizer)
        self._repack(choice, work)
        self.loaded = dict(self.timings)

    def _repack(self, choice: str, work: Work) -> None:
        """Repack the weights of each model, if reading as many positions as are ahead repays it."""
        begin, d = time.perf_counter(), self.tokenizer.d
        self._repack_model(
            self.tokenizer, mimo_tokenizer.FAMILY, choice, work.seconds * d.frames_per_second * d.avg_pooler
        )
        if self.lm:
            groups = work.seconds * d.frames_per_second / self.lm.d.group_size + TEXT_GROUPS * work.clips
            tokens = work.seconds * TOKENS_PER_SECOND
            positions = groups + repack.STEP * tokens + (groups + tokens) * work.proof
            self._repack_model(self.lm, mimo_asr.FAMILY, choice, positions)
        if self.repacked:
            self.timings["repack_s"] = time.perf_counter() - begin

    def _repack_model(self, model: AudioTokenizer | SpeechLM, family: Family, choice: str, positions: float) -> None:
        names = repack.multiplied(model.file, family, model.d)
        nbytes = sum(model.file.tensors[name].nbytes for name in names)
        if repack.worth_repacking(choice, positions, nbytes):
            self.repacked += model.weights.repack(names, model.backend.threads)

    def check_length(self, path: Path, seconds: float) -> None:
        """Whether the context can hold so much sound. Raises InputError."""
        if self.lm:
            d, groups_per_second = self.lm.d, self.tokenizer.d.frames_per_second / self.lm.d.group_size
            room = (d.max_position_embeddings - TEXT_GROUPS) / groups_per_second
            check_room(int(seconds * groups_per_second), d, path, seconds=room)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[phase] = time.perf_counter() - start

    def run(self, clip: Clip, language: str, max_new_tokens: int, *, keep_stages: bool = False) -> Activations:
        """Transcribe `clip`, greedily, up to `max_new_tokens`; without a speech LM, only encode it.

        With `keep_stages` the speech LM's are among the stages. ANSWER_LOGITS are those of its KV cache.
        """
        self.timings = dict(self.loaded)
        self.backend.peak = self.backend.held
        n_levels = self.lm.d.channels if self.lm else DEFAULT_LEVELS
        with self._timed("tokenize_s"):
            wave = audio.resample(clip.wave, clip.rate, self.tokenizer.d.sampling_rate)
            stages = self.tokenizer.encode(wave, min(n_levels, self.tokenizer.d.num_quantizers))
        transcript = ""
        if self.lm:
            prompt = build_prompt(stages[CODES], self.lm.text.encode, self.lm.d, language)
            n_groups = prompt.shape[1] // self.lm.d.group_size
            context = self.lm.context(min(n_groups + max_new_tokens, self.lm.d.max_position_embeddings))
            with self._timed("prefill_s"):
                out = context.read(prompt, keep_stages=keep_stages)
            with self._timed("decode_s"):
                steps = list(context.greedy(out[LOGITS][0], max_new_tokens, self.lm.text.stops))
            seconds = self.timings.pop("decode_s")
            if len(steps) > 1:  # the first token comes with the prefill
                self.timings["ms_per_token"] = seconds * 1000 / (len(steps) - 1)
            stages |= {PROMPT: prompt, **lm_stages(out, n_groups), **answer_stages(steps)}
            transcript = self.lm.text.transcript(stages[GREEDY].tolist())
        files = [model.file for model in (self.lm, self.tokenizer) if model]
        origin = Origin(
            [str(file.path) for file in files], str(clip.path), clip.sha256, language,
            self.lm.text.sha256 if self.lm else "",
        )  # fmt: skip
        memory = {
            "mapped": sum(file.size for file in files), "repacked": self.repacked, "working": self.backend.peak,
        }  # fmt: skip
        return Activations(stages, transcript, origin, dict(self.timings), memory)

    def follow(self, run: Activations, codes: npt.NDArray[np.int32], answer: Sequence[int], language: str) -> Stages:
        """The speech LM's stages when it is fed somebody else's codes, (frames, channels), and answer.

        One pass over prompt and answer gives ANSWER_LOGITS, (tokens, vocab_size), and every stage of the prompt; steps
        from a KV cache give CACHED_LOGITS. What `run` did already is not done again.
        """
        assert self.lm is not None
        with self._timed("proof_s"):
            d = self.lm.d
            prompt = build_prompt(codes, self.lm.text.encode, d, language)
            n_groups, n = prompt.shape[1] // d.group_size, len(answer)
            check_room(n_groups + n - 2, d)  # the last token is not read
            out = self.lm.context(n_groups + n - 1).read(with_answer(prompt, answer[:-1], d), n, keep_stages=True)
            same = np.array_equal(prompt, run.stages[PROMPT]) and run.stages[GREEDY].tolist() == list(answer)
            cached = run.stages[ANSWER_LOGITS] if same else self._cached(prompt, n_groups, answer)
        run.timings["proof_s"] = self.timings["proof_s"]
        return {
            PROMPT: prompt,
            **lm_stages(out, n_groups),
            ANSWER: np.array(answer, np.int32),
            ANSWER_LOGITS: out[LOGITS],
            CACHED_LOGITS: cached,
        }

    def _cached(self, prompt: Ids, n_groups: int, answer: Sequence[int]) -> npt.NDArray[np.float32]:
        assert self.lm is not None
        context = self.lm.context(n_groups + len(answer) - 1)
        return np.stack([context.read(prompt)[LOGITS][0], *(context.step(token) for token in answer[:-1])])


def lm_stages(out: Stages, n_groups: int) -> Stages:
    """What `Context.read` gave, as stages of a prompt of so many groups; what stands behind the prompt is left out."""
    kept = {name: x[:n_groups] for name, x in out.items() if name not in (HIDDEN, LOGITS)}
    return kept | {LAST_HIDDEN: out[HIDDEN][0], FIRST_LOGITS: out[LOGITS][0]}


def answer_stages(steps: Sequence[Step]) -> Stages:
    """An answer as stages, its logits those that each token was chosen by."""
    ids = np.array([step.token for step in steps], np.int32)
    return {GREEDY: ids, ANSWER: ids, ANSWER_LOGITS: np.stack([step.logits for step in steps])}


def check_pair(lm: SpeechLM, tokenizer: AudioTokenizer) -> None:
    """Every code that the tokenizer can give must be one that the speech LM has an embedding for."""
    ours, theirs = lm.d.speech_zeroemb, tokenizer.d.codebook_size
    if len(theirs) < len(ours) or any(size > zero for size, zero in zip(theirs, ours, strict=False)):
        raise InputError(
            tokenizer.file.path, f"codebooks of {theirs[: len(ours)]} rows",
            expected=f"at most {ours}, by key mimo_asr.audio.speech_zeroemb of {lm.file.path.name}",
        )  # fmt: skip
