"""Check a file: lint, row-by-row comparison, run, and stage-by-stage comparison with a reference."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np

from mimo_convert.claims import Claims
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint, model_of_file
from mimo_convert.outcome import exit_status
from mimo_convert.terminal import show
from mimo_families.opening import OpenCheckpoints, find_reference, open_reference, open_source, refuse_companion
from mimo_families.registry import families, system_of
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted
from runtime_check.audio.manifests import AudioFile, find_clips
from runtime_check.report.results import Outputs, Results
from runtime_check.run.activations import Stages
from runtime_check.run.members import Paths, members_of, open_system
from runtime_check.run.references.sources import file_reference
from runtime_check.run.system import System, SystemType, Task
from runtime_check.run.validate import Inputs, check_language, choose_language, validate
from runtime_check.static.lint import lint
from runtime_check.tensors.compare import compare_tensors

NAME_IT = "name it: --tokenizer"


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check.

    `companions` are files of the other roles (None: those beside `file`), `reference_companions` the checkpoints beside
    a `reference` checkpoint, by role. `checkpoint`, or another file `against`, is the source of the row-by-row
    comparison.
    """

    file: Path
    outputs: Outputs
    audio: Sequence[Path]
    threads: int
    companions: Mapping[str, Path | None]
    reference_companions: Mapping[str, str | None]
    reference: str | None = None
    reference_dtype: str = "f32"
    against: Path | None = None
    static: bool = False
    checkpoint: str | None = None
    text: str | None = None
    language: str | None = None
    max_new_tokens: int | None = None
    repack: str = "auto"
    dump: Path | None = None

    @property
    def is_run(self) -> bool:
        """Whether the file is run."""
        return bool(self.reference or self.against or not (self.static or self.checkpoint))


def run(o: CheckOptions, claims: Claims) -> int:
    """Check a file; returns the exit status."""
    if o.reference and o.against:
        raise InputError("--against", "and --reference: there can be one reference", todo="give one of them")
    o.outputs.check()
    make_folder(o.dump)
    files, checkpoints, results = OpenFiles(families()), OpenCheckpoints(), Results("mimo-check")
    if o.static or o.checkpoint:
        results.add(lint(o.file, files, o.threads))
    with results.as_far_as_possible():
        compare(o, files, checkpoints, results)
        if o.is_run:
            run_file(o, files, checkpoints, results, claims)
    results.write(o.outputs)
    return exit_status([results.passed])


def compare(o: CheckOptions, files: OpenFiles, checkpoints: OpenCheckpoints, results: Results) -> None:
    """Compare every row with the checkpoint, and with another file."""
    if o.checkpoint:
        family = files.family(o.file)
        source = model_of_checkpoint(open_source(o.checkpoint, family, checkpoints), family)
        results.add(compare_tensors(source_model(o.file, files), source, o.threads))
    if o.against:
        results.add(compare_tensors(source_model(o.file, files), source_model(o.against, files), o.threads))


def source_model(path: Path, files: OpenFiles) -> SourceModel:
    """The model in a GGUF file."""
    return model_of_file(files.model(path), files.shards)


def run_file(o: CheckOptions, files: OpenFiles, checkpoints: OpenCheckpoints, results: Results, claims: Claims) -> None:
    """Run the file with its companions on every clip and compare it with the reference."""
    system, paths = members(o.file, files, {role: path for role, path in o.companions.items() if path})
    for role, path in paths.items():
        if role != system.family.role:
            claims.reads("--tokenizer", path)
    check_language(o.language, system)
    clips = find_clips(o.audio, o.text)
    for clip in clips:
        claims.reads("--audio", clip.path)
    keep = o.dump is not None
    inputs = Inputs(clips, language=o.language, repack=o.repack, max_new_tokens=o.max_new_tokens, keep_stages=keep)
    inputs = with_reference(o, files, checkpoints, system, inputs)
    inputs.check_clips()
    folders = folders_of(clips, o.dump) if o.dump else repeat(None)
    for checked, folder in zip(validate(inputs, [(system, paths)], files, o.threads), folders, strict=False):
        results.add(checked.check)
        if folder:
            make_folder(folder)
            write_stages(folder, checked.stages, claims)


def members(file: Path, files: OpenFiles, given: Paths) -> tuple[SystemType, Paths]:
    """The system of a file, and its files. Raises InputError for a companion that it does not have."""
    system = system_of(files.family(file))
    for role in given.keys() - set(system.roles[1:]):
        refuse_companion(system, file, role, given[role], "--tokenizer", files.family(given[role]))
    return system, members_of(file, system, given, files, NAME_IT)


def with_reference(
    o: CheckOptions, files: OpenFiles, checkpoints: OpenCheckpoints, system: SystemType, inputs: Inputs
) -> Inputs:
    """The inputs with the reference."""
    if o.against:
        other, paths = members(o.against, files, {})

        def open_other() -> System:
            return open_system(other, paths, files, o.threads, o.repack, inputs.work)

        return replace(inputs, reference=file_reference(open_other))
    if o.reference:
        hashes = [clip.sha256 for clip in inputs.clips]
        found = find_reference(o.reference, o.reference_companions, hashes, system, o.reference_dtype, checkpoints)
        return replace(inputs, reference=found)
    return inputs


def make_reference(
    model: str, companions: Mapping[str, str | None], audio: Path, text: str | None, language: str | None,
    max_new_tokens: int, dtype: str, output: Path,
) -> None:  # fmt: skip
    """Run the checkpoint `model` in PyTorch on a clip and store every stage, for checks without torch."""
    check_can_write(output)
    [file] = find_clips([audio], text)
    clip = file.read()
    system, reference = open_reference(model, companions, dtype, OpenCheckpoints())
    task = Task(language=choose_language(language, None, clip, system), max_new_tokens=max_new_tokens)
    activations = reference.activations(clip, task, None)
    activations.save(output)
    transcript = quoted(repr(activations.transcript), 1000)
    show(f"{quoted(output)}: {len(activations.stages)} stages of {quoted(clip.path.name)}; {transcript}")


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
