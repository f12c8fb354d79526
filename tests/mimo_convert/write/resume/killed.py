"""mimo-convert as a process that something happens to, at a chosen one of its writes to the disk.

Python and its libraries take longer to start than a small conversion, so one process (`serve`) imports everything and
forks a child for each run: a real process, with the real command line, that really dies. `Runs` is the tests' end.
"""

import gc
import io
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.system.server import Server, compare_kernels

WRITES = ("open", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "replace", "unlink")
COUNTED = (*WRITES, "preadv")


@dataclass(frozen=True)
class Fault:
    """What happens at call number `at` (from 0) of those in `only`, of which `open` counts if it may make a file.

    `kill`: SIGKILL before the call. `half`: SIGKILL when half of the bytes are written, or right behind the call.
    `power`: as `kill`, and what was not seen onto the disk is lost, in one of many ways that `seed` chooses.
    `interrupt`, `terminate`: that signal. `error`: this call and all later ones like it fail with `errno`.
    `fill`: something else takes what room there is on the disk. `limit`: from now on, no file may reach beyond `seed`
    bytes. `late`: SIGKILL `seed` microseconds after the start, whatever is going on.
    """

    kind: str
    at: int = 0
    only: Sequence[str] = WRITES
    errno: int = 0
    seed: int = 0


class Ended(NamedTuple):
    """How a run ended: the exit status, or minus the signal; what it said; the calls it made, if it lived to tell."""

    status: int
    stdout: str
    stderr: str
    calls: list[tuple[str, str]]


@dataclass
class Runs:
    """Runs of mimo-convert; `around` is a command line to start their server with. A context manager.

    `scratch` is a folder on the same disk as the output.
    """

    scratch: Path
    chunk_weights: int = 40_000
    flush_bytes: int = 150_000
    around: Sequence[str] = ()

    def __enter__(self) -> "Runs":
        # one thread, or what it knows of others would be wrong in its children
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.scratch)}
        command = [*self.around, sys.executable, "-m", "tests.mimo_convert.write.resume.killed"]
        self.server = Server(command, environment).__enter__()
        self.lock = threading.Lock()
        return self

    def __exit__(self, *ended: Any) -> None:
        self.server.__exit__(*ended)

    def __call__(self, *arguments: Any, fault: Fault | None = None, **sizes: int) -> Ended:
        """One run of mimo-convert with these arguments, and no check of its files."""
        order = {
            "arguments": [*map(str, arguments), "--no-check"],
            "fault": asdict(fault) if fault else None,
            "CHUNK_WEIGHTS": sizes.get("chunk_weights", self.chunk_weights),
            "FLUSH_BYTES": sizes.get("flush_bytes", self.flush_bytes),
        }
        with self.lock:
            answer = self.server.ask(order)
        return Ended(**answer | {"calls": [tuple(call) for call in answer["calls"]]})


def serve() -> None:
    """Obey orders from stdin, until there are no more."""
    import multiprocessing.synchronize  # noqa: F401, as the children would

    import numpy.random  # noqa: F401

    from mimo_commands.convert import main

    compare_kernels()
    with redirect_stderr(io.StringIO()), suppress(SystemExit):
        main(["/nowhere", "--no-check"])  # this imports what the command imports late, once for all children
    assert threading.active_count() == 1
    gc.freeze()  # the children need not even look at it
    for line in sys.stdin:
        order = json.loads(line)
        with TemporaryDirectory() as told:
            pid = os.fork()
            if pid == 0:
                run(order, Path(told))
            fault = order["fault"]
            if fault and fault["kind"] == "late":
                time.sleep(fault["seed"] / 1e6)
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer: dict[str, Any] = {"status": status, "stdout": "", "stderr": "", "calls": []}
            for file in os.listdir(told):
                if file in ("stdout", "stderr"):
                    answer[file] = (Path(told) / file).read_text()
                elif file == "calls" and status >= 0:
                    answer[file] = json.loads((Path(told) / file).read_text())
        print(json.dumps(answer), flush=True)


def run(order: dict[str, Any], told: Path) -> None:
    """The child: mimo-convert's command line; never returns."""
    from mimo_commands.convert import main
    from mimo_convert.write import chunks, flusher

    for fd, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(told / name, os.O_WRONLY | os.O_CREAT), fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may have told us not to heed it
    chunks.CHUNK_WEIGHTS, flusher.FLUSH_BYTES = order["CHUNK_WEIGHTS"], order["FLUSH_BYTES"]
    fault = Fault(**order["fault"]) if order["fault"] else None
    watched = Watched(fault, told)
    watched.install()
    status = 1
    try:
        main(order["arguments"], prog_name="mimo-convert")
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    watched.fault = None
    (told / "calls").write_text(json.dumps(watched.calls))
    os._exit(status)


