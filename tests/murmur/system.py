"""One file as a system: clip → frames and ids → response, with every stage."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mimo_convert.model.model_file import ModelFile
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import (
    INCREMENTAL_LOGITS,
    RESPONSE,
    RESPONSE_LOGITS,
    Activations,
    Stages,
)
from runtime_check.run.system import NO_WORK, TRANSCRIBE, Compute, Member, System, SystemType, Task, Work
from runtime_check.run.transcription.transcriber import Read, Request, Said, Transcriber

from .front_end import HOP, LANGUAGES, RATE, frames_of, tokens_of
from .layout import FAMILY
from .stages import FINAL, FRAMES, ROLE, SCORES, STAGES, TOKENS

if TYPE_CHECKING:
    from .harness import Prompt

PROMPT_TOKENS = 3  # of a prompt, beside its frames


class MurmurSystem(Transcriber):
    """A `murmur` file, ready to run."""

    stages = STAGES
    task, wave_rate = TRANSCRIBE, None

    def __init__(self, files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> None:
        from runtime_check.run.session import Loaded, Session  # late: ggml is slow to load, and often not needed

        from .harness import Recogniser

        self.session = Session(compute)
        with self.session.timed("load_s"):
            self.model = Recogniser(files[ROLE], self.session.backend)
        self.d, self.text, self.context = self.model.d, self.model.text, self.model.d.context
        self.members: Sequence[Member] = [Member(ROLE, files[ROLE])]
        positions = work.seconds * self._frames_per_second * (1 + work.compared)
        self.session.repack([Loaded(files[ROLE], self.model.weights, positions)])
        self.session.loaded()

    @property
    def _frames_per_second(self) -> float:
        return RATE / HOP / self.d.stacked

    def prompt_positions(self, seconds: float) -> int:
        return int(seconds * self._frames_per_second) + PROMPT_TOKENS

    def read(self, request: Request, *, keep_stages: bool) -> Read:
        from runtime_check.ggml.decoder import HIDDEN, LOGITS, Decoder
        from runtime_check.ggml.greedy import Prompted

        prompt = self._prompt(request.clip, request.task)
        n, longest = self.model.length(prompt), request.task.longest(request.clip)
        decoder = Decoder(self.model, min(n + longest, self.d.context))
        with self.session.timed("prefill_s"):
            out = decoder.read(prompt, keep_stages=keep_stages)
        stages = {FRAMES: prompt.frames, TOKENS: prompt.ids, **of_prompt(out, n)}
        stages |= {FINAL: out[HIDDEN][0], SCORES: out[LOGITS][0]}
        return Read(stages, Prompted(decoder, out[LOGITS][0], longest))

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        from runtime_check.ggml.decoder import HIDDEN, LOGITS, Decoder, incremental_logits

        from .harness import Prompt

        response = reference[RESPONSE].tolist()
        with self.session.timed("proof_s"):
            prompt = Prompt(run.stages[TOKENS], run.stages[FRAMES], [])
            n, whole = self.model.length(prompt), prompt._replace(response=response[:-1])
            out = Decoder(self.model, n + len(response) - 1).read(whole, len(response), keep_stages=True)
            cached = incremental_logits(self.model, prompt, response)
        run.timings["proof_s"] = self.session.timings["proof_s"]
        return {
            FRAMES: prompt.frames, TOKENS: prompt.ids, **of_prompt(out, n), FINAL: out[HIDDEN][0],
            SCORES: out[LOGITS][0], RESPONSE: np.array(response, np.int32), RESPONSE_LOGITS: out[LOGITS],
            INCREMENTAL_LOGITS: cached,
        }  # fmt: skip

    def _prompt(self, clip: Clip, task: Task) -> "Prompt":
        from .harness import Prompt

        frames = frames_of(clip.wave, clip.rate, self.d)
        return Prompt(tokens_of(len(frames), self.text.encode, self.d, task.language), frames, [])

    def said(self, ids: Sequence[int], task: Task) -> Said:
        return Said(self.text.decode(ids).strip())


def of_prompt(out: Stages, n: int) -> Stages:
    """The stages that a decoder read of a prompt of `n` positions."""
    return {name: x[:n] for name, x in out.items() if name not in ("hidden", "logits")}


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """A `murmur` file, ready to run."""
    return MurmurSystem(files, compute, work)


SYSTEM = SystemType(
    name="murmur",
    family=FAMILY,
    stages=STAGES,
    open=open_system,
    reference=f"{__package__}.reference",
    languages=tuple(LANGUAGES),
)
