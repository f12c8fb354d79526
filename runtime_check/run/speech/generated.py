"""Compare a generation with a reference, which was given the same groups."""

from collections.abc import Iterator
from dataclasses import replace

from runtime_check.choices import SPEECH
from runtime_check.gate import CHOICES, LAYER, Gate, Subject, must_hold

from ..activations import RESPONSE, Activations
from ..compare.stages import Texts, compare
from ..records import Check, ReferenceFacts
from ..system import System
from .tasks import Forced, Speaker


def compare_generation(found: Check, system: System, speaker: Speaker, forced: Forced, reference: Activations) -> Check:
    """The check `found` of a generation, with every stage compared."""
    assert system.text is not None
    tokens = system.text.token_texts(forced.stages[RESPONSE].tolist())
    vocabularies, texts = (system.text.sha256, reference.origin.vocabulary_sha256), (forced.text, reference.transcript)
    types = {file.role: file.judged_as for file in found.files}
    role_types = {role: name for file in reversed(found.files) for role, name in file.role_types.items()}
    # Rounding may switch a neuron that finds a text on or off at a single position of it (docs/gates.md).
    stages = [one._replace(by_median=one.kind == LAYER) for one in system.stages]
    made = compare(
        (*stages, *speaker.stages), forced.stages, reference.stages, types,
        Texts(found.main.role, vocabularies, texts, tokens), reference.origin.dtype, role_types,
    )  # fmt: skip
    gates = [*made.gates, *groups_gate(found, bool(made.heads))]
    origin = reference.origin
    return replace(
        found,
        passed=all(gate.passed for gate in gates),
        reference=ReferenceFacts(tuple(origin.checkpoints), origin.torch, origin.dtype, reference.transcript),
        stages=made.stages,
        gates=tuple(gates),
        steps=made.steps,
        heads=made.heads,
    )


def groups_gate(found: Check, compared: bool) -> Iterator[Gate]:
    """The gate on what a task that speaks needs: a group of codes, else no head of codes was `compared`."""
    if found.speech and found.speech.reply == SPEECH:
        text = "groups of speech were compared" if compared else "no group is speech, expected one to be compared"
        yield must_hold(Subject(found.main.role, "speech", CHOICES), "groups", compared, text)
