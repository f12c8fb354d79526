"""The commands as processes that cost milliseconds: a server imports everything once and forks a child for each run.

A child is a real process with the real command line, in a folder of its own, with bounds on its memory and time.
`python -m tests.fuzz.forked` is the server; `Forks` is the end of whoever fuzzes.
"""

import atexit
import faulthandler
import gc
import importlib
import importlib.metadata
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.system.server import Server, compare_kernels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "quantize",
    "mimo_convert",
    "runtime_check",
    "mimo_families",
    "mimo_publish",
    "mimo_nightly",
    "mimo_commands",
)
TORCH = "mimo_families.mimo_audio.reference"  # a process that has imported torch has threads, and cannot be forked
CPU_SECONDS, WALL_SECONDS = 5, 30  # of one run: what takes longer hangs
MEMORY = 1 << 30  # bytes that a run may take beyond what the server has
LARGEST_FILE = 1 << 28  # bytes
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
OURS = 99  # exit status of a child that we made badly
WORKER = "mimo_nightly.worker"  # what `mimo-check nightly` starts for each target: its job is on stdin


@dataclass(frozen=True)
class Order:
    """One run: a command of SCRIPTS, or WORKER, its arguments, and its folders.

    `folder` is where it is run; `told` gets what it prints, and what the crash of a library says; `home` is the user's.
    """

    command: str
    arguments: Sequence[str]
    folder: str
    told: str
    home: str
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, or minus the signal; wall and CPU seconds; bytes of memory that it added."""

    status: int
    seconds: float
    cpu_seconds: float
    memory: int
    timed_out: bool


class Forks:
    """Runs commands, one after another; `endpoint` is the Hub that they know. A context manager."""

    def __init__(self, scratch: Path, endpoint: str = "http://127.0.0.1:9") -> None:
        self.scratch, self.endpoint = scratch, endpoint

    def __enter__(self) -> "Forks":
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "PYTHON", "MIMO_", "XDG_"))}
        environment = kept | {
            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.scratch), "COLUMNS": "120",
            "HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.scratch / "nobody"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*", "PYTHONIOENCODING": "utf-8:strict", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        self.server = Server([sys.executable, "-m", "tests.fuzz.forked"], environment).__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:
        self.server.__exit__(*ended)

    def __call__(self, order: Order) -> Ended:
        return Ended(**self.server.ask(asdict(order)))


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────


def serve() -> None:
    """Obey orders from stdin, until there are no more."""
    import_everything()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked safely"
    gc.freeze()  # the children need not even look at it
    for line in sys.stdin:
        order = Order(**json.loads(line))
        begin = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            be_the_command(order)
        timed_out = not ends_within(pid, WALL_SECONDS)
        with suppress(ProcessLookupError):  # it, and what it has started
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        seconds, cpu = time.perf_counter() - begin, used.ru_utime + used.ru_stime
        memory = max(0, used.ru_maxrss * 1024 - memory_at_start(Path(order.told)))
        print(json.dumps(asdict(Ended(os.waitstatus_to_exitcode(status), seconds, cpu, memory, timed_out))), flush=True)
        learn(Path(order.told) / "modules")


def import_everything() -> None:
    """What the commands import, early or late, but for torch; and find out what each process would have to anew."""
    importlib.metadata.version = cache(importlib.metadata.version)
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name != TORCH and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    compare_kernels()


def learn(modules: Path) -> None:
    """Import what a child had to import, so that the next one need not."""
    with suppress(OSError, ValueError):
        for name in json.loads(modules.read_bytes()):
            if not name.startswith(("torch", TORCH, "tests")):
                with suppress(Exception):
                    importlib.import_module(name)


def ends_within(pid: int, seconds: float) -> bool:
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def resident() -> int:
    """Bytes of memory that this process has touched, its libraries' included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def memory_at_start(told: Path) -> int:
    with suppress(OSError, ValueError):
        return int((told / "memory").read_text())
    return 0


# ── the child ────────────────────────────────────────────────────────────────────────────────────────────────────


def be_the_command(order: Order) -> NoReturn:
    """Be the process that the user has started, and end as it ends."""
    status = 1
    try:
        told = Path(order.told)
        settle(order, told)
        known = set(sys.modules)
        status = run(order)
        new = sorted(set(sys.modules) - known)
        if new:
            (told / "modules").write_text(json.dumps(new))
        status = end(status)
    except BaseException:  # ours, not the command's
        traceback.print_exc()
        status = OURS
    finally:
        os._exit(status)


def settle(order: Order, told: Path) -> None:
    """The child's own folder, streams, home, signals and bounds."""
    os.setsid()
    os.chdir(order.folder)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(told / name, os.O_WRONLY | os.O_CREAT), fd)
    if order.stdin:
        read, write = os.pipe()  # which stays open: the worker ends when its parent does
        os.write(write, order.stdin.encode())
        os.dup2(read, 0)
    else:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115, the server's own knows what was in the pipe
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = Path(order.home)
    os.environ.update(
        {
            "HOME": str(home),
            "TMPDIR": str(home.with_name("tmp")),
            "XDG_CACHE_HOME": str(home / "cache"),
            **order.environment,
        }
    )
    tempfile.tempdir = None
    settle_hub(home / "hub")
    fault = (told / "fault").open("w")
    faulthandler.enable(fault)  # of a crash, and of a run that does not end, we want to know where it is
    faulthandler.register(signal.SIGXCPU, fault, chain=True)
    faulthandler.dump_traceback_later(WALL_SECONDS - 2, file=fault)
    sys.argv = [order.command, *order.arguments]
    sys.modules["__main__"].__package__ = ""  # by which click tells a script from `python -m`
    gc.enable()
    (told / "memory").write_text(str(resident()))
    [data] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
    memory = int(data.split()[1]) * 1024 + MEMORY
    for kind, most in (
        (resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
    ):  # fmt: skip
        resource.setrlimit(
            kind, (most, most + (kind == resource.RLIMIT_CPU))
        )  # the first is a signal, the second the end


def settle_hub(cache: Path) -> None:
    """What the Hub's library and ours took from the environment when they were imported; nobody waits for long."""
    from huggingface_hub import constants

    from mimo_convert.sources import hub_errors

    constants.HF_HUB_CACHE = str(cache)
    constants.HF_TOKEN_PATH, constants.HF_STORED_TOKENS_PATH = str(cache / "token"), str(cache / "stored_tokens")
    hub_errors.FIRST_WAIT = 0.001


def entry(command: str) -> Any:
    """What the console script of a command calls."""
    module, _, function = SCRIPTS[command].partition(":")
    return getattr(importlib.import_module(module), function)


def run(order: Order) -> int:
    """As the interpreter does: what `sys.exit` was given, or a traceback and 1."""
    try:
        if order.command == WORKER:
            importlib.import_module(WORKER).main()
            return 0
        return as_status(entry(order.command)())
    except SystemExit as end:
        return as_status(end.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1


def as_status(code: Any) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def end(status: int) -> int:
    """What the interpreter does at its end."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120
    return status & 0xFF


if __name__ == "__main__":
    serve()
