"""Check a file: lint, row-by-row comparison, run, and stage-by-stage comparison with a reference."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, repeat
from pathlib import Path

import numpy as np

from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.family import Family
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint, model_of_file
from mimo_convert.terminal import show
from mimo_convert.threads import default_threads
from mimo_families.adapters import adapter_for
from mimo_families.companions import refuse_companion
from mimo_families.comparison import Comparison, comparison_of
from mimo_families.opening import OpenCheckpoints, find_reference, open_reference, open_source
from mimo_families.registry import families, system_of
from mimo_families.same_model import check_reference_model, check_same, models_of
from mimo_families.sources import GGUF, ModelSource, resolve
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted
from runtime_check.audio.jfk import JFK
from runtime_check.audio.manifests import AudioFile, find_clips
from runtime_check.audio.write import write_wav
from runtime_check.calibrate.held_out import check_calibrated_with, held_out_of
from runtime_check.choices import AUTO
from runtime_check.report.records import Report
from runtime_check.report.results import NO_OUTPUTS, Outputs, Results
from runtime_check.run.activations import Activations, Stages
from runtime_check.run.members import Paths, members_of, open_system
from runtime_check.run.references.sources import file_reference
from runtime_check.run.system import System, SystemType, Task
from runtime_check.run.validate import Inputs, check_language, check_task_options, choose_language, validate
from runtime_check.static.lint import lint
from runtime_check.tensors.compare import compare_tensors

from .paths import with_paths

TOKENIZER, REFERENCE_TOKENIZER = "--tokenizer", "--reference-tokenizer"


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check: `file` is a GGUF file, `audio` audio files, folders of them, or manifests.

    `companions` are files of the other roles (None: those beside `file`), `reference_companions` the checkpoints, or
    GGUF files, beside `reference`, by role. `compare` is what of the file is compared with `reference` (rows, stages or
    both; None: stages, and of a GGUF file both). `against` is another name of a `reference` that is a GGUF file;
    `checkpoint` is compared row by row, beside it; by its bytes also a file that was quantized with the importance
    matrix `imatrix`. `adapter` is the folder of a LoRA adapter for these checkpoints, or
    `none`. `wav` is a file for the wave that is computed of the only clip.

    `others` are more files of the same model, which are checked beside `file` on the same clips. `calibration` is the
    file that they were calibrated with: only clips that it holds out are run, if `audio` has any.
    """

    file: Path
    audio: Sequence[Path] = (JFK,)
    outputs: Outputs = NO_OUTPUTS
    threads: int = field(default_factory=default_threads)
    companions: Mapping[str, Path | None] = field(default_factory=dict)
    reference_companions: Mapping[str, str | None] = field(default_factory=dict)
    reference: str | None = None
    compare: str | None = None
    reference_dtype: str = "f32"
    against: Path | None = None
    static: bool = False
    checkpoint: str | None = None
    imatrix: Path | None = None
    text: str | None = None
    language: str | None = None
    context: str = ""
    attention: str = AUTO
    runtime: str = ""
    max_new_tokens: int | None = None
    repack: str = "auto"
    products: str = "auto"
    dump: Path | None = None
    adapter: str | None = None
    wav: Path | None = None
    others: Sequence[Path] = ()
    calibration: Path | None = None

    def __post_init__(self) -> None:
        with_paths(self)

    @property
    def files(self) -> Sequence[Path]:
        """Every file that is checked, `file` first."""
        return (self.file, *self.others)


