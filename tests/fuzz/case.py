"""A case: one command on files of which some were damaged; and what it must not do, whatever is in them."""

import random
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unicodedata import category

from tests.fuzz.damage.mutate import Edit, Random
from tests.fuzz.forked import MEMORY, PACKAGES, ROOT, Ended

T = TypeVar("T")
LONGEST_LINE = 2000  # characters
FIRST_EDITS = (1, 1, 1, 1, 2, 2, 3, 5, 8)


class Edits:
    """The changes of one case: `choose` decides what is run, and each change has random numbers of its own.

    `kept` are the numbers of those that are made; by default all, and 0 is the first.
    """

    def __init__(self, name: str, kept: Collection[int] | None = None) -> None:
        self.name, self.choose = name, random.Random(name)
        n = self.choose.choice(FIRST_EDITS)
        self.kept = [i for i in range(n) if kept is None or i in kept]

    def apply(self, edit: Edit[T], value: T) -> T:
        for i in self.kept:
            value = edit(self.of(i), value)
        return value

    def of(self, number: int) -> Random:
        return random.Random(f"{self.name}/{number}")

    def choice_of(self, choices: Sequence[T]) -> T:
        return self.choose.choice(choices)

    @property
    def last(self) -> Random:
        """For how what was changed is written down; without changes, as usual."""
        return random.Random(f"{self.name}/last") if self.kept else random.Random(4)


@dataclass
class Case:
    """`files` by name are bytes, or files to be linked. `past_header`: the damaged file begins as it should.

    `outputs`, patterns of names, are what the command writes, each with what says that it is complete; of `parts`, it
    may leave NAME.part and its journal. What is written `always` may be there whatever the exit status is.
    """

    command: str
    arguments: Sequence[str]
    files: Mapping[str, bytes | Path]
    past_header: bool | Callable[[], bool]
    statuses: Collection[int] = (0, 2)
    outputs: Mapping[str, Callable[[bytes], bool]] = field(default_factory=dict)
    parts: bool = False
    always: Collection[str] = ()
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class Failure(NamedTuple):
    """What went wrong; failures of one `cause` are one mistake, as far as can be told."""

    kind: str
    cause: str
    detail: str