class Watched:
    """The system's calls, counted, with a fault at one of them."""

    def __init__(self, fault: Fault | None, told: Path) -> None:
        self.fault = fault
        self.calls: list[tuple[str, str]] = []
        self.n = 0
        self.lock = threading.RLock()
        self.disk = Disk(told) if fault and fault.kind == "power" else None

    def install(self) -> None:
        for name in COUNTED:
            if hasattr(os, name):
                setattr(os, name, self.watch(name, getattr(os, name)))

    def watch(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **options)
            with self.lock:  # one at a time, so that "before call number N" means something
                return self.count(name, call, arguments, options)

        return watched

    def count(self, name: str, call: Callable[..., Any], arguments: Any, options: Any) -> Any:
        fault = self.fault
        where = arguments[0] if isinstance(arguments[0], int) else None
        path = os.readlink(f"/proc/self/fd/{where}") if where is not None else os.fspath(arguments[0])
        self.calls.append((name, os.path.basename(path)))
        if fault and name in fault.only and fault.kind != "late":
            self.n += 1
            if self.n - 1 >= fault.at:
                self.strike(fault, name, call, arguments)
        if self.disk:
            return self.disk.do(name, call, arguments, options)
        return call(*arguments, **options)

    def strike(self, fault: Fault, name: str, call: Callable[..., Any], arguments: Any) -> None:
        if fault.kind == "error":
            raise OSError(fault.errno, os.strerror(fault.errno))
        self.fault = None
        if fault.kind == "power":
            assert self.disk
            self.disk.lose(random.Random(fault.seed))
        if fault.kind == "half":
            if name == "pwrite":
                fd, data, offset = arguments
                arguments = fd, memoryview(data)[: len(data) // 2], offset
            with suppress(OSError):  # nothing to remove
                call(*arguments)
        if fault.kind in ("kill", "half", "power"):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if fault.kind == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        if fault.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.seed, fault.seed))
        if fault.kind == "fill":
            fill(Path(arguments[0] if name == "open" else os.readlink(f"/proc/self/fd/{arguments[0]}")).parent)


def fill(folder: Path) -> None:
    """Take all the room on the folder's disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


class Disk:
    """What a power loss undoes: each write to a file since its last fsync, each new name since its folder's."""

    def __init__(self, graveyard: Path) -> None:
        self.graveyard = graveyard
        self.data: list[tuple[int, Callable[[random.Random], None]]] = []
        self.names: list[tuple[int, Callable[[], None]]] = []
        self.fds: dict[int, int] = {}
        self.real = {name: getattr(os, name) for name in COUNTED}

    def do(self, name: str, call: Callable[..., Any], arguments: Any, options: Any) -> Any:
        if name in ("fsync", "fdatasync"):
            inode = os.fstat(arguments[0]).st_ino
            self.data = [entry for entry in self.data if entry[0] != inode]
            if name == "fsync":
                self.names = [entry for entry in self.names if entry[0] != inode]
        elif name in ("pwrite", "ftruncate", "posix_fallocate"):
            self.note_data(name, arguments)
        elif name in ("replace", "unlink", "open"):
            self.note_name(name, *map(Path, arguments[: 2 if name == "replace" else 1]))
        return call(*arguments, **options)

    def note_data(self, name: str, arguments: Any) -> None:
        status = os.fstat(arguments[0])
        inode, size = status.st_ino, status.st_size
        if inode not in self.fds:  # one that stays open, and can be read
            self.fds[inode] = self.real["open"](f"/proc/self/fd/{arguments[0]}", os.O_RDWR)
        fd = self.fds[inode]
        ftruncate, pwrite = self.real["ftruncate"], self.real["pwrite"]
        if name == "pwrite":
            _, data, offset = arguments
            new = bytes(data)
            old = os.pread(fd, len(new), offset)

            def undo(choose: random.Random) -> None:
                kept = choose.choice([0, 0, len(new), choose.randrange(len(new) + 1)])
                pwrite(fd, new[:kept] + old[kept:], offset)
                longer, short = os.fstat(fd).st_size, max(size, offset + kept)
                if longer > short:
                    ftruncate(fd, short)
                    ftruncate(fd, choose.choice([short, longer]))  # perhaps with zeros at its end

        else:
            begin = arguments[1] if name == "ftruncate" else size
            tail = os.pread(fd, max(0, size - begin), begin)

            def undo(choose: random.Random) -> None:
                if choose.random() < 0.5:  # sizes are kept elsewhere than contents, and may be safe before them
                    ftruncate(fd, size)
                    pwrite(fd, tail, begin)

        self.data.append((inode, undo))

    def note_name(self, name: str, path: Path, target: Path | None = None) -> None:
        folder = os.stat(path.parent).st_ino
        unlink, replace = self.real["unlink"], self.real["replace"]
        buried = self.graveyard / f"buried-{len(os.listdir(self.graveyard))}"
        lost = target or path  # the name that now means another file, or none
        there = lost.exists()
        if there and name != "open":
            os.link(lost, buried)
        elif (name == "open" and there) or name == "unlink":
            return

        def undo() -> None:
            if name == "open":
                unlink(path)
            if target:
                replace(target, path)
            if there:
                os.link(buried, lost)

        self.names.append((folder, undo))

    def lose(self, choose: random.Random) -> None:
        """The power fails: names are lost from the last one back, what was written in no order."""
        keep = choose.choice([0, len(self.names), choose.randrange(len(self.names) + 1)])
        for _, forget in reversed(self.names[keep:]):
            forget()
        for _, undo in reversed(self.data):
            undo(choose)


if __name__ == "__main__":
    serve()
