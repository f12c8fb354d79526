"""The system of an audio tokenizer alone: audio → codes, without text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mimo_convert.model.model_file import ModelFile
from mimo_families.programs import BUILT_ON_LLAMA_CPP
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample
from runtime_check.run.activations import Activations, Origin, Stages
from runtime_check.run.system import NO_WORK, Bundled, Compute, Member, System, SystemType, Task, Work

from . import REPO
from .layout import DEFAULT_CODEBOOKS, FAMILY
from .stages import ROLE, SIZES, STAGES

TINY = Path(__file__).parents[1] / "mimo_audio" / "data" / "tiny" / "tokenizer", "tiny-tokenizer"


class AudioTokenizerSystem:
    """An audio tokenizer file, ready to run."""

    stages = STAGES
    text = None
    context = None

    def __init__(self, files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> None:
        from runtime_check.run.session import Loaded, Session  # late: ggml is slow to load, and often not needed

        from .harness import AudioTokenizer

        self.session = Session(compute)
        with self.session.timed("load_s"):
            self.tokenizer = AudioTokenizer(files[ROLE], self.session.backend)
        self.members: Sequence[Member] = [Member(ROLE, files[ROLE])]
        positions = work.seconds * self.tokenizer.d.positions_per_second
        self.session.repack([Loaded(files[ROLE], self.tokenizer.weights, positions)])
        self.session.loaded()

    def prompt_positions(self, seconds: float) -> int:
        """None: there is no text model."""
        return 0

    def run(self, clip: Clip, task: Task, *, keep_stages: bool = False) -> Activations:
        """Encode `clip`."""
        self.session.begin()
        d = self.tokenizer.d
        with self.session.timed("tokenize_s"):
            wave = resample(clip.wave, clip.rate, d.sampling_rate)
            stages = self.tokenizer.encode(wave, min(DEFAULT_CODEBOOKS, d.num_quantizers))
        model = self.tokenizer.model
        origin = Origin([str(model.path)], str(clip.path), clip.sha256, task.language)
        timings, memory = dict(self.session.timings), self.session.memory([model])
        return Activations(stages, "", origin, timings, memory, self.session.products())

    def teacher_force(self, run: Activations, reference: Stages, task: Task) -> Stages:
        """There is no text model."""
        return {}

    def transcript(self, ids: Sequence[int], task: Task) -> str:
        """There is no text model."""
        raise NotImplementedError


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open an audio tokenizer file."""
    return AudioTokenizerSystem(files, compute, work)


SYSTEM = SystemType(
    name="mimo_tokenizer",
    family=FAMILY,
    stages=STAGES,
    open=open_system,
    reference="mimo_families.mimo_tokenizer.reference",
    published={ROLE: REPO},
    bundled={"tiny": Bundled({ROLE: TINY})},
    not_run_by=BUILT_ON_LLAMA_CPP,
    sizes=SIZES,
)
