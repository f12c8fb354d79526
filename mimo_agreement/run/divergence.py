"""The KL divergence of a file's steps from a stored reference, by teacher forcing."""

from functools import lru_cache
from pathlib import Path

from mimo_families.registry import systems
from runtime_check.run.activations import RESPONSE_LOGITS, Activations
from runtime_check.run.check import check_reference
from runtime_check.run.compare.measures import kl_divergence, log_softmax
from runtime_check.run.references.stored import load_reference
from runtime_check.run.system import System, Task


def divergence(system: System, run: Activations, reference: Activations, task: Task) -> tuple[float, int]:
    """The sum of D(reference ‖ ours) over the steps of the reference's response, in nats, and their number.

    Raises InputError for a reference of another task.
    """
    check_reference(reference, system, task)
    ours = system.teacher_force(run, reference.stages, task)[RESPONSE_LOGITS]
    theirs = reference.stages[RESPONSE_LOGITS]
    steps = [kl_divergence(log_softmax(q), log_softmax(p)) for p, q in zip(ours, theirs, strict=True)]
    return sum(steps), len(steps)


@lru_cache(1)  # a clip's may be read for several files, and takes much memory
def stored(path: Path, system: str) -> Activations:
    """The reference in a file, stored for the system of that name. Raises InputError for another file."""
    return load_reference(path, [one for one in systems() if one.name == system])
