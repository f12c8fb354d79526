"""What systems share that write text: the prompt of a clip is read into a decoder's cache, and its response is decoded
greedily, together with those of other clips."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runtime_check.audio.clips import Clip
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Activations, Origin, Stages
from runtime_check.run.stages import Stage
from runtime_check.run.system import Member, Task
from runtime_check.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from runtime_check.ggml.greedy import Prompted, Response
    from runtime_check.run.session import Session


class Request(NamedTuple):
    """A clip and what is asked of a system: its task, and stages that were `heard` before (System.run)."""

    clip: Clip
    task: Task
    heard: Stages | None = None


class Read(NamedTuple):
    """A prompt that was read: the stages up to the first logits, and the decoder."""

    stages: Stages
    prompted: "Prompted"


class Said(NamedTuple):
    """The transcript of a response, and the language that it names, empty if it names none."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class _Begun:
    request: Request
    read: Read
    timings: Mapping[str, float]


class Transcriber(ABC):
    """A System whose runs are prompts and greedy responses, to clips one by one or several together."""

    session: "Session"
    text: TextTokenizer
    members: Sequence[Member]
    stages: Sequence[Stage]
    context: int | None
    wave_rate: int | None
    task: str

    @abstractmethod
    def prompt_positions(self, seconds: float) -> int:
        """As System.prompt_positions."""

    @abstractmethod
    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """As System.teacher_force."""

    @abstractmethod
    def read(self, request: Request, *, keep_stages: bool) -> Read:
        """Compute the prompt of a clip and read it; with `keep_stages`, the text model's stages are kept."""

    @abstractmethod
    def said(self, ids: Sequence[int], task: Task) -> Said:
        """What a response to `task` says, without the model's markers."""

    def transcript(self, ids: Sequence[int], task: Task) -> str:
        """The transcript of a response to `task`."""
        return self.said(ids, task).text

    def run(self, clip: Clip, task: Task, *, keep_stages: bool = False, heard: Stages | None = None) -> Activations:
        """Transcribe `clip` greedily; RESPONSE_LOGITS are those of incremental decoding. `keep_stages` and `heard`: as
        System.run."""
        [made] = self.run_together([Request(clip, task, heard)], keep_stages=keep_stages)
        return made

    def run_together(
        self, requests: Sequence[Request], *, keep_stages: bool = False, keep_logits: bool = True
    ) -> list[Activations]:
        """Transcribe clips, whose responses are decoded together (ggml/greedy.py): the result of each is what `run`
        gives. Without `keep_logits` they have no RESPONSE_LOGITS.

        Memory is that of all of them, and more of them take more: each its cache.
        """
        from runtime_check.ggml.greedy import greedy  # late: ggml is slow to load, and often not needed

        self.session.begin()
        begun = []
        for request in requests:
            self.session.begin_clip()
            begun.append(_Begun(request, self.read(request, keep_stages=keep_stages), self.session.timings))
        responses = greedy([one.read.prompted for one in begun], self.text.stops, keep_logits=keep_logits)
        return [self._made(*one) for one in zip(begun, responses, strict=True)]

    def _made(self, begun: _Begun, response: "Response") -> Activations:
        """The activations of a clip."""
        session, task, clip = self.session, begun.request.task, begun.request.clip
        ids = np.array(response.tokens, np.int32)
        stages = begun.read.stages | {GREEDY: ids, RESPONSE: ids}
        if response.logits:
            stages[RESPONSE_LOGITS] = np.stack(response.logits)
        models = [member.model for member in self.members]
        origin = Origin(
            [str(model.path) for model in models], str(clip.path), clip.sha256, task.language, self.text.sha256,
            context=task.context, attention=task.attention, runtime=task.runtime,
        )  # fmt: skip
        timings = dict(begun.timings)
        if len(ids) > 1:  # the first token comes with the prefill
            timings["ms_per_token"] = response.seconds * 1000 / (len(ids) - 1)
        said, memory = self.said(response.tokens, task), session.memory(models)
        return Activations(stages, said.text, origin, timings, memory, session.products(), said.language)
