"""The number of threads."""

import os

MAX_THREADS = 128  # each takes a few MB; with so many, a conversion stays well below 1 GB


def default_threads() -> int:
    """The number of cores that this process may use, at most MAX_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)
