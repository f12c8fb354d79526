"""The recogniser in PyTorch, from its checkpoint, beside `harness.py`."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.layers import attend, heads, rms_norm, rope
from runtime_check.pytorch.run import VERSION, arrays_of, fetch
from runtime_check.pytorch.weights import DTYPES, CheckpointWeights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Activations, Origin
from runtime_check.run.system import Task
from runtime_check.text.tokenizer import TextTokenizer

from .front_end import frames_of, tokens_of
from .layout import TEXT, Dims, dimensions
from .stages import EAR, FINAL, FRAMES, MIX, ROLE, SCORES, TOKENS, stone


def run(
    checkpoints: Mapping[str, Checkpoint], clip: Clip, task: Task, response: Sequence[int] | None, dtype: str
) -> Activations:
    """Every stage on `clip`, with the logits that predict each token of `response`, of the clip's text, or of the
    model's own first token."""
    fetch(checkpoints.values())
    checkpoint = checkpoints[ROLE]
    d, w = dimensions(checkpoint.config), CheckpointWeights(checkpoint, DTYPES[dtype])
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, TEXT)
    frames = torch.from_numpy(frames_of(clip.wave, clip.rate, d))
    ids = torch.from_numpy(tokens_of(len(frames), text.encode, d, task.language)).long()
    if response is None and clip.text is not None:
        response = text.response(clip.text)
    with torch.no_grad():
        stages = forward(w, d, text, ids[0], frames, response or [])
    greedy, given = stages[RESPONSE_LOGITS].argmax(-1), torch.tensor(response or [])
    if response is None:
        given = greedy
    differing = (greedy != given).nonzero()
    agreed = int(differing[0]) if len(differing) else len(given) - 1
    stages = {FRAMES: frames, TOKENS: ids, **stages, RESPONSE: given, GREEDY: greedy[: agreed + 1]}
    transcript = text.decode(stages[GREEDY].tolist()).strip()
    origin = Origin([checkpoint.name], clip.path.name, clip.sha256, task.language, text.sha256, VERSION, dtype)
    return Activations(arrays_of(stages, [checkpoint.name]), transcript, origin)


def forward(
    w: CheckpointWeights, d: Dims, text: TextTokenizer, prompt: Tensor, frames: Tensor, response: Sequence[int]
) -> dict[str, Tensor]:
    """Stages of the prompt, (positions, width), and the logits behind it, (tokens, vocab_size)."""
    n = len(prompt)
    ids = torch.cat([prompt, torch.tensor(list(response[:-1]), dtype=torch.long)])
    is_audio = torch.zeros(len(ids), 1, dtype=torch.bool)  # where the prompt has a frame
    is_audio[:n, 0] = prompt == text.id_of("<audio>")
    ear = torch.zeros(len(ids), d.width)
    ear[is_audio[:, 0]] = F.gelu(F.linear(frames, w("ear.weight"), w("ear.bias")))
    mix = ear + w.rows("embed.weight", ids) * ~is_audio
    stages, x = {EAR: ear[:n], MIX: mix[:n]}, mix
    positions = torch.arange(len(ids))
    mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
    for i in range(d.n_blocks):
        x = block(x, w, f"stone.{i}.", d, positions, mask)
        stages[stone(i)] = x[:n]
    final = rms_norm(x, w("final.weight"), d.eps)[n - 1 :]
    logits = final @ w("embed.weight").T
    return {**stages, FINAL: final[0], SCORES: logits[0], RESPONSE_LOGITS: logits}


def block(x: Tensor, w: CheckpointWeights, name: str, d: Dims, positions: Tensor, mask: Tensor) -> Tensor:
    """A block with norms of queries and keys: (T, width) → the same."""
    h = rms_norm(x, w(f"{name}norm1.weight"), d.eps)
    counts = (("q", d.n_heads), ("k", d.n_kv_heads), ("v", d.n_kv_heads))
    q, k, v = (heads(F.linear(h, w(f"{name}{c}.weight")), n) for c, n in counts)
    q, k = (rms_norm(y, w(f"{name}{c}_norm.weight"), d.eps) for y, c in ((q, "q"), (k, "k")))
    h = attend(rope(q, positions, d.theta), rope(k, positions, d.theta), v, mask)
    x = x + F.linear(h, w(f"{name}o.weight"))
    h = rms_norm(x, w(f"{name}norm2.weight"), d.eps)
    return x + F.linear(F.silu(F.linear(h, w(f"{name}gate.weight"))) * F.linear(h, w(f"{name}up.weight")),
                        w(f"{name}down.weight"))  # fmt: skip
