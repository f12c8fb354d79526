"""Clusters of separate processes on this machine."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRELOAD = "mimo_agreement.cluster.worker"
WAIT = 60.0


class Cluster:
    """A scheduler and workers as processes, with the certificate `tls` (None: without encryption)."""

    def __init__(self, folder: Path, tls: Path | None = None) -> None:
        self.folder, self.port, self.protocol = folder, 0, "tls" if tls else "tcp"
        self.tls = [x for name in ("ca-file", "cert", "key") for x in (f"--tls-{name}", tls)] if tls else []
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        log = self.folder / f"scheduler-{time.monotonic_ns()}.log"
        self.scheduler = self._start(
            log, "scheduler", "--protocol", self.protocol, "--host", "127.0.0.1", "--port", self.port
        )
        self.port = int(self._wait(log, rb"Scheduler at: +t..://127.0.0.1:([0-9]+)")[1])

    def start_worker(self, *options: object, preload: object = PRELOAD) -> Path:
        """Start a worker; returns its cache."""
        name = f"worker-{time.monotonic_ns()}"
        cache = ["--cache", self.folder / name / "cache"] if preload == PRELOAD else []
        log = self.folder / f"{name}.log"
        self.workers.append(self._start(
            log, "worker", self.address, "--nthreads", 1, "--no-nanny", "--local-directory", self.folder / name,
            "--preload", preload, *options, *cache,
        ))  # fmt: skip
        self._wait(log, rb"Registered to: +t..:")
        return self.folder / name / "cache"

    def stop_scheduler(self) -> None:
        assert self.scheduler
        self.scheduler.send_signal(signal.SIGKILL)
        self.scheduler.wait()

    def stop(self) -> None:
        for one in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            one.kill()
            one.wait()

    def _start(self, log: Path, *arguments: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", *map(str, [*arguments, *self.tls]), "--no-dashboard"]
        with log.open("wb") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder)

    def _wait(self, log: Path, pattern: bytes) -> "re.Match[bytes]":
        deadline = time.monotonic() + WAIT
        while not (found := re.search(pattern, log.read_bytes())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return found


@contextmanager
def cluster_in(folder: Path, tls: Path | None = None) -> Iterator[Cluster]:
    cluster = Cluster(folder, tls)
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.stop()
