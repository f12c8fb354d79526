"""What a model hears, greedily."""

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.pytorch.weights import Weights

from .model import EMBEDDING, Cache, decode, encode, log_mel
from .text import Prompts
from .training import input_embeds

MOST_TOKENS = 200


@torch.no_grad()
def transcribe(wave: Tensor, w: Weights, prompts: Prompts, language: str = "", context: str = "") -> str:
    """The whole response, with its head, to a clip (samples,) at 16 kHz."""
    _, [audio] = encode([log_mel(wave)], w)
    ids = prompts.prompt(len(audio), context, language)
    cache: Cache = {}
    hidden, response = decode(input_embeds(ids, audio, w, prompts.pad), w, cache), []
    while len(response) < MOST_TOKENS:
        response.append(int(F.linear(hidden[-1], w(EMBEDDING)).argmax()))
        if response[-1] in prompts.stops:
            break
        past = len(ids) + len(response) - 1
        hidden = decode(w.rows(EMBEDDING, torch.tensor(response[-1:])), w, cache, past)
    return prompts.decode(response)
