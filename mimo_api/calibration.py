"""Calibrate a checkpoint: what each of its matrices is multiplied with on clips."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimo_agreement.cluster.address import ClusterAddress
from mimo_convert.claims import Claims
from mimo_convert.formats.calibration import CALIBRATION, SELECTION, Calibration, CalibrationClip
from mimo_convert.formats.hessians import folder_of
from mimo_convert.formats.imatrix import read_calibration, write_calibration, write_legacy
from mimo_convert.listener import OnMessage, OnProgress, Phase, heard_by
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.merged_calibration import merged
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.numbers_text import size
from mimo_convert.plan.describe_calibration import describe_calibration
from mimo_convert.terminal import show, tell, warn
from mimo_convert.threads import default_threads
from mimo_families.opening import OpenCheckpoints, open_main, open_members
from mimo_families.registry import families, systems
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import AudioFile, find_clips
from runtime_check.calibrate import heard, split, synthetic
from runtime_check.calibrate.per_clip.packs import PACK_SECONDS, packs_of
from runtime_check.calibrate.tensors import Sized, by_tensor, check_known, matrices_of, names_by_matrix, rows_by_tensor
from runtime_check.choices import AUTO, OFF
from runtime_check.run.members import open_system
from runtime_check.run.references.sources import check_convertible, import_reference, need_pytorch
from runtime_check.run.system import AUTO_LANGUAGE, Compute, SystemType, Task, Work
from runtime_check.run.validate import check_language

from .calibrating.asked import RESUME, check_answering, check_asked, check_can_travel, check_output
from .checking import members
from .paths import with_paths

if TYPE_CHECKING:
    from runtime_check.calibrate.forward import Forward, Forwards
    from runtime_check.calibrate.hessians import HessianFolder
    from runtime_check.calibrate.sensitivity.kept import Backward
    from runtime_check.calibrate.work import WorkFolder

SECONDS = "s of audio"  # of which phases tell how many are done
WORK, SPEECH = ".part", ".synthetic"  # what is behind the output's name in those of the work folder, and of clips


@dataclass(frozen=True)
class CalibrateOptions:
    """Options of a calibration of the checkpoint `model` with `audio`: files, folders or manifests; empty: synthetic
    speech of about `minutes`, unless `others`, calibrations of the same model, are only to be added up.

    `output` is the calibration file, `legacy` the same importance matrix as ik_llama.cpp reads it. `companions` are the
    checkpoints of the other roles; `answers` is a GGUF file of the model, which hears clips without a text. `language`
    is that of the prompt; `seed` decides which clips are held out, and what synthetic ones say. With `show`, a table of
    what was collected is a result. `sensitivity` collects the Fisher information of what each matrix gives, too;
    `hessian` second moments of what it is multiplied with, in a folder beside the output. `cluster` is the address of a
    Dask scheduler, whose workers run the clips, `insecure_cluster` whether it may be one elsewhere without TLS.
    `force` replaces files that are there.
    """

    model: str
    output: Path | None = None
    audio: Sequence[Path] = ()
    threads: int = field(default_factory=default_threads)
    companions: Mapping[str, str | None] = field(default_factory=dict)
    answers: Path | None = None
    legacy: Path | None = None
    others: Sequence[Path] = ()
    show: bool = False
    language: str | None = None
    seed: int = 0
    minutes: float = synthetic.MINUTES
    adapter: str | None = None
    sensitivity: bool = False
    hessian: bool = False
    cluster: str = ""
    insecure_cluster: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        with_paths(self)

    @property
    def collects(self) -> bool:
        """Whether something is collected, rather than added up alone."""
        return bool(self.audio) or not self.others


def calibrate(
    options: CalibrateOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> Calibration:  # fmt: skip
    """Collect what each matrix of a checkpoint is multiplied with on clips, and write it to a calibration file.

    Raises InputError, before anything is computed, for a checkpoint that could not be converted, clips that cannot be
    decoded, one without a text that nothing hears, and outputs that cannot be written, or are there (unless `force`).
    """
    with heard_by(progress, message):
        return _calibrate(options, claims or Claims())


def _calibrate(o: CalibrateOptions, claims: Claims) -> Calibration:
    check_outputs(o)
    address_of(o).check()
    if o.cluster:
        check_asked(collects=o.collects, sensitivity=o.sensitivity, hessian=o.hessian)
    if o.collects:
        need_pytorch(o.model)
    others = [read_calibration(path) for path in o.others]
    checkpoints = OpenCheckpoints(adapter=o.adapter)
    system, main = open_main(o.model, checkpoints)
    sized = list(sizes_of(system, main))
    for other in others:
        check_known(other.columns, sized, other.where)
    if o.collects:
        opened = open_members(system, main, o.model, o.companions, checkpoints)
        for family in system.families:
            check_convertible(opened[family.role], family)
        if o.cluster:
            check_can_travel(opened.values())
        with Collecting(o, system, opened, sized, claims).working(others) as collected:
            return written(o, merged([collected, *others]), sized)
    return written(o, merged(others), sized)


def written(o: CalibrateOptions, found: Calibration, sized: Sequence[Sized]) -> Calibration:
    """A calibration as it was written, and shown. Raises InputError as `check_outputs`: work took long."""
    check_outputs(o)
    if o.output:
        write_calibration(o.output, found)
        found = read_calibration(o.output)
        tell(f"{quoted(o.output)}: {summary(found)}")
    if o.legacy:
        write_legacy(o.legacy, found)
        tell(f"{quoted(o.legacy)}: the importance matrix alone, as ik_llama.cpp reads it")
    if o.show or not o.output:
        show(describe_calibration(found, matrices_of(sized[0])))
    return found


def check_outputs(o: CalibrateOptions) -> None:
    """Raise InputError for outputs that cannot be written, or are there, and where nothing would come of long work."""
    for path in (o.output, o.legacy):
        check_output(path, force=o.force)
    if o.collects and not o.output:
        raise InputError("--output", "is not given", expected="the calibration file to write: -o calibration.gguf")


def address_of(o: CalibrateOptions) -> ClusterAddress:
    """The cluster that runs the clips, if there is one."""
    return ClusterAddress(o.cluster, o.insecure_cluster, resume=RESUME)


def sizes_of(system: SystemType, main: Checkpoint) -> Iterator[Sized]:
    """The family that is calibrated, and those of other layouts that are made of the same checkpoint, with the sizes
    of it."""
    yield Sized(system.family, system.family.dimensions(main.config))
    for other in systems():
        if other.layout_of == system.name:
            for family in other.families:
                yield Sized(family, family.dimensions(main.config))


def summary(calibration: Calibration) -> str:
    """What a calibration is, in a line."""
    most = max((of.count for of in calibration.columns.values()), default=0)
    clips = sum(clip.part == CALIBRATION for clip in calibration.clips)
    words = "synthetic clips" if calibration.is_synthetic else "clips"
    return f"sums of {len(calibration.columns)} tensors, of {clips} {words} and up to {most:,} positions"


class Collecting:
    """The collection of one run: the clips and their parts, what the model answers, and the sums."""

    def __init__(
        self, o: CalibrateOptions, system: SystemType, checkpoints: Mapping[str, Checkpoint], sized: Sequence[Sized],
        claims: Claims,
    ) -> None:  # fmt: skip
        if not system.calibration:
            what = f"is of {system.family.architecture}, whose family does not say how it is calibrated"
            raise InputError(o.model, what, expected="a model of another family")
        check_language(o.language, system)
        self.o, self.system, self.checkpoints, self.sized, self.claims = o, system, checkpoints, sized, claims
        self.main, self.opened = checkpoints[system.family.role], OpenFiles(families())
        self.is_spoken = bool(o.audio)
        usual = AUTO_LANGUAGE if self.is_spoken else synthetic.LANGUAGE
        self.task = Task(language=o.language or usual)

    @contextmanager
    def working(self, others: Sequence[Calibration]) -> Iterator[Calibration]:
        """The calibration over all clips for it, which can be merged with `others`. Work is kept in a folder beside the
        output, until the block ends without an error."""
        from runtime_check.calibrate.work import WorkFolder  # late: torch is slow to load

        files = sorted(split.usable(self.files()), key=lambda file: file.sha256)  # in which order sums are added
        parts = split.split(files, self.o.seed)
        clips = tuple(CalibrationClip(file.path.name, file.sha256, parts[file.sha256]) for file in files)
        planned = Calibration(
            self.output, "", self.system.family.architecture, {}, clips=clips, model=self.main.name,
            is_synthetic=all(file.is_synthetic for file in files),
        )  # fmt: skip
        merged([planned, *others])  # before long work
        chosen = [file for file in files if parts[file.sha256] == CALIBRATION]
        selected = [file for file in files if parts[file.sha256] == SELECTION and self.o.hessian]
        if self.o.answers:
            check_answering(self.o.answers, self.system, self.main, self.opened)
        else:
            heard.check_answered([*chosen, *selected])
        split.tell_of_split(files, parts)
        if planned.is_synthetic:
            warn("synthetic: no clip is a recording, and files calibrated with it gain less on real voices")
        work = WorkFolder(beside(self.output, WORK), self.origin([*chosen, *selected], parts))
        yield self.over(planned, chosen, selected, work)
        work.remove()

    @property
    def output(self) -> Path:
        """The calibration file."""
        assert self.o.output is not None
        return self.o.output

    def files(self) -> list[AudioFile]:
        """The clips as the user names them, or synthetic ones, which are written beside the output."""
        if self.is_spoken:
            found = find_clips(self.o.audio)
            for file in found:
                self.claims.reads("--audio", file.path)
            return found
        synthetic.check_can_speak(self.task.language)
        folder = beside(self.output, SPEECH)
        tell(f"no --audio: synthetic speech by espeak-ng, written to {quoted(folder)}")
        planned = synthetic.plan(self.task.language, self.o.minutes, self.o.seed)
        return find_clips([synthetic.write_clips(folder, planned, self.o.seed)])

    def origin(self, files: Sequence[AudioFile], parts: Mapping[str, str]) -> dict[str, Any]:
        """What decides every number of the run."""
        checkpoints = self.checkpoints.values()
        shards = {tensor.file: one.shards for one in checkpoints for tensor in one.tensors.values()}
        answers = self.o.answers.stat() if self.o.answers else None
        return {
            "version": f"mimo-convert {version('mimo-convert')}, torch {version('torch')}",
            "model": sorted(of.identity(file) for file, of in shards.items()),
            "config": [one.config.values for one in checkpoints],
            "adapter": [dict(one.adapter.hashes) for one in checkpoints if one.adapter],
            "clips": [[file.sha256, parts[file.sha256], file.text or ""] for file in files],
            "answers": [str(self.o.answers), answers.st_size, answers.st_mtime_ns] if answers else [],
            "task": list(self.task),
            "seed": self.o.seed,
            "pack": PACK_SECONDS,
            "collected": {"sensitivity": self.o.sensitivity, "hessian": self.o.hessian},
        }

    def over(
        self, planned: Calibration, files: Sequence[AudioFile], selected: Sequence[AudioFile], work: "WorkFolder"
    ) -> Calibration:
        """What was `planned`, with what these clips give; those that are selected are in no sum."""
        open_forwards = import_reference(self.o.model, self.system.calibration, "open_forwards")
        model: Forwards = open_forwards(self.checkpoints, self.task)
        responses = self.responses([*files, *selected], model, work)
        if self.o.cluster:
            return self.on_cluster(planned, files, responses, work)
        return self.here(planned, files, selected, model, responses, work)

    def on_cluster(
        self, planned: Calibration, files: Sequence[AudioFile], responses: Mapping[str, list[int]], work: "WorkFolder"
    ) -> Calibration:
        """What was `planned`, with what workers of a cluster collect."""
        from runtime_check.calibrate.per_clip.in_order import PackSums

        from .calibrating.cluster import sums_on_cluster
        from .calibrating.planned import packs_over, places_of

        packs = packs_over(files, responses, self.system.cutting)
        kept = PackSums(work.folder)
        model, places = places_of(self.system, self.checkpoints, self.task, files)
        sums_on_cluster(packs, kept, model, places, address_of(self.o))
        return replace(
            planned,
            columns=by_tensor(self.sized, {name: of.columns for name, of in kept.total.items()}),
            tokens=sum(len(piece.response) for pack in packs for piece in pack.pieces),
        )

    def here(
        self, planned: Calibration, files: Sequence[AudioFile], selected: Sequence[AudioFile], model: "Forwards",
        responses: Mapping[str, list[int]], work: "WorkFolder",
    ) -> Calibration:  # fmt: skip
        """What was `planned`, with what is collected in this process."""
        from runtime_check.calibrate.collect import Recorder, collect, using_threads
        from runtime_check.calibrate.hessians import MomentRecorder

        with using_threads(self.o.threads):
            forwards, seconds = self.forwards(files, model, responses, work)
            selected = heard.without_noise(selected)
            others = self.forwards(selected, model, responses, work)[0] if selected else {}
            every = [*forwards.values(), *others.values()]
            hessians = self.hessians(model, every[0], work) if self.o.hessian else None
            first, states, sums = work.resume(len(every[0].steps))
            if first == 0 or (hessians and min(hessians.missing, default=first) < first):
                first, states, sums = 0, [forward.start for forward in every], {}
            recorder = MomentRecorder(model.weights, sums, hessians) if hessians else Recorder(model.weights, sums)
            backward = self.backward(model, forwards, work) if self.o.sensitivity else None

            def done(step: int, states: Sequence[Any]) -> None:
                if backward:
                    backward.keep(step, states)
                work.keep(step, states, sums)

            collect(every, recorder, states, first, done, len(others), packs_of(seconds))
            fisher = backward.run(model.weights) if backward else {}
        return replace(
            planned,
            columns=by_tensor(self.sized, {name: of.columns for name, of in sums.items()}),
            fisher=rows_by_tensor(self.sized, fisher),
            tokens=sum(len(forward.response) for forward in forwards.values()),
            hessians=hessians.hashes if hessians else {},
        )

    def hessians(self, model: "Forwards", forward: "Forward", work: "WorkFolder") -> "HessianFolder":
        """Where second moments are written to. Raises InputError if the disk has not the room."""
        from runtime_check.calibrate.hessians import HessianFolder
        from runtime_check.calibrate.structure import inputs_of

        folder, names = folder_of(self.output), names_by_matrix(self.sized)
        steps = inputs_of(forward, model.checkpoint.tensors)
        found = HessianFolder(folder, steps, lambda matrix: names.get(matrix, ()), work.origin_sha256)
        tell(f"{quoted(folder)}: {size(found.check_room())} of second moments are to be written")
        return found

    def backward(self, model: "Forwards", forwards: "Mapping[str, Forward]", work: "WorkFolder") -> "Backward":
        """The walk back that gives sensitivities; told if the clips are few."""
        from runtime_check.calibrate.sensitivity.kept import Backward

        found = Backward(work.folder, forwards, self.o.seed, model.checkpoint.tensors)
        found.warn_if_few()
        return found

    def responses(self, files: Sequence[AudioFile], model: "Forwards", work: "WorkFolder") -> dict[str, list[int]]:
        """The model's response to each piece of the clips, by its name: the known text, else what is heard; without
        pieces of which neither is known."""
        known = [file for file in files if heard.is_known(file)]
        found = {heard.name_of(file, 0): model.response(file.text or "") for file in known}
        if len(known) < len(files):
            found |= self.answers([file for file in files if file not in known], work)
        return {name: response for name, response in found.items() if response}

    def answers(self, files: Sequence[AudioFile], work: "WorkFolder") -> dict[str, list[int]]:
        """What the GGUF file hears in each piece of clips without a text."""
        assert self.o.answers is not None
        opened, paths = self.opened, members(self.o.answers, self.opened, {})[1]
        seconds = sum(file.seconds for file in files)
        compute, running = Compute(self.o.threads, OFF, AUTO), Phase("answers", seconds, SECONDS)
        answer = heard.heard_by(open_system(self.system, paths, opened, compute, Work(seconds, len(files))), self.task)
        found = {}
        for piece in heard.pieces_of(files, self.system.cutting):
            found[piece.name] = work.answer(piece.name, partial(answer, piece))
            running.advance(piece.clip.seconds, piece.file.path.name)
        running.end()
        return found

    def forwards(
        self, files: Sequence[AudioFile], model: "Forwards", responses: Mapping[str, list[int]], work: "WorkFolder"
    ) -> "tuple[dict[str, Forward], list[float]]":
        """The forward of each piece with its response, by the piece's name, and the seconds of each."""
        running = Phase("audio features", sum(file.seconds for file in files), SECONDS)
        found: dict[str, Forward] = {}
        lengths: list[float] = []
        for piece in heard.pieces_of(files, self.system.cutting):
            if piece.name in responses:
                features = work.features(piece.name, partial(model.features, piece.clip))
                found[piece.name] = model.forward_of(features, responses[piece.name])
                lengths.append(piece.clip.seconds)
            running.advance(piece.clip.seconds, piece.file.path.name)
        running.end()
        if not found:
            raise InputError("--audio", "no clip is left to calibrate with", todo="give more clips, or their texts")
        return found, lengths


def beside(output: Path, suffix: str) -> Path:
    """A folder beside the output, named after it."""
    return output.with_name(output.name + suffix)
