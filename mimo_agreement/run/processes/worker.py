"""A process that answers jobs: it gets them from its parent by a connection, a few at once."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from mimo_convert.command.child import be_first_out_of_memory, end_with_parent
from mimo_convert.command.crash import without_secrets
from mimo_convert.command.outcome import INTERNAL_ERROR
from mimo_convert.listener import Listener, listening
from quantize.errors import InputError

from .messages import READY, Message, Refused, Said, Setup

Answer = Callable[[Any], Iterable[Any]]  # jobs → their outcomes


class Parent(Listener):
    """The listener of a worker: its parent hears the messages."""

    def __init__(self, connection: "Connection[Message, object]") -> None:
        self.connection = connection

    def result(self, text: str, brief: str = "") -> None:
        self.message(text)

    def message(self, line: str) -> None:
        self.connection.send(Said(line))

    def warning(self, line: str) -> None:
        self.message(line)


def answerer(setup: Setup) -> Answer:
    """What answers the jobs of an agreement."""
    from ..answering import Answerer  # late: it imports ggml

    return Answerer(setup.models, setup.places, setup.threads).answer


def main(begin: Callable[[Any], Answer] = answerer) -> None:
    """Answer jobs until the parent sends none, or nothing for too long, or ends; `begin` makes what answers them of the
    setup, which is sent first. The last argument is the number of the connection's descriptor; the exit status is 3
    after an unexpected exception, which is shown on stderr."""
    end_with_parent()
    be_first_out_of_memory()
    connection: Connection[Message, Any] = Connection(int(sys.argv[-1]))
    warnings.showwarning = lambda message, *where: connection.send(Said(f"warning: {message}"))
    try:
        with listening(Parent(connection)):
            serve(connection, begin)
    except (EOFError, BrokenPipeError):  # the parent is gone
        pass
    except Exception:
        sys.stderr.write(without_secrets(traceback.format_exc()))
        sys.stderr.flush()
        os._exit(INTERNAL_ERROR)


def serve(connection: "Connection[Message, Any]", begin: Callable[[Any], Answer]) -> None:
    """Answer the jobs that come by the connection, to its end."""
    setup = connection.recv()
    answer = begin(setup)
    connection.send(READY)
    while connection.poll(setup.idle) and (jobs := connection.recv()):
        try:
            for outcome in answer(jobs):
                connection.send(outcome)
        except InputError as error:
            connection.send(Refused(error.where, error.what, error.expected, error.todo))


if __name__ == "__main__":
    main()
