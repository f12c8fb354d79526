"""What benchmarks were measured on."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from mimo_convert.threads import default_threads


def machine() -> str:
    """What the figures were measured on, when, and of which commit."""
    cpu = next(line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    date = datetime.datetime.now(datetime.timezone.utc).date()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{cpu}, {default_threads()} cores, {memory:.0f} GB, {system}; {date}; commit {commit}."
