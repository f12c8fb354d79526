"""mimo-convert with a clock around its quantizers: `python -m benchmarks.timed REPORT.json ARGUMENTS…`.

The report gives, for each type, the seconds of processor time that threads spent in quantizers and the weights they
quantized, and the process's peak resident memory in bytes.
"""

import json
import re
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from mimo_commands.convert import main
from quantize import rows, simd
from quantize.types import Type

lock = threading.Lock()
spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])


def timed(quantize_rows: Any, position: int) -> Any:
    """A quantizer whose argument number `position` is the type of its result."""

    def run(*arguments: Any, **options: Any) -> Any:
        begin = time.thread_time()
        blocks = quantize_rows(*arguments, **options)
        seconds = time.thread_time() - begin
        type: Type = arguments[position]
        with lock:
            spent[type.name][0] += seconds
            spent[type.name][1] += blocks.size // type.block_bytes * type.block
        return blocks

    return run


if __name__ == "__main__":
    report, *arguments = sys.argv[1:]
    rows.quantize_rows = timed(rows.quantize_rows, 1)
    simd.quantize_rows = timed(simd.quantize_rows, 2)
    try:
        main(arguments)
    finally:
        status = Path("/proc/self/status").read_text()
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
        Path(report).write_text(json.dumps({"peak_rss": peak, "quantizer": spent}))
