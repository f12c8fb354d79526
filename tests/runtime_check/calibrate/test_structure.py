"""The inputs of a model's steps, found without its weights."""

import torch

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.qwen3_asr.calibration import open_forwards
from mimo_families.qwen3_asr.stages import ROLE
from mimo_families.qwen3_asr.system import TINY
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.calibrate.forward import StepWeights
from runtime_check.calibrate.structure import inputs_of
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.system import Task

BLOCK = "thinker.model.layers.0."


class Seen(StepWeights):
    """Weights that note the shape of every product's input."""

    def __init__(self, weights: CheckpointWeights) -> None:
        super().__init__(weights)
        self.shapes: dict[str, tuple[int, int]] = {}

    def linear(self, name: str, x: torch.Tensor, bias: str | None = None) -> torch.Tensor:
        n = x.numel() // x.shape[-1]
        self.shapes[name] = (self.shapes.get(name, (0, 0))[0] + n, x.shape[-1])
        return super().linear(name, x, bias)


def test_every_product_of_a_forward_is_found_with_the_matrices_that_share_its_input() -> None:
    checkpoint = open_checkpoint(TINY / "model")
    model = open_forwards({ROLE: checkpoint}, Task(language="english"))
    forward = model.forward(read_clip(JFK), model.response("Ask not"))
    steps = inputs_of(forward, model.checkpoint.tensors)
    seen, x = Seen(CheckpointWeights(model.checkpoint, torch.float32)), forward.start
    with torch.no_grad():
        for step in forward.steps:
            x = step(x, seen)
    found = {name: (one.positions, one.columns) for inputs in steps for one in inputs for name in one.matrices}
    assert found == seen.shapes
    block = next(inputs for inputs in steps if inputs and inputs[0].matrices[0].startswith(BLOCK))
    assert [[name.removeprefix(BLOCK) for name in one.matrices] for one in block] == [
        ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
        ["self_attn.o_proj.weight"],
        ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
        ["mlp.down_proj.weight"],
    ]
