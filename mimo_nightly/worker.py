"""The subprocess that checks one target: download, lint, run, and compare with the reference.

An InputError during downloads and comparison means that the target could not be checked; lint findings and a file that
the harness cannot open mean that it failed.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePath

from mimo_agreement.report.outputs import Outputs as AgreementOutputs
from mimo_convert.command.child import be_first_out_of_memory, end_with_parent
from mimo_convert.command.crash import without_secrets
from mimo_convert.command.outcome import BAD_INPUT, INTERNAL_ERROR
from mimo_convert.files import write_whole
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.terminal import tell
from mimo_families.adapters import adapter_for
from mimo_families.companions import refuse_companion
from mimo_families.opening import OpenCheckpoints, find_reference
from mimo_families.registry import families, system_of
from mimo_families.same_model import check_reference_model, models_of
from mimo_nightly.agreement.problems import beyond_tolerance, not_measured
from mimo_nightly.agreement.records import AgreementSet
from mimo_nightly.files.fetch import Fetched, fetch
from quantize.errors import InputError
from runtime_check.audio.manifests import find_clips
from runtime_check.report.results import Outputs, Results
from runtime_check.run.members import Paths, companion_names, declared_type, members_of, open_system
from runtime_check.run.system import SystemType
from runtime_check.run.transcription.length import check_length
from runtime_check.run.validate import Inputs, Ready, check_language, check_task_options, validate_clip
from runtime_check.static.lint import lint

from .config import Target
from .history import FAILED, PASSED, UNCHECKED, WHOLE, FileRow
from .process import Found, Job, beside

AUDIO_TOKENIZER = "audio_tokenizer"  # the role that the config's key `reference_tokenizer` is about
REFERENCE_TOKENIZER = "reference_tokenizer ="


def main() -> None:
    """Do the job on stdin; the exit status is 0 if the result was written, 3 after an unexpected exception."""
    try:
        do_job()
    except InputError as error:
        tell(f"error: {error}")
        sys.exit(BAD_INPUT)
    except Exception:  # shown in the target's log, and told by the status
        sys.stderr.write(without_secrets(traceback.format_exc()))
        sys.exit(INTERNAL_ERROR)


def do_job() -> None:
    """Check the target of the job on stdin and write the result."""
    values = json.loads(sys.stdin.readline())
    agreement = values["target"]["agreement"]
    target = values["target"] | {"agreement": AgreementSet(**agreement) if agreement else None}
    job = Job(**values | {"target": Target(**target)})
    end_with_parent()
    be_first_out_of_memory()
    result = beside(Path(job.folder), job.target.name, "found")
    write_whole(result, json.dumps(asdict(check_target(job))).encode())


def check_target(job: Job) -> Found:
    """Check the target. Its report, if any, is written to the job's folder."""
    found = Found()
    try:
        check(job, found)
    except EndedEarlyError as ended:
        found.state, found.problems = ended.state, [*found.problems, str(ended)]
        tell(f"{ended.state}: {ended}")
    return found


