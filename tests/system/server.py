"""A process that has imported everything and obeys orders, so that each run in it costs milliseconds."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


class Server:
    """`command` as a process that answers each line of JSON on its stdin with one on its stdout. A context manager."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.command, self.environment = command, environment

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin
        assert self.process.stdout
        self.orders, self.answers = self.process.stdin, self.process.stdout
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.orders.close()
        self.process.wait()
        self.answers.close()

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an order."""
        print(json.dumps(order), file=self.orders, flush=True)
        answer: dict[str, Any] = json.loads(self.answers.readline())
        return answer


def compare_kernels() -> None:
    """Compare every kernel with ggml, once for all children of a server."""
    from quantize import backend_choice, types

    for ggml_type in types.TYPES.values():
        backend_choice.choose_backend(ggml_type, backend_choice.AUTO)