class Folders:
    """A case's own folders: `work` has its files, `told` what it prints, `home` is its user's, `tmp` the system's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work, self.told, self.home, self.tmp = (root / name for name in ("work", "told", "home", "tmp"))

    def fill(self, files: Mapping[str, bytes | Path]) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in (self.work, self.told, self.home, self.tmp):
            folder.mkdir(parents=True)
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)

    def stream(self, name: str) -> bytes:
        path = self.told / name
        return path.read_bytes() if path.exists() else b""


def failures(case: Case, folders: Folders, ended: Ended) -> list[Failure]:
    """Everything that the command must not have done."""
    out, err, fault = (folders.stream(name) for name in ("stdout", "stderr", "fault"))
    crashes = [path.read_bytes() for path in files_in(folders.home) if not path.is_relative_to(folders.home / "hub")]
    where = cause_of(b"\n".join([err, out, *crashes]).decode("utf-8", "replace"), fault.decode("utf-8", "replace"))
    found = []
    if ended.timed_out or ended.status in (-24, -9):
        found.append(Failure("hang", where or "?", f"{ended.cpu_seconds:.1f} s of CPU, {ended.seconds:.1f} s"))
    elif ended.status < 0:
        found.append(Failure("signal", where or last_line(err), f"signal {-ended.status}"))
    elif crashes or b"Traceback (most recent call last)" in out + err or ended.status == 3:
        found.append(Failure("traceback", where or last_line(err), f"exit status {ended.status}"))
    elif ended.status not in case.statuses:
        found.append(Failure("status", f"{case.command} ends with {ended.status}", last_line(err)))
    if ended.memory > MEMORY // 2:
        found.append(Failure("memory", where or shape(last_line(err)), f"{ended.memory >> 20} MB"))
    if not any(failure.kind == "traceback" for failure in found):
        found += said_badly(out) + said_badly(err)
    return found + left_badly(case, folders, ended.status)


def cause_of(text: str, fault: str) -> str:
    """FILE:LINE of ours that was last in a traceback, and the exception; empty if there is none."""
    frame = rf'File "{re.escape(str(ROOT))}/((?:{"|".join(PACKAGES)})/[^"]+)", line (\d+)'
    if frames := re.findall(frame, fault):  # the last call first
        return ":".join(frames[0])
    frames = re.findall(frame, text)
    errors = re.findall(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Warning|Interrupt|Exit|Overflow))\b", text, re.M)
    return f"{':'.join(frames[-1])} {errors[-1] if errors else ''}".strip() if frames else ""


def said_badly(stream: bytes) -> list[Failure]:
    """What must not reach a terminal: control characters, what is no text, lines without end."""
    found = []
    try:
        text = stream.decode("utf-8")
    except UnicodeDecodeError as error:
        return [Failure("not UTF-8", shape(repr(stream[max(0, error.start - 80) : error.start])), repr(stream[:200]))]
    for line in text.split("\n"):
        if bad := next((c for c in line if category(c) == "Cc" and c != "\t"), ""):
            found.append(Failure("control character", shape(line), f"{bad!r} in {line[:200]!r}"))
        if len(line) > LONGEST_LINE:
            found.append(Failure("long line", shape(line), f"{len(line)} characters: {line[:200]!r}"))
    return found[:3]


def left_badly(case: Case, folders: Folders, status: int) -> list[Failure]:
    """Inputs that were changed; files that are there and should not be, or are not complete."""
    found = []
    there = {str(path.relative_to(folders.work)): path for path in files_in(folders.work)}
    for name, content in case.files.items():
        if any(fnmatch(name, pattern) for pattern in (*case.outputs, *case.always)):
            continue
        before = content if isinstance(content, bytes) else content.read_bytes()
        if name not in there or there[name].read_bytes() != before:
            parts = case.parts and name.endswith((".part", ".journal"))
            found += [] if parts else [Failure("changed input", Path(name).suffix, name)]
    for name, path in there.items():
        complete = next((check for pattern, check in case.outputs.items() if fnmatch(name, pattern)), None)
        if name in case.files or any(fnmatch(name, pattern) for pattern in case.always):
            continue
        if complete:
            data = path.read_bytes()
            if status not in (0, 1) and name.endswith(".gguf"):  # a report of what was found may be there
                found.append(Failure("output", f"{Path(name).suffix} after status {status}", name))
            elif not complete(data):
                found.append(Failure("output", f"{Path(name).suffix} is not complete", f"{name}, {len(data)} bytes"))
        elif not (case.parts and is_worth_keeping(name, there)):
            found.append(Failure("leftover", Path(name).suffix, name))
    found += [Failure("leftover", "temporary file", path.name) for path in files_in(folders.tmp)]
    return found


def is_worth_keeping(name: str, there: Mapping[str, Path]) -> bool:
    """Of NAME.part and its journal: whether both are there, and the journal says that something is done."""
    journal = there.get(name if name.endswith(".part.journal") else f"{name}.journal")
    if not journal or name.removesuffix(".journal") not in there:
        return False
    return b'"done"' in journal.read_bytes() or b'"complete"' in journal.read_bytes()


def files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]


def last_line(stream: bytes) -> str:
    lines = stream.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def shape(line: str) -> str:
    """A message without what it quotes, to tell messages apart."""
    words = re.sub(r"'[^']*'|\"[^\"]*\"|\S*[/.=]\S*|[^A-Za-z ]+", " ", line.split(" (")[0][:400])
    return " ".join([word for word in words.split() if len(word) < 24][:4])


def is_always(_: Any) -> bool:
    return True