def check(
    options: CheckOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> Report:  # fmt: skip
    """Check a file, as `mimo-check FILE` does: the report has a part for each look at it and each clip.

    Raises InputError for a file, reference or clip that cannot be read or does not fit, and for outputs that cannot be
    written.
    """
    with heard_by(progress, message):
        return _check(options, claims or Claims())


def _check(o: CheckOptions, claims: Claims) -> Report:
    compared = comparison_of(o.reference, o.compare, o.against, o.checkpoint, o.static)
    o.outputs.check()
    check_can_write(o.wav)
    if o.wav and not compared.is_run:
        raise InputError("--wav", "nothing is run that would make a sound", todo="leave out --wav, or run the file")
    check_alone(o)
    make_folder(o.dump)
    files, results = OpenFiles(families()), Results("mimo-check")
    checkpoints = OpenCheckpoints(adapter=adapter_for(o.file, files, o.adapter))
    for file in o.files if compared.lint else ():
        results.add(lint(file, files, o.threads, hashed=compared.is_run))
    with results.as_far_as_possible():
        compare(o, compared, files, checkpoints, results)
        if compared.is_run:
            run_file(o, compared, files, checkpoints, results, claims)
    return results.write(o.outputs)


def compare(
    o: CheckOptions, compared: Comparison, files: OpenFiles, checkpoints: OpenCheckpoints, results: Results
) -> None:
    """Compare every row with checkpoints, and with another file. Raises InputError for an importance matrix that is of
    none of these comparisons, or that a file was not made with."""
    calibration = read_calibration(o.imatrix) if o.imatrix else None
    if calibration and all(source.kind is GGUF for source in compared.rows):
        raise InputError("--imatrix", "reproduces rows of a checkpoint", expected="--checkpoint CKPT beside it")
    for source, file in product(compared.rows, o.files):
        theirs = rows_of(source, files.family(file), files, checkpoints)
        ours = model_of_file(file, files)
        check_same(ours, theirs)
        of_source = None if source.kind is GGUF else calibration
        results.add(compare_tensors(ours, theirs, o.threads, of_source))


def rows_of(source: ModelSource, family: Family, files: OpenFiles, checkpoints: OpenCheckpoints) -> SourceModel:
    """The model that a file of `family` is compared with row by row."""
    if source.kind is GGUF:
        return model_of_file(Path(source.value), files)
    return model_of_checkpoint(open_source(source.value, family, checkpoints), family)


def run_file(
    o: CheckOptions, compared: Comparison, files: OpenFiles, checkpoints: OpenCheckpoints, results: Results,
    claims: Claims,
) -> None:  # fmt: skip
    """Run each file with its companions on every clip and compare it with the reference."""
    given = {role: path for role, path in o.companions.items() if path}
    run = [members(file, files, given) for file in o.files]
    system = run[0][0]
    for (other, paths), file in zip(run, o.files, strict=True):
        if other is not system:
            raise InputError(file, f"is of {other.family.architecture}", expected=system.family.architecture)
        for role in paths.keys() - {system.family.role}:
            claims.reads("--tokenizer", paths[role])
    check_language(o.language, system)
    check_task_options(system, o.language, context=o.context, attention=o.attention, runtime=o.runtime)
    clips = clips_of(o, files, results)
    for clip in clips:
        claims.reads("--audio", clip.path)
    keep = o.dump is not None
    inputs = Inputs(
        clips,
        language=o.language,
        repack=o.repack,
        products=o.products,
        max_new_tokens=o.max_new_tokens,
        context=o.context,
        attention=o.attention,
        runtime=o.runtime,
        keep_stages=keep,
        needs_wave=o.wav is not None,
    )
    if compared.stages:
        inputs = with_reference(o, compared.stages, files, checkpoints, run, inputs)
    inputs.check_clips()
    check_wav(o, clips)
    folders = folders_of(clips, o.dump) if o.dump else repeat(None)
    for checked, folder in zip(validate(inputs, run, files, o.threads), folders, strict=False):
        results.add_check(checked)
        if o.wav and checked.wave:
            write_wav(o.wav, checked.wave.wave, checked.wave.rate)
        if folder:
            make_folder(folder)
            write_stages(folder, checked.stages, claims)


def clips_of(o: CheckOptions, files: OpenFiles, results: Results) -> Sequence[AudioFile]:
    """The clips to run: those that the calibration holds out, if there is one. Raises InputError for clips that it was
    made with."""
    clips = find_clips(o.audio, o.text)
    if o.calibration is None:
        return clips
    calibration = read_calibration(o.calibration)
    check_calibrated_with({file: files.header(file) for file in o.files}, calibration)
    chosen, results.held_out = held_out_of(clips, calibration)
    return chosen


def check_alone(o: CheckOptions) -> None:
    """Raise InputError for outputs of a single run, if there are several files."""
    for name, value in (("--wav", o.wav), ("--dump", o.dump)):
        if value and o.others:
            raise InputError(name, f"is of one file, found {len(o.files)}", todo="run them one by one")


def check_wav(o: CheckOptions, clips: Sequence[AudioFile]) -> None:
    """Raise InputError if one file cannot hold the wave of every clip."""
    if o.wav and len(clips) > 1:
        raise InputError("--wav", f"is of one clip, found {len(clips)}", todo="run them one by one")


def members(file: Path, files: OpenFiles, given: Paths, option: str = TOKENIZER) -> tuple[SystemType, Paths]:
    """The system of a file, and its files, companions as `given` by `option`: for its role, or the only one. Raises
    InputError for a companion that it does not have."""
    system = system_of(files.family(file))
    if len(given) == len(system.companions) == 1 and files.family(*given.values()) is system.companions[0]:
        given = dict(zip(system.roles[1:], given.values(), strict=True))
    for role in given.keys() - set(system.roles[1:]):
        refuse_companion(system, file, role, given[role], option, files.family(given[role]))
    return system, members_of(file, system, given, files, f"name it: {option}")


def with_reference(
    o: CheckOptions, source: ModelSource, files: OpenFiles, checkpoints: OpenCheckpoints,
    run: Sequence[tuple[SystemType, Paths]], inputs: Inputs,
) -> Inputs:  # fmt: skip
    """The inputs with the reference `source` for the files that are run. Raises InputError for one of another model."""
    if source.kind is GGUF:
        given = {role: Path(resolve(name, [GGUF]).value) for role, name in o.reference_companions.items() if name}
        other, paths = members(Path(source.value), files, given, REFERENCE_TOKENIZER)

        def open_other() -> System:
            return open_system(other, paths, files, inputs.compute(o.threads), inputs.work)

        return replace(inputs, reference=file_reference(open_other))
    system, hashes = run[0][0], [clip.sha256 for clip in inputs.clips]
    found = find_reference(
        source.value, o.reference_companions, hashes, system, o.reference_dtype, checkpoints, option=REFERENCE_TOKENIZER
    )
    for _, paths in run:
        check_reference_model(system, models_of(paths, files), found, source.value)
    return replace(inputs, reference=found)


@dataclass(frozen=True)
class ReferenceOptions:
    """Options of a stored reference: the checkpoint `model` is run on the clip `audio`, and every stage stored as the
    file `output`. `companions` are the checkpoints of the other roles (None: the published ones); `adapter` is the
    folder of a LoRA adapter for `model`."""

    model: str
    output: Path
    audio: Path = JFK
    companions: Mapping[str, str | None] = field(default_factory=dict)
    text: str | None = None
    language: str | None = None
    context: str = ""
    attention: str = AUTO
    max_new_tokens: int = 1
    dtype: str = "f32"
    adapter: str | None = None
    runtime: str = ""

    def __post_init__(self) -> None:
        with_paths(self)


def make_reference(
    options: ReferenceOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None
) -> Activations:
    """Run a checkpoint in PyTorch on a clip and store every stage, for checks without torch; returns the stages.

    Raises InputError for a checkpoint that cannot be run, or an output that cannot be written.
    """
    with heard_by(progress, message):
        return _make_reference(options)


def _make_reference(o: ReferenceOptions) -> Activations:
    check_can_write(o.output)
    [file] = find_clips([o.audio], o.text)
    clip = file.read()
    system, reference = open_reference(o.model, o.companions, o.dtype, OpenCheckpoints(adapter=o.adapter))
    check_task_options(system, o.language, context=o.context, attention=o.attention, runtime=o.runtime)
    language = choose_language(o.language, None, clip, system, o.runtime)
    task = Task("transcribe", language, o.max_new_tokens, o.context, o.attention, o.runtime)
    activations = reference.activations(clip, task, None)
    activations.save(o.output)
    transcript = quoted(repr(activations.transcript), 1000)
    show(f"{quoted(o.output)}: {len(activations.stages)} stages of {quoted(clip.path.name)}; {transcript}")
    return activations


def folders_of(clips: Sequence[AudioFile], dump: Path) -> Iterator[Path]:
    """The output folder of each clip's stages; `clip.wav (2)` for a repeated name."""
    seen: Counter[str] = Counter()
    for clip in clips:
        seen[clip.path.name] += 1
        n = seen[clip.path.name]
        yield dump if len(clips) == 1 else dump / (clip.path.name if n == 1 else f"{clip.path.name} ({n})")


def write_stages(folder: Path, stages: Stages, claims: Claims) -> None:
    """Write every stage as `<stage>.npy`, atomically. Raises InputError if one cannot be written."""
    for name, array in stages.items():
        path = folder / f"{name}.npy"
        claims.writes("--dump", path)
        data = io.BytesIO()  # numpy's own writing to a file says not why it failed
        np.save(data, array)
        write_whole(path, data.getbuffer())


def make_folder(folder: Path | None) -> None:
    """Create the folder, if given, before long work. Raises InputError if it cannot be created."""
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be written: {reason_of(error)}", todo="choose another --dump") from error
