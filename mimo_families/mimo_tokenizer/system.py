"""The system of an audio tokenizer alone: audio → codes, and if it has a decoder → audio again; without text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimo_convert.model.model_file import ModelFile
from mimo_families.programs import BUILT_ON_LLAMA_CPP
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample
from runtime_check.run.activations import Activations, Origin, Stages
from runtime_check.run.stages import Stage
from runtime_check.run.system import NO_WORK, Bundled, Compute, Member, System, SystemType, Task, Work

from . import REPO
from .decoder.stages import SIZES as DECODER_SIZES
from .decoder.stages import STAGES as DECODER_STAGES
from .decoder.stages import WAVE, WAVE_CODES, WAVE_MEL
from .layout import DEFAULT_CODEBOOKS, FAMILY
from .stages import CODES, ENCODE, ROLE, ROUND_TRIP, SIZES, STAGES

if TYPE_CHECKING:
    from .decoder.harness import Codes

TINY = Path(__file__).parents[1] / "mimo_audio" / "data" / "tiny" / "tokenizer", "tiny-tokenizer"


class AudioTokenizerSystem:
    """An audio tokenizer file, ready to run."""

    text = None
    context = None

    def __init__(self, files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> None:
        from runtime_check.run.session import Loaded, Session  # late: ggml is slow to load, and often not needed

        from .decoder.harness import SpeechDecoder
        from .harness import AudioTokenizer

        self.session, self.compared = Session(compute), work.compared
        with self.session.timed("load_s"):
            self.tokenizer = AudioTokenizer(files[ROLE], self.session.backend)
            self.decoder = (
                SpeechDecoder(files[ROLE], self.tokenizer.weights, self.session.backend)
                if self.tokenizer.d.has_decoder
                else None
            )
        self.stages: Sequence[Stage] = (*STAGES, *DECODER_STAGES) if self.decoder else STAGES
        self.task = ROUND_TRIP if self.decoder else ENCODE
        self.wave_rate = self.tokenizer.d.sampling_rate if self.decoder else None
        self.members: Sequence[Member] = [Member(ROLE, files[ROLE])]
        positions = work.seconds * self.tokenizer.d.positions_per_second
        self.session.repack([Loaded(files[ROLE], self.tokenizer.weights, positions)])
        self.session.loaded()

    def prompt_positions(self, seconds: float) -> int:
        """None: there is no text model."""
        return 0

    def run(self, clip: Clip, task: Task, *, keep_stages: bool = False, heard: Stages | None = None) -> Activations:
        """Encode `clip`, and decode its codes; with `keep_stages`, or if it is compared, the decoder's stages are
        kept."""
        self.session.begin()
        d = self.tokenizer.d
        with self.session.timed("tokenize_s"):
            wave = resample(clip.wave, clip.rate, d.sampling_rate)
            encode = self.tokenizer.encode_segments if self.decoder else self.tokenizer.encode
            stages = encode(wave, min(DEFAULT_CODEBOOKS, d.num_quantizers))
        if self.decoder and (keep_stages or self.compared):
            stages |= self._decode_stages(stages[CODES])
        elif self.decoder:
            with self.session.timed("decode_s"):
                stages[WAVE] = self.decoder.decode(stages[CODES])
        model = self.tokenizer.model
        origin = Origin([str(model.path)], str(clip.path), clip.sha256, task.language)
        timings, memory = dict(self.session.timings), self.session.memory([model])
        return Activations(stages, "", origin, timings, memory, self.session.products())

    def _decode_stages(self, codes: "Codes") -> Stages:
        """Decode codes (T, Q): every stage, and what the tokenizer itself makes of the wave."""
        assert self.decoder is not None
        with self.session.timed("decode_s"):
            stages = self.decoder.stages(codes)
        again = self.tokenizer.encode_segments(stages[WAVE], codes.shape[1])
        return stages | {WAVE_MEL: again["tok_mel"], WAVE_CODES: again[CODES]}

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """The decoder's stages for the reference's codes; none if they are those of `run`. There is no text model."""
        codes = reference[CODES]
        if not self.decoder or np.array_equal(codes, run.stages[CODES]):
            return {}
        return self._decode_stages(codes)

    def transcript(self, ids: Sequence[int], task: Task) -> str:
        """There is no text model."""
        raise NotImplementedError


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open an audio tokenizer file."""
    return AudioTokenizerSystem(files, compute, work)


SYSTEM = SystemType(
    name="mimo_tokenizer",
    family=FAMILY,
    stages=(*STAGES, *DECODER_STAGES),
    open=open_system,
    reference="mimo_families.mimo_tokenizer.round_trip.reference",
    published={ROLE: REPO},
    bundled={"tiny": Bundled({ROLE: TINY})},
    not_run_by=BUILT_ON_LLAMA_CPP,
    sizes=SIZES | DECODER_SIZES,
)
