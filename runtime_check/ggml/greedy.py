"""Greedy decoding of one or several prompts that decoders have read: their next tokens are computed together."""

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mimo_convert.listener import advance, phase
from runtime_check.choices import GGML

from .decoder import LOGITS, TOKEN, Cache, ClipCache, Decoder, Logits
from .graph import Graph

TOGETHER = 4  # clips of a step: of so many columns, own kernels sum each as they sum one, whatever the type of weights


class Prompted(NamedTuple):
    """A decoder that has read a prompt, the logits of the next token, (vocab_size,), and how many tokens the response
    may have."""

    decoder: Decoder
    logits: Logits
    n_tokens: int


@dataclass
class Response:
    """A greedy response: its tokens, the logits of which each is the argmax, and the seconds of its steps; those of a
    step of several clips count for each of them in equal parts."""

    tokens: list[int] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)
    seconds: float = 0.0


class Together:
    """The next steps of decoders of one model in one graph, which reads the weights once for all of them."""

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self.decoders, model = decoders, decoders[0].model
        self.graph = Graph(model.backend, model.weights)
        cache = Cache([ClipCache(one.state, one.size) for one in decoders])
        model.blocks(self.graph, model.embed_tokens(self.graph, len(decoders)), cache, len(decoders), keep_stages=False)

    def step(self, tokens: Sequence[int]) -> Logits:
        """Append a token to the cache of each decoder; returns the next logits, (decoders, vocab_size)."""
        of_clips = [one.next_place(clip) for clip, one in enumerate(self.decoders)]
        inputs = {name: x for of_clip in of_clips for name, x in of_clip.items()}
        inputs["positions"] = np.concatenate([of_clip["positions"] for of_clip in of_clips])
        logits = self.graph.run(inputs | {TOKEN: np.array(tokens, np.int32)})[LOGITS]
        return logits.reshape(len(tokens), -1)


def greedy(prompted: Sequence[Prompted], stops: Set[int], *, keep_logits: bool = True) -> list[Response]:
    """Decode greedily: the response to each prompt, of one model, which ends with a stop token, its most tokens, or the
    end of the context.

    Where own kernels multiply, up to TOGETHER prompts are decoded together: each gets what it would get alone, to the
    last bit. Without `keep_logits`, those of responses are empty.
    """
    responses = [Response() for _ in prompted]
    at_once = TOGETHER if len(prompted) > 1 and are_alike(prompted[0].decoder) else 1
    with phase("decode", unit="tokens"):
        for first in range(0, len(prompted), at_once):
            part = slice(first, first + at_once)
            _decode(prompted[part], responses[part], stops, keep_logits)
    return responses


def are_alike(decoder: Decoder) -> bool:
    """Whether a step of one clip and of several give the same bytes: own kernels multiply with all that is multiplied
    with."""
    Together([decoder])  # the products of a step are chosen now
    return GGML not in decoder.model.backend.products.used


def _decode(prompted: Sequence[Prompted], responses: Sequence[Response], stops: Set[int], keep_logits: bool) -> None:
    """Decode the responses of prompts together, until the last one ends."""
    running, logits = list(zip(prompted, responses, strict=True)), [one.logits for one in prompted]
    together: Together | None = None
    while running:
        begin = time.perf_counter()
        tokens = [int(one.argmax()) for one in logits]
        for (_, response), token, scores in zip(running, tokens, logits, strict=True):
            response.tokens.append(token)
            response.logits += [scores] if keep_logits else []
        advance(len(running))
        left = [pair for pair in running if not _has_ended(*pair, stops)]
        if left:
            if together is None or len(left) < len(running):
                together = Together([prompt.decoder for prompt, _ in left])
            logits = list(together.step([response.tokens[-1] for _, response in left]))
        for _, response in running:
            response.seconds += (time.perf_counter() - begin) / len(running)
        running = left


def _has_ended(prompt: Prompted, response: Response, stops: Set[int]) -> bool:
    decoder, n = prompt.decoder, len(response.tokens)
    return response.tokens[-1] in stops or n == prompt.n_tokens or decoder.n_past == decoder.size
