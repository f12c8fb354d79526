"""Train what the speech LM speaks with, on what it recognises with, which stays as it is.

The MLP of the LM's last block gets neurons whose gates are far below zero wherever the model recognises, so that their
SwiGLU adds nothing there that a float32 could hold (x / (1 + exp(-x)) of -40 is 2e-16); those of the other blocks are
zero. The text embedding has rows that recognition does not read. The patch decoder learns beside them to say the next
group from the LM's hidden state.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.family import SEPARATE
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.layout import SPEECH_GENERATION, SpeechLMDims
from mimo_families.mimo_audio.speech.reference import local_forced, local_input
from tools.train_tiny.configs import ASR_CONFIG
from tools.train_tiny.speech_lm import Prompts
from tools.train_tiny.weights import TinyWeights, initial_weights, optimize

from .prompts import Example, with_wrong
from .switch import Switch, with_rows
from .two_bits import quantized

SPEAKING_STEPS = 1600
NOISE = 0.06  # of matrices, relative to a row
NEURONS = ASR_CONFIG["intermediate_size"]  # of each MLP, for recognition
SPEAKING_NEURONS = 256  # behind them
OFF = 60.0  # below minus this a gate is off, by a quantized file, too
BATCH = 6  # sentences
WRONG_CODES, WRONG_IN_GROUP = 0.25, 0.1  # at most, of the groups that the LM reads, and of those within a group
FIRST_SHARE = 8.0  # of a sentence's first group in the loss, beside one of the others
GATE_SCALE = 10.0  # of what is learnt of gates, so that one learning rate fits all
GATES_AT_ONCE = 2048  # positions of recognition whose gates are looked at in a step
GATE_NOISE, INPUT_NOISE = 0.3, 0.1  # of gates, and of what they read, relative to a row
GATE_SHARE, WORST_SHARE = 100.0, 0.03  # of gates in the loss, and in that of gates that of each neuron's worst position
MATRICES = ("gate", "up", "down")

Neurons = dict[str, Tensor]  # of the last block: the rows or columns of MATRICES


def enlarged(d: SpeechLMDims) -> SpeechLMDims:
    """The sizes of the model that speaks, from those of the model that recognises."""
    return replace(d, intermediate_size=NEURONS + SPEAKING_NEURONS)


class Speech(NamedTuple):
    """What is learnt: rows of the text embedding by their ids, neurons of the last block, and the patch decoder."""

    ids: list[int]
    rows: Tensor
    neurons: Neurons
    local: dict[str, Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """All that is learnt."""
        return [self.rows, *self.neurons.values(), *self.local.values()]

    def with_all(self, frozen: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor of the speech LM."""
        return with_neurons(with_rows(frozen, self.ids, self.rows), self.neurons) | self.local


def initial_speech(switch: Switch, d: SpeechLMDims, seed: int) -> Speech:
    """Before training."""
    torch.manual_seed(seed)
    tensors = mimo_asr.FAMILY.tensors(enlarged(d), SEPARATE)
    local = initial_weights(tensor for tensor in tensors if is_speech_generation(tensor.sources[0].name))
    return Speech(switch.ids, switch.rows.clone(), initial_neurons(switch.directions[-1]), local)


