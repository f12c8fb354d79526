"""What benchmarks were measured on: the machine, and what its memory gave."""

import datetime
import os
import platform
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mimo_convert.threads import default_threads
from runtime_check.products.library import variants

SLICE_BYTES = 1 << 22


def cpu_field(field: str) -> str:
    """A field of /proc/cpuinfo; empty where this processor has none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith(field)), "")


def machine_kind() -> str:
    """The kind of machine that has a table of its own: the fastest variant of products that runs here, and who made the
    processor."""
    return f"{variants()[0]}, {cpu_field('vendor_id')}"


def machine() -> str:
    """What the figures were measured on, when, and of which commit."""
    cpu = cpu_field("model name")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    date = datetime.datetime.now(datetime.timezone.utc).date()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{cpu}, {default_threads()} cores, {memory:.0f} GB, {system}; {date}; commit {commit}."


def peak_memory() -> int:
    """The most bytes of memory that this process has had, pages of mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bandwidth(nbytes: int, threads: int) -> float:
    """Bytes a second that the threads read together, of so many in memory."""
    arrays = [np.ones(nbytes // threads // 4, np.float32) for _ in range(threads)]
    n = SLICE_BYTES // 4

    def read(array: Any) -> float:
        return sum(float(np.dot(array[i : i + n], array[i : i + n])) for i in range(0, len(array), n))

    def seconds() -> float:
        begin = time.perf_counter()
        list(pool.map(read, arrays))
        return time.perf_counter() - begin

    with ThreadPoolExecutor(threads) as pool:
        return sum(a.nbytes for a in arrays) / min(seconds() for _ in range(3))
