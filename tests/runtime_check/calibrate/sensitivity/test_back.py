"""Fisher information against gradients of a whole model at once, numeric differentiation, and measured divergence."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.mimo_audio import calibration as mimo
from mimo_families.mimo_audio.stages import ROLE
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from mimo_families.qwen3_asr import calibration as qwen3
from mimo_families.qwen3_asr.layout import EMBEDDING
from mimo_families.qwen3_asr.stages import ROLE as QWEN3
from mimo_families.qwen3_asr.system import TINY
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.calibrate.forward import Forward, Forwards, StepWeights, walk
from runtime_check.calibrate.sensitivity import head
from runtime_check.calibrate.sensitivity.back import walk_back
from runtime_check.pytorch.weights import Weights
from runtime_check.run.system import Task
from tests.opened import open_tiny, open_tiny_tokenizer
from tests.runtime_check.calibrate.toy import MATRICES, VOCABULARY, ToyWeights, toy_forwards

DRAWS = 3
HEAD = "lm_head.weight"


def fisher_of(forwards: Sequence[Forward], weights: Weights, seeds: Sequence[int], draws: int = DRAWS) -> dict:
    """The Fisher information of every product, the states kept in memory."""
    states = [forward.start for forward in forwards]
    kept = [list(states)]
    with torch.no_grad():
        for _ in walk(forwards, StepWeights(weights), states):
            kept.append(list(states))
    before = [lambda x=x: x for x in kept[:-1]]
    *_, back = walk_back(forwards, seeds, before, weights, draws)
    return back.squares.means()


class Watched(Weights):
    """Weights that keep every product, with its gradient."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.products = weights, list[tuple[str, Tensor]]()

    def __call__(self, name: str) -> Tensor:
        return self.weights(name)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self.weights.rows(name, ids)

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        y = self.weights.linear(name, x, bias).requires_grad_()
        y.retain_grad()
        self.products.append((name, y))
        return y


def whole(forward: Forward, weights: Weights) -> Tensor:
    """The logits of a forward, (S, vocabulary)."""
    x = forward.start
    for step in forward.steps:
        x = step(x, weights)
    return x


def tokens_of(logits: Tensor, seed: int, draws: int) -> np.ndarray:
    """Tokens drawn from the softmax of (S, vocabulary) by the inverse of its distribution: (draws, S)."""
    p = logits.detach().double().softmax(-1).numpy()
    chances = np.random.default_rng(seed).random((len(p), draws))
    return np.array([[(row.cumsum() <= u * row.sum()).sum() for u in us] for row, us in zip(p, chances, strict=True)]).T


def by_autograd(forwards: Sequence[Forward], weights: Weights, seeds: Sequence[int]) -> dict:
    """Mean squared gradients of every product, from one graph of the whole model for each clip and draw."""
    sums: dict[str, list[Tensor]] = {}
    for forward, seed in zip(forwards, seeds, strict=True):
        logits = whole(forward, weights).detach()
        for tokens in tokens_of(logits, seed, DRAWS):
            watched = Watched(weights)
            log_p = whole(forward, watched).log_softmax(-1)
            log_p.gather(-1, torch.from_numpy(tokens)[:, None]).sum().backward()
            for name, y in watched.products:
                assert y.grad is not None
                sums.setdefault(name, []).append(y.grad.flatten(0, -2).double().square())
    return {name: torch.cat(squares).mean(0).numpy() for name, squares in sums.items()}


def expected_of_head(forwards: Sequence[Forward], weights: Weights) -> np.ndarray:
    """The head's own Fisher information: p (1 - p), in the mean over positions."""
    with torch.no_grad():
        p = torch.cat([whole(forward, weights).double().softmax(-1) for forward in forwards])
    return (p * (1 - p)).mean(0).numpy()


def test_it_is_what_gradients_of_the_whole_model_give() -> None:
    forwards, weights, seeds = toy_forwards(), ToyWeights(), [3, 4, 5]
    found, expected = fisher_of(forwards, weights, seeds), by_autograd(forwards, weights, seeds)
    assert found.keys() == expected.keys() == set(MATRICES)
    for name in set(MATRICES) - {"head.weight"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["head.weight"], expected_of_head(forwards, weights), rtol=1e-6)


@pytest.mark.parametrize("name", MATRICES)
def test_it_is_the_square_of_a_difference_quotient(name: str) -> None:
    forward, seed = toy_forwards()[0], 6
    found = fisher_of([forward], ToyWeights(), [seed], 1)[name]
    weights, tokens = ToyWeights(), tokens_of(whole(forward, ToyWeights()), seed, 1)[0]
    row = int(found.argmax())
    positions = len(forward.response) if name == "head.weight" else len(forward.start)

    def log_p(row: int, position: int, step: float, of: np.ndarray) -> float:
        weights.noise = {name: torch.zeros(positions, len(found), dtype=torch.float64)}
        weights.noise[name][position, row] = step
        return float(whole(forward, weights).log_softmax(-1)[range(len(of)), of].sum())

    def quotient(row: int, position: int, of: np.ndarray) -> float:
        return (log_p(row, position, 1e-5, of) - log_p(row, position, -1e-5, of)) / 2e-5

    if name == "head.weight":  # the expectation over every token, at each position for itself
        p = whole(forward, ToyWeights()).softmax(-1).numpy()
        every = [np.full(positions, token) for token in range(VOCABULARY)]
        squares = [sum(p[i, of[0]] * quotient(row, i, of) ** 2 for of in every) for i in range(positions)]
    else:
        squares = [quotient(row, i, tokens) ** 2 for i in range(positions)]
    np.testing.assert_allclose(found[row], np.mean(squares), rtol=1e-5)