class EndedEarlyError(Exception):
    """The check ended early with `state`."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


@contextmanager
def if_wrong(state: str, about: str = "") -> Iterator[None]:
    """An InputError in the block sets that state; an OSError means that the target could not be checked. `about` stands
    before either."""
    try:
        yield
    except InputError as error:
        raise EndedEarlyError(state, f"{about}{error}") from error
    except OSError as error:  # a full disk, a file that went away: it is the system's
        what = error.strerror or str(error)
        raise EndedEarlyError(UNCHECKED, f"{about}{error.filename or 'the system'}: {what}") from error


def check(job: Job, found: Found) -> None:
    """Check the target, filling in `found`, and write the report. Raises EndedEarlyError."""
    target, results, files = job.target, Results("mimo-check"), OpenFiles(families())
    with if_wrong(UNCHECKED):
        paths = download(target, Path(job.cache), files, found)
        for path in paths.values():
            results.add(lint(path, files, target.threads, weights=found.scope == WHOLE, hashed=True))
        can_run = bool(results.passed) and found.scope == WHOLE
        if can_run:
            checkpoints = OpenCheckpoints(adapter=adapter_for(paths[target.file], files, target.adapter or None))
            run(target, paths, files, checkpoints, results)
            if target.rows:
                found.problems = [*compare_with_checkpoint(job, paths, files, checkpoints, results, found)]
        html, data = (beside(Path(job.folder), target.name, kind) for kind in ("html", "json"))
        results.write(Outputs(json=data, junit=None, html=html))
        passed = UNCHECKED if found.problems else PASSED
        found.report, found.state = True, passed if results.passed else FAILED
    if target.agreement and can_run:
        with if_wrong(UNCHECKED, "agreement: "):
            agree(job, target.agreement, paths, files, found)


def agree(job: Job, wanted: AgreementSet, paths: Mapping[str, Path], files: OpenFiles, found: Found) -> None:
    """Run the file and its baseline over the agreement set: too many words more that are wrong are a failure, and clips
    without an answer leave it unchecked."""
    from mimo_nightly.agreement.measure import measure_target  # late: most targets have no such set

    system, members = members_of_target(job.target, paths, files)
    baseline = other_file(job, wanted.baseline, "the agreement's baseline", paths, files, found)
    store = Path(job.answers) if job.answers else None
    agreement = measure_target(job.target, wanted, system, members, baseline, files, store)
    html, data = (beside(Path(job.folder), job.target.name, f"agreement.{kind}") for kind in ("html", "json"))
    AgreementOutputs(json=data, html=html).write(agreement)
    beyond, unknown = list(beyond_tolerance(agreement, wanted)), list(not_measured(agreement, wanted))
    found.problems = [*found.problems, *beyond, *unknown]
    if found.state != FAILED and (beyond or unknown):
        found.state = FAILED if beyond else UNCHECKED


def compare_with_checkpoint(
    job: Job, paths: Mapping[str, Path], files: OpenFiles, checkpoints: OpenCheckpoints, results: Results, found: Found
) -> Iterator[str]:
    """Compare every row with the checkpoint; yields why that could not be done, beside what else was found. Raises
    EndedEarlyError for a file of another model."""
    from .files.rows import (  # late: few targets ask for it
        check_same_model,
        compare_rows,
        files_of_checkpoint,
        open_pairs,
    )

    target, (main, *others) = job.target, paths.values()
    try:
        imatrix = other_file(job, target.imatrix, "the imatrix", paths, files, found) if target.imatrix else None
        pairs = open_pairs(target, files_of_checkpoint(main, others, files), files, checkpoints)
        with if_wrong(FAILED, "rows: "):
            check_same_model(pairs)
        for check in compare_rows(pairs, imatrix, target.threads):
            results.add(check)
    except InputError as error:
        yield f"rows: {error}"


def other_file(job: Job, name: str, about: str, paths: Mapping[str, Path], files: OpenFiles, found: Found) -> Path:
    """A file on this disk that is no member of the target's system. Raises InputError if there is no room for it, or if
    the repository has changed since the target's own files were fetched."""
    target = job.target
    if not target.repo or os.path.isabs(name):
        return Path(name)
    fetched = fetch(target.repo, target.revision, [*paths, name], Path(job.cache), tell)
    if fetched.scope != WHOLE:
        raise InputError(f"{target.repo}/{name}", f"the disk has no room for it, {about}")
    if fetched.commit != found.files[0].revision:
        raise InputError(f"{target.repo}@{target.revision}", "has changed during the run", todo="run it again")
    files.set_sha256(fetched.paths[name], fetched.rows[-1].sha256)
    return fetched.paths[name]


def download(target: Target, cache: Path, files: OpenFiles, found: Found) -> Mapping[str, Path]:
    """The target's files on this disk, by the config's names."""
    names = [target.file, *target.beside.values()]
    if target.repo:
        fetched = fetch(target.repo, target.revision, names, cache, tell)
        if not target.beside and (others := beside_in_repo(target.file, fetched, files)):
            names += others
            fetched = fetch(target.repo, target.revision, names, cache, tell)
        found.files, found.scope = fetched.rows, fetched.scope
        if fetched.scope == WHOLE:
            for row, name in zip(fetched.rows, names, strict=True):
                files.set_sha256(fetched.paths[name], row.sha256)
        return fetched.paths
    paths = {name: Path(name) for name in [*names, *([] if target.beside else beside_file(target.file, files))]}
    alike = len({path.name for path in paths.values()}) < len(paths)  # such as asr/model.gguf and tokenizer/model.gguf
    found.files = [local_row(path, name if alike else path.name, files) for name, path in paths.items()]
    return paths


