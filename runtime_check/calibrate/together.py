"""Several clips through a step at once: each in a thread of its own, whose products are computed together.

A product with the positions of one clip, a hundred or so, takes twice the time a position that one with a thousand
takes. Clips wait for one another at each product; what is between them runs beside each other, on one core a clip.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Ask = Callable[[Hashable, Tensor], Tensor]  # for the product that is meant, of one clip's tensor
Compute = Callable[[Hashable, list[Tensor]], Sequence[Tensor]]  # the same for several clips


def groups_of(states: Sequence[Tensor], most: int) -> Iterator[list[int]]:
    """The numbers of clips whose states, (…, columns), have at most `most` positions together, or of one that has
    more."""
    some: list[int] = []
    n = 0
    for i, state in enumerate(states):
        positions = state.numel() // state.shape[-1]
        if some and n + positions > most:
            yield some
            some, n = [], 0
        some.append(i)
        n += positions
    if some:
        yield some


class _Stopped(BaseException):
    """Another clip failed."""


def together(jobs: Sequence[Callable[[Ask], T]], compute: Compute) -> list[T]:
    """What each of the jobs returns, one a clip. `ask(key, x)` in a job gives what `compute` gives for it; it is called
    in this thread, with what all jobs that ask for the same key wait with, in the order of the jobs.

    Raises the first exception of a job, or of `compute`.
    """
    asked: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    answers: list[SimpleQueue[Any]] = [SimpleQueue() for _ in jobs]
    results: dict[int, T] = {}
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()

    def run(i: int) -> None:
        def ask(key: Hashable, x: Tensor) -> Tensor:
            asked.put((i, (key, x)))
            answer = answers[i].get()
            if answer is None:
                raise _Stopped
            found: Tensor = answer
            return found

        try:
            torch.set_num_threads(1)
            with torch.set_grad_enabled(gradients):
                results[i] = jobs[i](ask)
            asked.put((i, None))
        except BaseException as error:
            asked.put((i, error))

    running = set(range(len(jobs)))
    waiting: dict[int, tuple[Hashable, Tensor]] = {}
    failed: BaseException | None = None
    for i in running:
        threading.Thread(target=copy_context().run, args=(run, i), daemon=True).start()
    while running:
        try:
            i, what = asked.get()
            if isinstance(what, tuple):
                waiting[i] = what
            else:
                running.discard(i)
                failed = failed or what
            if failed is None and len(waiting) == len(running) and waiting:
                _answer(waiting, compute, answers)
        except BaseException as error:  # an interrupt, too: the threads end first
            failed = failed or error
        if failed is not None:
            for j in list(waiting):
                waiting.pop(j)
                answers[j].put(None)
    torch.set_num_threads(threads)
    if failed is not None:
        raise failed
    return [results[i] for i in range(len(jobs))]


def _answer(waiting: dict[int, tuple[Hashable, Tensor]], compute: Compute, answers: list[Any]) -> None:
    """Answer the first job that waits, and all that ask for the same."""
    key = waiting[min(waiting)][0]
    same = [i for i in sorted(waiting) if waiting[i][0] == key]
    found = compute(key, [waiting[i][1] for i in same])
    for i, answer in zip(same, found, strict=True):
        del waiting[i]
        answers[i].put(answer)
