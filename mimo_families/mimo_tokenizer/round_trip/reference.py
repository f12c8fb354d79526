"""The audio tokenizer in PyTorch on a clip: audio → codes, and where there is a decoder → audio again; the reference of
`../system.py`."""

from collections.abc import Mapping, Sequence

import torch

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.audio import resample
from runtime_check.pytorch.run import VERSION, arrays_of, fetch
from runtime_check.pytorch.weights import DTYPES, CheckpointWeights
from runtime_check.run.activations import Activations, Origin
from runtime_check.run.system import Task

from .. import layout
from ..decoder.reference import WINDOW, decode
from ..decoder.stages import WAVE, WAVE_CODES, WAVE_MEL
from ..layout import DEFAULT_CODEBOOKS
from ..reference import encode, encode_segments
from ..stages import CODES, ENCODE, ROLE


def run(
    checkpoints: Mapping[str, Checkpoint], clip: Clip, task: Task, response: Sequence[int] | None, dtype: str
) -> Activations:
    """Compute every stage of the audio tokenizer on `clip` in `dtype` (of DTYPES); there is no response."""
    fetch(checkpoints.values())
    with torch.no_grad():
        stages = round_trip(checkpoints[ROLE], clip, task, DTYPES[dtype])
    names = [checkpoint.name for checkpoint in checkpoints.values()]
    origin = Origin(names, clip.path.name, clip.sha256, task.language, "", VERSION, dtype)
    return Activations(arrays_of(stages, names), "", origin)


def round_trip(checkpoint: Checkpoint, clip: Clip, task: Task, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Audio → the stages tok_mel … tok_codes, and with a decoder, unless the task is to encode, dec_codes_embed …
    wave_codes: the decoded wave is encoded again."""
    d = layout.dimensions(checkpoint.config)
    if task.name == ENCODE or WINDOW not in checkpoint.tensors:
        return encode(checkpoint, clip, DEFAULT_CODEBOOKS, dtype)
    w = CheckpointWeights(checkpoint, dtype)
    wave = resample(torch.from_numpy(clip.wave), clip.rate, d.sampling_rate)
    stages = encode_segments(wave, w, d, DEFAULT_CODEBOOKS)
    stages |= decode(stages[CODES], w, d)
    again = encode_segments(stages[WAVE], w, d, DEFAULT_CODEBOOKS)
    return stages | {WAVE_MEL: again["tok_mel"], WAVE_CODES: again[CODES]}
