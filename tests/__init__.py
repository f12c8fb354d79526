"""The tests. This is imported before numpy, whose library starts as many threads as there are cores."""

import os


def take_share_of_cores() -> None:
    """Give this worker its own cores: threads of workers that spin on the same ones take most of each other's time."""
    if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
        number, workers = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::workers] or [cores[number % len(cores)]])


take_share_of_cores()
