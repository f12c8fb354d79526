"""The process that checks one target: its files are brought here, examined, run, and compared with the reference.

Who is to blame for an InputError is told by what was being done. While files and reference are brought here, and while
they are compared, it is not the file's fault: the target could not be checked. What static rules find, and a file that
the harness cannot open, is the file's fault: the target failed.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from mimo_convert.crash import without_secrets
from mimo_convert.disk import sha256_of
from mimo_convert.files import write_whole
from mimo_convert.gguf_file import read_gguf
from mimo_convert.models import mimo_tokenizer
from mimo_convert.outcome import BAD_INPUT, INTERNAL_ERROR
from mimo_convert.terminal import tell
from quantize.errors import InputError
from runtime_check.check import open_pair
from runtime_check.proof import Inputs, prepare, prove_clip
from runtime_check.report import Outputs, Results
from runtime_check.static_check import check_static
from runtime_check.transcribe import Harness

from .child import Found, Job, beside
from .config import Target
from .fetch import fetch
from .history import FAILED, PASSED, UNCHECKED, WHOLE, FileRow


def main() -> None:
    """Do the job on stdin; the exit status is 0 if what was found is written, 3 after what nobody expected."""
    try:
        do_job()
    except InputError as error:
        tell(f"error: {error}")
        sys.exit(BAD_INPUT)
    except Exception:  # shown in the target's log, and told by the status
        sys.stderr.write(without_secrets(traceback.format_exc()))
        sys.exit(INTERNAL_ERROR)


def do_job() -> None:
    """Check the target of the job on stdin, and write down what was found."""
    values = json.loads(sys.stdin.readline())
    job = Job(**values | {"target": Target(**values["target"])})
    end_with_parent()
    be_first_out_of_memory()
    answer = beside(Path(job.folder), job.target.name, "found")
    write_whole(answer, json.dumps(asdict(examine(job))).encode())


def end_with_parent() -> None:
    """Die when stdin ends, which the parent holds open: a run that is killed leaves nothing behind that works on."""

    def wait() -> None:
        os.read(0, 1)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def be_first_out_of_memory() -> None:
    """Where the memory ends, this process is to be killed, and not its parent."""
    with suppress(OSError):  # a system without this file
        Path("/proc/self/oom_score_adj").write_text("500")


def examine(job: Job) -> Found:
    """What is found of the target. Its report, if there is one, is written to the job's folder."""
    found = Found()
    try:
        check(job, found)
    except EndedEarlyError as ended:
        found.state, found.problems = ended.state, [str(ended)]
        tell(f"{ended.state}: {ended}")
    return found


class EndedEarlyError(Exception):
    """The end of the check before its time."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


@contextmanager
def if_wrong(state: str) -> Iterator[None]:
    """An InputError in the block means that state; what the system refuses, that nothing could be checked."""
    try:
        yield
    except InputError as error:
        raise EndedEarlyError(state, str(error)) from error
    except OSError as error:  # a full disk, a file that went away: it is the system's
        what = error.strerror or str(error)
        raise EndedEarlyError(UNCHECKED, f"{error.filename or 'the system'}: {what}") from error


def check(job: Job, found: Found) -> None:
    """Fill in `found`, step by step, and write the report. Raises EndedEarlyError where it ends early."""
    target, results = job.target, Results("mimo-check")
    with if_wrong(UNCHECKED):
        paths = bring(target, Path(job.cache), found)
        for path in paths.values():
            results.add(check_static(path, target.threads, weights=found.scope == WHOLE))
        if results.passed and found.scope == WHOLE:
            run(target, paths, results)
        html, data = (beside(Path(job.folder), target.name, kind) for kind in ("html", "json"))
        results.write(Outputs(json=data, junit=None, html=html))
        found.report, found.state = True, PASSED if results.passed else FAILED


def bring(target: Target, cache: Path, found: Found) -> Mapping[str, Path]:
    """The target's files, by the names that it has for them, on this disk."""
    names = [name for name in (target.file, target.tokenizer) if name]
    if target.repo:
        fetched = fetch(target.repo, target.revision, names, cache, tell)
        found.files, found.scope = fetched.rows, fetched.scope
        return fetched.paths
    paths = {name: Path(name) for name in names}
    alike = len({path.name for path in paths.values()}) < len(paths)  # such as asr/model.gguf and tokenizer/model.gguf
    found.files = [local_row(path, name if alike else path.name) for name, path in paths.items()]
    return paths


def local_row(path: Path, name: str) -> FileRow:
    """A file on this disk; reads it once, for its hash. Raises InputError if it cannot be read."""
    return FileRow(name, sha256_of(path), path.stat().st_size)


def run(target: Target, paths: Mapping[str, Path], results: Results) -> None:
    """Run the files on every sound and compare them with the reference."""
    inputs = prepared(target)
    pair = pair_of(target, paths)
    with if_wrong(FAILED):
        pair_of_files = open_pair(Harness(*pair, target.threads, inputs.repack, inputs.work))
    for sound in inputs.sounds:
        pair_of_files.harness.check_length(sound.path, sound.seconds)
    for sound in inputs.sounds:
        results.add(prove_clip(inputs, pair_of_files, sound.read(), {}))


def prepared(target: Target) -> Inputs:
    """Sounds and reference."""
    if target.reference and not os.path.isfile(target.reference):
        raise InputError(target.reference, "no such file", expected="a file of `mimo-check reference` as reference")
    sounds = [Path(sound) for sound in target.audio]
    inputs = prepare(target.reference or target.checkpoint, target.checkpoint_tokenizer or None, sounds)
    return replace(inputs, language=target.language or None, repack=target.repack)


def pair_of(target: Target, paths: Mapping[str, Path]) -> tuple[Path | None, Path]:
    """A speech LM's file and its audio tokenizer's; or an audio tokenizer's alone."""
    if target.tokenizer:
        return paths[target.file], paths[target.tokenizer]
    if read_gguf(paths[target.file]).architecture != mimo_tokenizer.FAMILY.gguf:
        raise InputError(target.file, "is a speech LM", todo="give the key tokenizer, its audio tokenizer's file")
    return None, paths[target.file]


if __name__ == "__main__":
    main()
