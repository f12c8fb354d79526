"""The system of a speech LM and its audio tokenizer: clip → codes → prompt → response, with every stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimo_convert.model.model_file import ModelFile
from mimo_families.mimo_tokenizer import REPO as TOKENIZER_REPO
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from mimo_families.mimo_tokenizer.system import TINY as TINY_TOKENIZER
from mimo_families.programs import BUILT_ON_LLAMA_CPP
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample
from runtime_check.choices import TRANSCRIBE
from runtime_check.run.activations import (
    GREEDY,
    INCREMENTAL_LOGITS,
    RESPONSE,
    RESPONSE_LOGITS,
    Activations,
    Stages,
)
from runtime_check.run.system import (
    AUTO_LANGUAGE,
    NO_WORK,
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
from .layout import FAMILY, speaks
from .prompt import LANGUAGE_TAGS, build_prompt, check_room, clean_transcript, with_response
from .segments import Ids
from .stages import FIRST_LOGITS, LAST_HIDDEN, PROMPT, ROLE, SIZES, STAGES, reference_problems
from .tasks.table import TASKS

if TYPE_CHECKING:
    from mimo_families.mimo_tokenizer.harness import AudioTokenizer

    from .harness import SpeechLM

TINY = Path(__file__).parent / "data" / "tiny"
TEXT_GROUPS = 25  # of a prompt, beside its audio
TOKENS_PER_SECOND = 3  # of speech, as people talk


class MimoAudioSystem(Transcriber):
    """A speech LM file and an audio tokenizer file, ready to run."""

    stages = STAGES
    task, wave_rate = TRANSCRIBE, None

    def __init__(self, files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> None:
        from mimo_families.mimo_tokenizer.harness import (
            AudioTokenizer,  # late: ggml is slow to load, and often not needed
        )
        from runtime_check.run.session import Loaded, Session

        from .harness import SpeechLM

        self.session = Session(compute)
        with self.session.timed("load_s"):
            self.tokenizer = AudioTokenizer(files[TOKENIZER], self.session.backend)
            self.lm = SpeechLM(files[ROLE], self.session.backend)
        check_codebooks(self.lm, self.tokenizer)
        self.speaks = speaks(FAMILY.edition_in(files[ROLE].file.metadata))
        self.text, self.context = self.lm.text, self.lm.d.max_position_embeddings
        self.members: Sequence[Member] = [Member(ROLE, files[ROLE]), Member(TOKENIZER, files[TOKENIZER])]
        groups = work.seconds * self._groups_per_second + TEXT_GROUPS * work.clips
        tokens = work.seconds * TOKENS_PER_SECOND
        positions = groups + (groups + tokens) * work.compared
        encoded = work.seconds * self.tokenizer.d.positions_per_second
        self.session.repack(
            [
                Loaded(files[TOKENIZER], self.tokenizer.weights, encoded),
                Loaded(files[ROLE], self.lm.weights, positions),
            ],
        )
        self.session.loaded()

    @property
    def _groups_per_second(self) -> float:
        return self.tokenizer.d.frames_per_second / self.lm.d.group_size

    def prompt_positions(self, seconds: float) -> int:
        """Groups of the prompt of a clip of that length."""
        return int(seconds * self._groups_per_second) + TEXT_GROUPS

    def read(self, request: Request, *, keep_stages: bool) -> Read:
        """Encode a clip and read its prompt; what was heard before are its codes. Raises InputError for codes that are
        not of this model."""
        from runtime_check.ggml.greedy import Prompted

        lm, clip, task = self.lm, request.clip, request.task
        stages = dict(request.heard) if request.heard else self._hear(clip)
        prompt = self._prompt(stages, task)
        n_groups, longest = lm.length(prompt), task.longest(clip)
        decoder = lm.decoder(min(n_groups + longest, lm.d.max_position_embeddings))
        with self.session.timed("prefill_s"):
            out = decoder.read(prompt, keep_stages=keep_stages)
        stages |= {PROMPT: prompt, **lm_stages(out, n_groups)}
        return Read(stages, Prompted(decoder, out["logits"][0], longest))

    def _hear(self, clip: Clip) -> Stages:
        """The audio tokenizer's stages."""
        with self.session.timed("tokenize_s"):
            wave = resample(clip.wave, clip.rate, self.tokenizer.d.sampling_rate)
            encode = self.tokenizer.encode_segments if self.speaks else self.tokenizer.encode
            return encode(wave, min(self.lm.d.channels, self.tokenizer.d.num_quantizers))

    def _prompt(self, stages: Stages, task: Task) -> Ids:
        """The prompt for the codes of a clip; MiMo-Audio's names no language."""
        language = AUTO_LANGUAGE if self.speaks else task.language
        return build_prompt(stages[CODES], self.lm.text.encode, self.lm.d, language)

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """The speech LM's stages for the reference's codes, (frames, channels), and response.

        One pass over prompt and response computes RESPONSE_LOGITS, (tokens, vocab_size), and the prompt's stages;
        incremental decoding computes INCREMENTAL_LOGITS. Results of `run` are reused.
        """
        from runtime_check.ggml.decoder import incremental_logits

        lm, d, response = self.lm, self.lm.d, reference[RESPONSE].tolist()
        with self.session.timed("proof_s"):
            prompt = self._prompt(reference, task)
            n_groups, n = lm.length(prompt), len(response)
            check_room(n_groups + n - 2, d)  # the last token is not read
            decoder = lm.decoder(n_groups + n - 1)
            out = decoder.read(with_response(prompt, response[:-1], d), n, keep_stages=True)
            same = np.array_equal(prompt, run.stages[PROMPT]) and run.stages[GREEDY].tolist() == response
            cached = run.stages[RESPONSE_LOGITS] if same else incremental_logits(lm, prompt, response)
        run.timings["proof_s"] = self.session.timings["proof_s"]
        return {
            PROMPT: prompt,
            **lm_stages(out, n_groups),
            RESPONSE: np.array(response, np.int32),
            RESPONSE_LOGITS: out["logits"],
            INCREMENTAL_LOGITS: cached,
        }

    def said(self, ids: Sequence[int], task: Task) -> Said:
        """The transcript of a response."""
        return Said(clean_transcript(self.text.decode(ids)))