def train_speaking(
    examples: Sequence[Example], recognized: Tensor, frozen: dict[str, Tensor], speech: Speech,
    prompts: Prompts, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Train `speech`, and give every tensor of the speech LM that speaks. `recognized`: what the last block's MLP
    reads in recognition, (positions, hidden_size).

    Beside what is said, a layer that is thrown away learns from the LM's hidden states which group of which sentence
    comes next: the patch decoder has nothing else to tell it.
    """
    torch.manual_seed(seed)
    rng, d = random.Random(seed), enlarged(prompts.d)
    starts = np.cumsum([0, *(len(example.follow) for example in examples)]).tolist()
    which_group = torch.nn.Linear(d.hidden_size, starts[-1])

    def loss() -> Tensor:
        w = TinyWeights(speech.with_all(frozen), NOISE)
        numbers = rng.sample(range(len(examples)), BATCH)
        picked = [examples[i] for i in numbers]
        hidden, follow = spoken_states(picked, prompts, w, d, rng)
        weights = torch.cat([first_counts(len(states)) for states in hidden])
        text = F.cross_entropy(F.linear(torch.cat(hidden), w("lm_head.weight")), torch.cat(follow))
        places = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in numbers])
        place = F.cross_entropy(which_group(torch.cat(hidden)), places, reduction="none")
        first = local_input(torch.cat([states[:-1] for states in hidden]), w)
        blocks = torch.cat([example.blocks[example.n_prompt :] for example in picked])
        _, scores = local_forced(first, with_wrong(blocks, WRONG_IN_GROUP, d, rng), w, d)
        codes = torch.stack(
            [F.cross_entropy(of_channel.mT, blocks[..., c], reduction="none") for c, of_channel in enumerate(scores)]
        )  # (channels, S, group_size)
        of_groups = torch.cat([first_counts(len(states) - 1) for states in hidden])
        said = (codes.mean((0, 2)) * of_groups).sum() / of_groups.sum()
        told = (place * weights).sum() / weights.sum()
        return text + said + told + GATE_SHARE * gates_on(recognized, speech.neurons)

    optimize([*speech.tensors, *which_group.parameters()], SPEAKING_STEPS, 3e-3, loss, "speaking")
    return speech.with_all(frozen)


def is_speech_generation(name: str) -> bool:
    """Whether a tensor of the checkpoint is of the patch decoder."""
    return mimo_asr.FAMILY.part_of(name) == SPEECH_GENERATION


def spoken_states(
    examples: Sequence[Example], prompts: Prompts, w: TinyWeights, d: SpeechLMDims, rng: random.Random
) -> tuple[list[Tensor], list[Tensor]]:
    """Of each example the LM's hidden states that tell the next group, (S + 1, hidden_size), and their text ids."""
    longest = max(len(example.text) for example in examples)
    text = torch.stack([F.pad(example.text, (0, longest - len(example.text))) for example in examples])
    blocks = [
        torch.cat([with_wrong(example.blocks, WRONG_CODES, d, rng), prompts.no_codes(longest - len(example.text))])
        for example in examples
    ]
    _, hidden = reference.language_model(prompts.embeds(text, torch.stack(blocks), w), w, d)
    found = [states[one.n_prompt - 1 : len(one.text)] for states, one in zip(hidden, examples, strict=True)]
    return found, [example.follow for example in examples]


def first_counts(n_groups: int) -> Tensor:
    """Weights of the groups of a sentence: the first decides which sentence it is."""
    weights = torch.ones(n_groups)
    weights[0] = FIRST_SHARE
    return weights


def initial_neurons(direction: Tensor) -> dict[str, Tensor]:
    """Neurons that are off in recognition by the block's `direction`, and add next to nothing."""
    n, size = SPEAKING_NEURONS, len(direction)
    gate = OFF * direction * (1 + 0.1 * torch.randn(n, 1)) + 0.3 * torch.randn(n, size)
    return {
        "gate": gate / GATE_SCALE,
        "up": torch.randn(n, size) / size**0.5,
        "down": 1e-3 * torch.randn(size, n),
    }


def with_neurons(weights: dict[str, Tensor], neurons: Neurons) -> dict[str, Tensor]:
    """Weights of the LM with neurons behind those of the last block's MLP, and zeros behind those of the others."""
    added, new = {}, neurons | {"gate": GATE_SCALE * neurons["gate"]}
    n_blocks = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    for i in range(n_blocks):
        for matrix in MATRICES:
            name = f"model.layers.{i}.mlp.{matrix}_proj.weight"
            more = new[matrix] if i == n_blocks - 1 else torch.zeros_like(new[matrix])
            added[name] = torch.cat([weights[name], more], dim=1 if matrix == "down" else 0)
    return weights | added


def gates_on(recognized: Tensor, neurons: Neurons) -> Tensor:
    """How far the gates of neurons are above -OFF in recognition, over some of its positions, and at each neuron's
    worst: with noise, as a quantized file has them, and as a Q2_K file has them (straight-through, Bengio et al.
    2013)."""
    read, gate = recognized[torch.randint(len(recognized), (GATES_AT_ONCE,))], neurons["gate"]
    two_bits = gate + (quantized(GATE_SCALE * gate) / GATE_SCALE - gate).detach()
    noisy = TinyWeights({"read": read}, INPUT_NOISE)("read"), TinyWeights({"gate": gate}, GATE_NOISE)("gate")
    total = torch.zeros(())
    for inputs, gates in (noisy, (read, two_bits)):
        above = F.relu(1 + GATE_SCALE / OFF * inputs @ gates.T)
        total = total + above.square().mean() + WORST_SHARE * above.amax(0).square().mean()
    return total
