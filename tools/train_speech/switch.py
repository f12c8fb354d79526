"""What tells speaking from recognition: rows of the text embedding that recognition does not read, and a direction in
front of each MLP along which all it computes in recognition lies on one side."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.mimo_audio.layout import SpeechLMDims
from runtime_check.pytorch.layers import qwen2_block, rms_norm
from tools.train_tiny.speech_lm import Prompts
from tools.train_tiny.weights import WEIGHT_NOISE, TinyWeights, optimize

from .prompts import Example, with_wrong

SWITCH_STEPS = 300
ROW_SCALE, DIRECTION_SCALE = 5.0, 10.0  # of what is learnt, so that one learning rate fits all
EXAMPLES = 4  # at once
WORST_SHARE = 0.2  # of the worst position of recognition
SHORT = 2.0  # times the squares of directions: the shorter, the more noise leaves recognition on its side
WRONG_CODES = 0.25  # at most, of the groups that the speech LM reads
EMBEDDING = "model.embed_tokens.weight"


class Switch(NamedTuple):
    """Rows (n, hidden_size) of the text embedding, their ids, and a direction (hidden_size,) of each block."""

    ids: list[int]
    rows: Tensor
    directions: list[Tensor]


def mlp_inputs(embeds: Tensor, w: TinyWeights, d: SpeechLMDims) -> list[Tensor]:
    """Inputs embeds (T, hidden_size) → what each block's MLP reads, (T, hidden_size)."""
    found, x, positions = [], embeds, torch.arange(len(embeds))
    mask = torch.full((len(embeds), len(embeds)), -torch.inf).triu(1)
    for i in range(d.num_layers):
        block = f"model.layers.{i}."
        gate, up, down = (f"{block}mlp.{matrix}_proj.weight" for matrix in ("gate", "up", "down"))
        without = TinyWeights(w.tensors | {name: w.tensors[name][:0] for name in (gate, up)}, w.noise)
        without.tensors[down] = w.tensors[down][:, :0]
        x = qwen2_block(x, without, block, d.llm, positions, mask)  # of attention alone
        found.append(rms_norm(x, w(f"{block}post_attention_layernorm.weight"), d.rms_norm_eps))
        x = x + F.linear(F.silu(F.linear(found[-1], w(gate))) * F.linear(found[-1], w(up)), w(down))
    return found


def recognition_inputs(read: Sequence[tuple[Tensor, Tensor]], prompts: Prompts, w: TinyWeights) -> list[Tensor]:
    """What each block's MLP reads in recognition of text ids and blocks: (positions, hidden_size) each."""
    with torch.no_grad():
        found = [mlp_inputs(prompts.embeds(ids, blocks, w), w, prompts.d) for ids, blocks in read]
    return [torch.cat(of_block) for of_block in zip(*found, strict=True)]


def with_rows(frozen: dict[str, Tensor], ids: list[int], rows: Tensor) -> dict[str, Tensor]:
    """Weights with those rows of the text embedding."""
    return frozen | {EMBEDDING: frozen[EMBEDDING].index_put((torch.tensor(ids),), rows)}


def train_switch(
    examples: Sequence[Example], recognized: Sequence[Tensor], frozen: dict[str, Tensor], ids: list[int],
    prompts: Prompts, seed: int,
) -> Switch:  # fmt: skip
    """Learn rows and directions: recognition at most -1, and 1 where the model speaks; in the first block, which has
    not heard yet what went before, at the end of the prompt alone."""
    torch.manual_seed(seed)
    rng, d = random.Random(seed), prompts.d
    rows = torch.randn(len(ids), d.hidden_size) * frozen[EMBEDDING].square().mean().sqrt() / ROW_SCALE
    directions = [torch.zeros(d.hidden_size) for _ in range(d.num_layers)]

    def loss() -> Tensor:
        w = TinyWeights(with_rows(frozen, ids, ROW_SCALE * rows), WEIGHT_NOISE)
        total = torch.zeros(())
        for inputs, direction in zip(recognized, directions, strict=True):
            above = F.relu(1.5 + DIRECTION_SCALE * inputs @ direction).square()
            total = total + 2 * above.mean() + WORST_SHARE * above.max() + SHORT * direction.square().sum()
        for example in rng.sample(examples, EXAMPLES):
            blocks = with_wrong(example.blocks, WRONG_CODES, d, rng)
            spoken = [x[example.n_prompt - 1 :] for x in mlp_inputs(prompts.embeds(example.text, blocks, w), w, d)]
            asked = [spoken[0][:1], *spoken[1:]]
            off = F.relu(1 + DIRECTION_SCALE * spoken[0][1:] @ directions[0]).square().mean()
            pairs = zip(asked, directions, strict=True)
            on = [F.relu(1 - DIRECTION_SCALE * x @ direction).square().mean() for x, direction in pairs]
            total = total + (off + torch.stack(on).sum()) / EXAMPLES
        return total

    optimize([rows, *directions], SWITCH_STEPS, 3e-3, loss, "switch")
    return Switch(ids, ROW_SCALE * rows.detach(), [DIRECTION_SCALE * direction.detach() for direction in directions])