def lm_stages(out: Stages, n_groups: int) -> Stages:
    """A decoder's outputs as stages of a prompt of `n_groups`; later positions are cut off."""
    kept = {name: x[:n_groups] for name, x in out.items() if name not in ("hidden", "logits")}
    return kept | {LAST_HIDDEN: out["hidden"][0], FIRST_LOGITS: out["logits"][0]}


def check_codebooks(lm: "SpeechLM", tokenizer: "AudioTokenizer") -> None:
    """Raise InputError unless the speech LM has an embedding for every code of the tokenizer."""
    ours, theirs = lm.d.speech_zeroemb, tokenizer.d.codebook_size
    if len(theirs) < len(ours) or any(size > zero for size, zero in zip(theirs, ours, strict=False)):
        raise InputError(
            tokenizer.model.path, f"codebooks of {theirs[: len(ours)]} rows",
            expected=f"at most {ours}, by key mimo_asr.audio.speech_zeroemb of {lm.model.path.name}",
        )  # fmt: skip


def hearing(files: Mapping[str, ModelFile]) -> str:
    """How the audio tokenizer encodes a clip for a speech LM: models that speak have another way."""
    n = min(files[ROLE].dims.channels, files[TOKENIZER].dims.num_quantizers)
    return f"{n} codebooks, {'segments' if speaks(FAMILY.edition_in(files[ROLE].file.metadata)) else 'chunks'}"


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open a speech LM file and an audio tokenizer file."""
    return MimoAudioSystem(files, compute, work)


SYSTEM = SystemType(
    name="mimo_audio",
    family=FAMILY,
    companions=(mimo_tokenizer.FAMILY,),
    stages=STAGES,
    open=open_system,
    reference="mimo_families.mimo_audio.reference",
    calibration="mimo_families.mimo_audio.calibration",
    languages=tuple(LANGUAGE_TAGS),
    published={ROLE: REPO, TOKENIZER: TOKENIZER_REPO},
    bundled={
        "tiny": Bundled(
            {ROLE: (TINY / "asr", "tiny"), TOKENIZER: TINY_TOKENIZER}, reference=TINY / "reference.safetensors"
        )
    },
    reference_problems=reference_problems,
    heard=(CODES,),
    hearing=hearing,
    sizes=SIZES,
    speech_tasks=TASKS,
    speaker="mimo_families.mimo_audio.tasks.speaker",
    speech_reference="mimo_families.mimo_audio.tasks.reference",
    runtimes=[  # as its README.md has it, "MiMo-V2.5-ASR"
        Runtime(
            "CrispASR",
            "https://github.com/CrispStrobe/CrispASR",
            ("crispasr", "--backend", "mimo-asr", "-m", "{file}", "--codec-model", "{companion}", "-f", "{clip}"),
            finds="mimo-tokenizer-q4_k.gguf",
        )
    ],
    not_run_by=BUILT_ON_LLAMA_CPP,
    least_companion=TYPES["q8_0"],  # docs/benchmarks.md, "Which audio tokenizer"
)
