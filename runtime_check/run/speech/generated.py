"""Compare a generation with a reference, which was given the same groups."""

from dataclasses import replace

from ..activations import RESPONSE, Activations
from ..compare.stages import Texts, compare
from ..records import Check, ReferenceFacts
from ..system import System
from .tasks import Forced


def compare_generation(found: Check, system: System, forced: Forced, reference: Activations) -> Check:
    """The check `found` of a generation, with every stage compared."""
    assert system.text is not None
    tokens = system.text.token_texts(forced.stages[RESPONSE].tolist())
    vocabularies, texts = (system.text.sha256, reference.origin.vocabulary_sha256), (forced.text, reference.transcript)
    types = {file.role: file.judged_as for file in found.files}
    role_types = {role: name for file in reversed(found.files) for role, name in file.role_types.items()}
    made = compare(
        system.stages, forced.stages, reference.stages, types, Texts(found.main.role, vocabularies, texts, tokens),
        reference.origin.dtype, role_types,
    )  # fmt: skip
    origin = reference.origin
    return replace(
        found,
        passed=made.passed,
        reference=ReferenceFacts(tuple(origin.checkpoints), origin.torch, origin.dtype, reference.transcript),
        stages=made.stages,
        gates=made.gates,
        steps=made.steps,
        heads=made.heads,
    )
