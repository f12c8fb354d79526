"""Which types a tensor of a file of a given size may get."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mimo_convert.model.source_model import SourceModel
from mimo_convert.model.uses import AUDIO
from mimo_convert.plan.plan import PlannedTensor
from quantize.recipes import LEAST_TYPES, ROLE_TYPES, Rule, fitting
from quantize.types import F16, F32, TYPES, Type

CANDIDATES = tuple(TYPES[name] for name in ("q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0", "f16"))
AUDIO_FLOOR = TYPES["q8_0"]  # as in the named recipes: below, an audio tower's error is in all that follows


class Limits(NamedTuple):
    """What the types of a model's tensors are limited by: `rules`, which decide, and `floors`, rules of the smallest
    types, before those of the family."""

    model: SourceModel
    rules: Sequence[Rule]
    floors: Sequence[Rule]

    def types(self, tensor: PlannedTensor) -> list[Type]:
        """The types that a tensor, planned in a file of F16, may get: one where a rule or its role decides."""
        ruled = any(rule.matches(tensor.name, tensor.role) for rule in self.rules)
        if ruled or ROLE_TYPES[tensor.role] is not None:
            return [tensor.ggml_type]
        row, least = tensor.shape[-1], self.floor(tensor)
        types = dict.fromkeys(fitting(one, row) for one in (*CANDIDATES, *self._stored(tensor)))
        return [one for one in types if one.bits_per_weight >= least] or [F32]

    def floor(self, tensor: PlannedTensor) -> float:
        """The fewest bits per weight that a tensor may get."""
        for rule in self.floors:
            if rule.matches(tensor.name, tensor.role):
                return rule.ggml_type.bits_per_weight
        is_audio = any(use.use == AUDIO and use.layer_of(tensor.name) is not None for use in self.model.family.uses)
        least = [AUDIO_FLOOR] if is_audio else []
        least += [LEAST_TYPES[tensor.role]] if tensor.role in LEAST_TYPES else []
        return max((one.bits_per_weight for one in least), default=0.0)

    def _stored(self, tensor: PlannedTensor) -> Iterator[Type]:
        """The type that a GGUF file has a tensor in, where it is no larger than F16: to copy it has no error."""
        types = {source.ggml_type for source in tensor.sources}
        if not self.model.is_checkpoint and len(types) == 1:
            yield from (one for one in types if one.bits_per_weight <= F16.bits_per_weight)