def beside_file(name: str, files: OpenFiles) -> list[str]:
    """The companions beside a local file, of systems whose files are named after each other; none that is missing,
    which is said when it is needed."""
    with suppress(InputError):
        system = system_of(files.family(Path(name)))
        if system.companion_prefix:
            paths = members_of(Path(name), system, {}, files, "")
            return [str(paths[role]) for role in system.roles[1:]]
    return []


def beside_in_repo(name: str, fetched: Fetched, files: OpenFiles) -> list[str]:
    """The companion beside a file that was fetched, of systems whose files are named after each other, by its name in
    the repository; none if that has no such file."""
    with suppress(InputError):
        main = fetched.paths[name]
        system = system_of(files.family(main))
        for companion in system.companions if system.companion_prefix else ():
            named = companion_names(PurePath(name).name, declared_type(main, files), system, companion)
            there = (str(PurePath(name).with_name(one)) for one in named)
            return list(islice((one for one in there if one in fetched.names), 1))
    return []


def local_row(path: Path, name: str, files: OpenFiles) -> FileRow:
    """A local file with its hash. Raises InputError if it cannot be read."""
    return FileRow(name, files.sha256(path), path.stat().st_size)


def run(
    target: Target, paths: Mapping[str, Path], files: OpenFiles, checkpoints: OpenCheckpoints, results: Results
) -> None:
    """Run the files on every clip and compare them with the reference."""
    system, members = members_of_target(target, paths, files)
    inputs = prepared(target, system, checkpoints)
    with if_wrong(FAILED):
        opened = open_system(system, members, files, inputs.compute(target.threads), inputs.work)
        assert inputs.reference
        check_reference_model(system, models_of(members, files), inputs.reference, target.reference)
    for clip in inputs.clips:
        check_length(opened, clip.path, clip.seconds)
    ready = Ready(opened, files)
    for clip in inputs.clips:
        results.add_check(validate_clip(inputs, ready, system, clip.read()))


def members_of_target(target: Target, paths: Mapping[str, Path], files: OpenFiles) -> tuple[SystemType, Paths]:
    """The system of a target's file, and its files. Raises InputError if one is missing, or named by another key, and
    EndedEarlyError if there is one that does not belong to the system."""
    system = system_of(files.family(paths[target.file]))
    key, others = system.companion_key, [path for name, path in paths.items() if name != target.file]
    if target.beside and not system.companions:
        [(wrong, name)] = target.beside.items()
        with if_wrong(FAILED):
            refuse_companion(system, target.file, AUDIO_TOKENIZER, name, f"{wrong} =", files.family(paths[name]))
    for wrong in target.beside.keys() - {key}:
        what = f"is of {system.family.architecture}, and the file beside it named by the key {wrong}"
        raise InputError(target.file, what, expected=f"the key {key}", todo=f"rename {wrong} to {key}")
    for role in system.roles[1 + len(others) :]:
        what, role = f"is of the role {system.family.role.replace('_', ' ')}", role.replace("_", " ")
        raise InputError(target.file, what, todo=f"give the key {key}, the file of its {role}")
    return system, dict(zip(system.roles, [paths[target.file], *others], strict=True))


def prepared(target: Target, system: SystemType, checkpoints: OpenCheckpoints) -> Inputs:
    """The clips and the reference of a target."""
    check_language(target.language or None, system)
    check_task_options(system, context=target.context, attention=target.attention)
    clips = find_clips([Path(clip) for clip in target.audio])
    companions = {AUDIO_TOKENIZER: target.reference_tokenizer or None}
    hashes = [clip.sha256 for clip in clips]
    reference = find_reference(
        target.reference, companions, hashes, system, checkpoints=checkpoints, option=REFERENCE_TOKENIZER
    )
    if target.adapter and reference.stored:
        what = f"{target.adapter}, but {target.reference} is a stored reference, whose weights are what they are"
        raise InputError("adapter", what, todo="leave it out, or name a checkpoint")
    inputs = Inputs(
        clips,
        reference,
        language=target.language or None,
        repack=target.repack,
        products=target.products,
        context=target.context,
        attention=target.attention,
    )
    inputs.check_clips()
    return inputs


if __name__ == "__main__":
    main()
