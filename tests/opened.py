"""Short ways to what tests open again and again: the families of this package, handed to the engines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.model.family import family_of
from mimo_convert.model.model_file import ModelFile, OpenFiles
from mimo_convert.model.source_model import SourceModel
from mimo_convert.model.source_model import model_of_checkpoint as model_of_checkpoint_of
from mimo_convert.model.source_model import model_of_file as model_of_opened_file
from mimo_convert.plan import request as requests
from mimo_convert.plan.plan import NO_OPTIONS, Options
from mimo_convert.plan.request import Request
from mimo_convert.threads import default_threads
from mimo_families.mimo_audio.layout import FAMILY as SPEECH_LM
from mimo_families.mimo_audio.system import SYSTEM, TINY
from mimo_families.mimo_tokenizer.layout import FAMILY as AUDIO_TOKENIZER
from mimo_families.mimo_tokenizer.system import SYSTEM as TOKENIZER_SYSTEM
from mimo_families.registry import families, systems
from quantize.backends import AUTO
from quantize.recipes import Rule
from quantize.types import Type
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import Activations
from runtime_check.run.check import Checked, check
from runtime_check.run.facts import file_facts
from runtime_check.run.members import open_system
from runtime_check.run.references.stored import load_reference as load_reference_of
from runtime_check.run.system import NO_WORK, Compute, System, Task, Work
from runtime_check.static import lint as linting
from runtime_check.static.records import LintResult
from runtime_check.tensors.compare import compare_tensors
from runtime_check.tensors.records import TensorCheck

NO_SPEECH = frozenset({"speech_generation"})
TINY_ASR, TINY_TOKENIZER, TINY_REFERENCE = TINY / "asr", TINY / "tokenizer", TINY / "reference.safetensors"


def model_of_checkpoint(checkpoint: Checkpoint) -> SourceModel:
    """The model in a checkpoint of a known family."""
    return model_of_checkpoint_of(checkpoint, family_of(families(), checkpoint))


def options_of(
    fuse_qkv: bool = False, asr_only: bool = False, rules: tuple[Rule, ...] = (), allow_requantize: bool = False,
    quantizer: str = AUTO,
) -> Options:  # fmt: skip
    """What a user chose beside the type."""
    return Options(fuse_qkv, NO_SPEECH if asr_only else frozenset(), rules, allow_requantize, quantizer)


def make_request(checkpoint: Checkpoint, types: Sequence[Type], options: Options = NO_OPTIONS) -> Request:
    """What is to be made of a checkpoint of a known family."""
    return requests.make_request(model_of_checkpoint(checkpoint), types, options)


def model_file(path: Path) -> ModelFile:
    """A GGUF file of a known family, opened."""
    return OpenFiles(families()).model(path)


def model_of_file(path: Path) -> SourceModel:
    """The model in a GGUF file of a known family."""
    return model_of_opened_file(path, OpenFiles(families()))


def lint(path: Path, threads: int = 2, weights: bool = True) -> LintResult:
    """The lint of a file."""
    return linting.lint(path, OpenFiles(families()), threads, weights=weights)


def check_against(path: Path, source: SourceModel, threads: int = 2) -> TensorCheck:
    """A file compared, row by row, with what it was made from."""
    return compare_tensors(model_of_file(path), source, threads)


def load_reference(path: Path) -> Activations:
    """A stored reference of a known system."""
    return load_reference_of(path, systems())


def paths_of(lm: Path | None, tokenizer: Path) -> Mapping[str, Path]:
    """The files of a pair, or of an audio tokenizer alone, by role."""
    return {AUDIO_TOKENIZER.role: tokenizer} | ({SPEECH_LM.role: lm} if lm else {})


def open_pair(
    lm: Path | None,
    tokenizer: Path,
    threads: int | None = None,
    repack: str = "off",
    work: Work = NO_WORK,
    products: str = AUTO,
) -> System:
    """A speech LM and an audio tokenizer, or an audio tokenizer alone, ready to run."""
    files, system = OpenFiles(families()), SYSTEM if lm else TOKENIZER_SYSTEM
    return open_system(
        system, paths_of(lm, tokenizer), files, Compute(threads or default_threads(), repack, products), work
    )


def check_pair(
    lm: Path | None,
    tokenizer: Path,
    clip: Clip,
    reference: Activations | None,
    max_new_tokens: int | None = None,
    threads: int | None = None,
) -> Checked:
    """A check of a pair on a clip, in English, against stages that are known."""
    system, files = open_pair(lm, tokenizer, threads), OpenFiles(families())
    facts = [file_facts(member.role, member.model, files) for member in system.members]
    make = None if reference is None else lambda response: reference
    return check(system, lambda: facts, clip, Task(language="english", max_new_tokens=max_new_tokens), make)


def open_tiny() -> Checkpoint:
    """The bundled speech LM's checkpoint."""
    return open_checkpoint(str(TINY_ASR), "tiny")


def open_tiny_tokenizer() -> Checkpoint:
    """The bundled audio tokenizer's checkpoint."""
    return open_checkpoint(str(TINY_TOKENIZER), "tiny-tokenizer")