def test_a_clips_draws_and_a_groups_size_do_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    forwards, seeds = toy_forwards(), [3, 4, 5]
    together = fisher_of(forwards, ToyWeights(), seeds)
    monkeypatch.setattr(head, "POSITIONS", 1)
    apart = fisher_of(forwards, ToyWeights(), seeds)
    alone = [fisher_of([forward], ToyWeights(), [seed]) for forward, seed in zip(forwards, seeds, strict=True)]
    n = [len(forward.start) for forward in forwards]
    for name in ("up.weight", "in.weight"):
        np.testing.assert_allclose(apart[name], together[name], rtol=1e-6)
        mean = sum(one[name] * count for one, count in zip(alone, n, strict=True)) / sum(n)
        np.testing.assert_allclose(mean, together[name], rtol=1e-6)


def test_a_matrix_is_read_once_for_all_clips() -> None:
    weights, forwards = ToyWeights(), toy_forwards()
    states = [forward.start for forward in forwards]
    kept = [list(states)]
    with torch.no_grad():
        for _ in walk(forwards, StepWeights(weights), states):
            kept.append(list(states))
    weights.read.clear()
    list(walk_back(forwards, [1, 2, 3], [lambda x=x: x for x in kept[:-1]], weights))
    assert sorted(name for name in weights.read if name != "head.weight") == sorted(
        {*MATRICES, "in.bias", "norm.weight"} - {"head.weight"}
    )
    assert weights.read.count("head.weight") == 2  # for the logits, and for what is expected of a draw


class Warm(StepWeights):
    """Weights of a model at a temperature: tiny ones are so sure of each token that gradients are rounding alone."""

    def __init__(self, model: Forwards, head: str) -> None:
        super().__init__(model.weights)
        self.head = head

    def __call__(self, name: str) -> Tensor:
        return super().__call__(name) * (0.1 if name == self.head else 1)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self(name)[ids] if name == self.head else super().rows(name, ids)


def open_mimo() -> tuple[Forwards, str]:
    return mimo.open_forwards({ROLE: open_tiny(), TOKENIZER: open_tiny_tokenizer()}, Task(language="english")), HEAD


def open_qwen3() -> tuple[Forwards, str]:
    return qwen3.open_forwards({QWEN3: open_checkpoint(TINY / "model")}, Task(language="english")), EMBEDDING


@pytest.mark.parametrize("opened", [open_mimo, open_qwen3])
def test_a_family_is_walked_back_to_its_first_product(opened: Callable[[], tuple[Forwards, str]]) -> None:
    model, head = opened()
    response = model.response(JFK_TEXT)
    forwards, seeds = [model.forward(read_clip(JFK), response[:n]) for n in (4, 7)], [8, 9]
    weights = Warm(model, head)
    found, expected = fisher_of(forwards, weights, seeds), by_autograd(forwards, weights, seeds)
    assert found.keys() == expected.keys()
    for name in expected.keys() - {head}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    np.testing.assert_allclose(found[head], expected_of_head(forwards, weights), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("opened", [open_mimo, open_qwen3])
def test_divergence_by_noise_is_predicted_without_a_fit(opened: Callable[[], tuple[Forwards, str]]) -> None:
    model, head = opened()
    forwards = [model.forward(read_clip(JFK), model.response(JFK_TEXT)[:8])]
    weights = Warm(model, head)
    fisher = fisher_of(forwards, weights, [1], 12)
    expected, measured = [], []
    for name, information in list(fisher.items())[::2]:
        noisy = Noisy(weights, name, 0.01)
        with torch.no_grad():
            p, q = (whole(forwards[0], w).double().log_softmax(-1) for w in (weights, noisy))
        measured.append(float((p.exp() * (p - q)).sum()))
        expected.append(float((noisy.squares * information).sum()) / 2)
    ratios = np.log(np.array(expected) / measured)
    assert np.corrcoef(np.log(expected), np.log(measured))[0, 1] > 0.98
    assert abs(np.median(ratios)) < np.log(1.2)


class Noisy(Weights):
    """Weights with random errors in the products of one matrix, of `size` of their own; `squares` are the errors',
    summed over positions, by row."""

    def __init__(self, weights: Weights, name: str, size: float) -> None:
        self.weights, self.name, self.size = weights, name, size
        self.random = torch.Generator().manual_seed(7)
        self.squares = np.zeros(())

    def __call__(self, name: str) -> Tensor:
        return self.weights(name)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self.weights.rows(name, ids)

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        y = self.weights.linear(name, x, bias)
        if name != self.name:
            return y
        noise = torch.randn(y.shape, generator=self.random) * self.size * y.std()
        self.squares = self.squares + noise.flatten(0, -2).square().sum(0).numpy()
        return y + noise
