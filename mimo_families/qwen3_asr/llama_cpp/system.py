"""The system of the pair: what `system.py` of one file does, with the encoder in a file of its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mimo_convert.model.model_file import ModelFile
from mimo_families.programs import CRISPASR
from quantize.types import TYPES
from runtime_check.run.system import NO_WORK, Compute, Runtime, System, SystemType, Work

from ..front_end import LLAMA_CPP
from ..layout import FAMILY as ONE_FILE
from ..stages import ROLE, SIZES, STAGES, of_encoder, reference_problems
from ..system import SYSTEM as OF_ONE_FILE
from ..system import Qwen3ASRSystem
from .layout import ENCODER_ROLE, MMPROJ, PREFIX, TEXT

if TYPE_CHECKING:
    from runtime_check.ggml.graph import Backend

    from ..harness import Recognizer

assert ONE_FILE.role == ROLE == TEXT.role

PAIR_STAGES = tuple(stage._replace(role=ENCODER_ROLE) if of_encoder(stage) else stage for stage in STAGES)
OF_ENCODER = ("n_mels", "audio_dim", "audio_layers")  # sizes


class PairSystem(Qwen3ASRSystem):
    """A text model and its `mmproj` file, ready to run."""

    stages = PAIR_STAGES
    roles: Sequence[str] = (ROLE, ENCODER_ROLE)

    def recognizer(self, files: Mapping[str, ModelFile], backend: "Backend") -> "Recognizer":
        from .harness import PairRecognizer

        return PairRecognizer(files[ROLE], files[ENCODER_ROLE], backend)


def open_system(files: Mapping[str, ModelFile], compute: Compute, work: Work = NO_WORK) -> System:
    """Open the pair."""
    return PairSystem(files, compute, work)


# An empty prompt would begin a chat; without --jinja the template of the file is not used, but one without a system.
COMMAND = (
    "llama-mtmd-cli", "-m", "{file}", "--mmproj", "{companion}", "--audio", "{clip}", "-p", "<__media__>", "--jinja",
    "--temp", "0", "-n", "512", "-c", "4096",
)  # fmt: skip

REMARK = "Its front end pads otherwise than the model's, as --runtime llama.cpp of mimo-check computes, too."

SYSTEM = SystemType(
    name="qwen3_asr_llama_cpp",
    family=TEXT,
    companions=(MMPROJ,),
    stages=PAIR_STAGES,
    open=open_system,
    reference=OF_ONE_FILE.reference,
    languages=OF_ONE_FILE.languages,
    task_options=OF_ONE_FILE.task_options,
    imitates=OF_ONE_FILE.imitates,
    published=OF_ONE_FILE.published,
    reference_problems=reference_problems,
    sizes={name: (ENCODER_ROLE if size in OF_ENCODER else role, size) for name, (role, size) in SIZES.items()},
    runtimes=[Runtime(LLAMA_CPP, "https://github.com/ggml-org/llama.cpp", COMMAND, remark=REMARK)],
    not_run_by=(CRISPASR,),  # which loads the one file
    least_companion=TYPES["q8_0"],
    cutting=OF_ONE_FILE.cutting,
    layout_of=OF_ONE_FILE.name,
    runtime=LLAMA_CPP,
    companion_prefix=PREFIX,
    companion_key=PREFIX.rstrip("-"),
)
