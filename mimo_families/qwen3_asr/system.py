"""The system of one file: clip → audio embeddings → prompt → response, with every stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimo_convert.model.model_file import ModelFile
from mimo_convert.model.provenance import ADAPTER_NAME
from mimo_families.programs import BUILT_ON_LLAMA_CPP
from runtime_check.choices import FULL, TRANSCRIBE
from runtime_check.run.activations import (
    GREEDY,
    INCREMENTAL_LOGITS,
    RESPONSE,
    RESPONSE_LOGITS,
    Activations,
    Stages,
)
from runtime_check.run.system import (
    ATTENTION,
    AUTO_LANGUAGE,
    CONTEXT,
    NO_WORK,
    RUNTIME,
    Bundled,
    Compute,
    Member,
    Runtime,
    System,
    SystemType,
    Task,
    Work,
)
from runtime_check.run.transcription.transcriber import Read, Request, Said, Transcriber

from . import REPO
from .front_end import FRONT_ENDS, LLAMA_CPP, n_frames, n_tokens, samples
from .layout import FAMILY, MEGA_FOLDER
from .pieces import CUTTING
from .prompt import LANGUAGES, build_prompt, check_room, parse
from .sizes import WINDOWED
from .stages import (
    AUDIO_EMBEDS,
    FIRST_LOGITS,
    LAST_HIDDEN,
    MEL,
    PROMPT,
    ROLE,
    SIZES,
    STAGES,
    reference_problems,
)

if TYPE_CHECKING:
    from runtime_check.ggml.graph import Backend

    from .harness import Prompt, Recognizer

TINY = Path(__file__).parent / "data" / "tiny"
TEXT_POSITIONS = 20  # of a prompt, beside its audio and context
TOKENS_PER_SECOND = 4  # of speech, as people talk
MOST_NEW_TOKENS, MOST_BY_ADAPTER = 512, {MEGA_FOLDER: 256}  # of a response: upstream's limits


class Qwen3ASRSystem(Transcriber):
    """A `qwen3asr` file, ready to run."""

    stages = STAGES
    task, wave_rate = TRANSCRIBE, None
    roles: Sequence[str] = (ROLE,)  # of its files, the main one first

    def __init__(self, files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> None:
        from runtime_check.run.session import Loaded, Session  # late: ggml is slow to load, and often not needed

        self.session = Session(compute)
        with self.session.timed("load_s"):
            self.model = self.recognizer(files, self.session.backend)
        self.d, self.text, self.context = self.model.d, self.model.text, self.model.d.max_position_embeddings
        self.members: Sequence[Member] = [Member(role, files[role]) for role in self.roles]
        read = self.prompt_positions(work.seconds) + TEXT_POSITIONS * work.clips
        positions = read + (read + work.seconds * TOKENS_PER_SECOND) * work.compared
        weights = (self.model.weights, self.model.encoder_weights)
        self.session.repack(
            [Loaded(files[role], one, positions) for role, one in zip(self.roles, weights, strict=False)]
        )
        self.session.loaded()

    def recognizer(self, files: Mapping[str, ModelFile], backend: "Backend") -> "Recognizer":
        """The model in the files, by role."""
        from .harness import Recognizer

        return Recognizer(files[ROLE], backend)

    @property
    def most_new_tokens(self) -> int:
        """The maximum number of tokens of a response, unless a task says otherwise."""
        adapter = self.model.model.file.metadata.get(ADAPTER_NAME)
        return MOST_BY_ADAPTER.get(str(adapter), MOST_NEW_TOKENS)

    def prompt_positions(self, seconds: float) -> int:
        """Positions of the prompt of a clip of that length, without a context."""
        return n_tokens(n_frames(int(seconds * self.d.sample_rate), self.d), self.d) + TEXT_POSITIONS

    def read(self, request: Request, *, keep_stages: bool) -> Read:
        """Encode a clip and read its prompt."""
        from runtime_check.ggml.decoder import LOGITS, Decoder
        from runtime_check.ggml.greedy import Prompted

        d, clip, task = self.d, request.clip, request.task
        with self.session.timed("encode_s"):
            of = FRONT_ENDS[task.runtime]
            stages: Stages = {MEL: self.model.log_mel(samples(clip.wave, clip.rate, d, of), of)}
            stages |= self.model.encode(stages[MEL], self._window(task), of, keep_stages=keep_stages)
        prompt = self._prompt(stages, task)
        n, longest = len(prompt.ids), task.max_new_tokens or self.most_new_tokens
        decoder = Decoder(self.model, min(n + longest, d.max_position_embeddings))
        with self.session.timed("prefill_s"):
            out = decoder.read(prompt, keep_stages=keep_stages)
        stages |= {PROMPT: prompt.ids, **of_prompt(out, n)}
        return Read(stages, Prompted(decoder, out[LOGITS][0], longest))

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """Every stage, for the mel frames of `run` and the reference's response.

        One pass over prompt and response computes RESPONSE_LOGITS, (tokens, vocab_size), and the prompt's stages;
        incremental decoding computes INCREMENTAL_LOGITS. Results of `run` are reused.
        """
        from runtime_check.ggml.decoder import LOGITS, Decoder, incremental_logits

        response = reference[RESPONSE].tolist()
        with self.session.timed("proof_s"):
            of = FRONT_ENDS[task.runtime]
            stages = self.model.encode(run.stages[MEL], self._window(task), of, keep_stages=True)
            prompt = self._prompt(stages, task)
            n = len(prompt.ids)
            check_room(n + len(response) - 2, self.d)  # the last token is not read
            decoder = Decoder(self.model, n + len(response) - 1)
            out = decoder.read(prompt._replace(response=response[:-1]), len(response), keep_stages=True)
            same = run.stages[GREEDY].tolist() == response
            cached = run.stages[RESPONSE_LOGITS] if same else incremental_logits(self.model, prompt, response)
        run.timings["proof_s"] = self.session.timings["proof_s"]
        return {
            MEL: run.stages[MEL], **stages, PROMPT: prompt.ids, **of_prompt(out, n),
            RESPONSE: np.array(response, np.int32), RESPONSE_LOGITS: out[LOGITS], INCREMENTAL_LOGITS: cached,
        }  # fmt: skip

    def _prompt(self, stages: Stages, task: Task) -> "Prompt":
        from .harness import Prompt

        audio = stages[AUDIO_EMBEDS]
        return Prompt(build_prompt(len(audio), self.text.encode, self.d, task), audio, [])

    def _window(self, task: Task) -> int | None:
        """Audio tokens of a window of attention, as the file says; None for full attention."""
        windowed = self.d.attn_window_mode == WINDOWED and task.attention != FULL
        return self.d.window_tokens if windowed else None

    def said(self, ids: Sequence[int], task: Task) -> Said:
        """The transcript of a response to `task`, and the language that it names."""
        return parse(self.text.decode(ids, skip_special=True), task)


def of_prompt(out: Stages, n: int) -> Stages:
    """A decoder's outputs as stages of a prompt of `n` positions; later positions are cut off."""
    kept = {name: x[:n] for name, x in out.items() if name not in ("hidden", "logits")}
    return kept | {LAST_HIDDEN: out["hidden"][0], FIRST_LOGITS: out["logits"][0]}


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open a Qwen3-ASR file."""
    return Qwen3ASRSystem(files, compute, work)


SYSTEM = SystemType(
    name="qwen3_asr",
    family=FAMILY,
    stages=STAGES,
    open=open_system,
    reference="mimo_families.qwen3_asr.reference",
    calibration="mimo_families.qwen3_asr.calibration",
    languages=(*LANGUAGES, AUTO_LANGUAGE),
    task_options=(CONTEXT, ATTENTION, RUNTIME),
    imitates=(LLAMA_CPP,),
    published={ROLE: REPO},
    bundled={"tiny-qwen3": Bundled({ROLE: (TINY / "model", "tiny-qwen3")})},
    reference_problems=reference_problems,
    sizes=SIZES,
    runtimes=[
        Runtime(
            "CrispASR",
            "https://github.com/CrispStrobe/CrispASR",
            ("crispasr", "--backend", "qwen3", "-m", "{file}", "-f", "{clip}"),
        )
    ],
    not_run_by=BUILT_ON_LLAMA_CPP,  # which load the pair of another layout
    cutting=CUTTING,
)
