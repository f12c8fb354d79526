"""The reference of a generation in PyTorch: the prompt of a task and the groups behind it, from a checkpoint."""

import torch

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.pytorch.run import VERSION, arrays_of
from runtime_check.pytorch.weights import DTYPES, CheckpointWeights
from runtime_check.run.activations import RESPONSE, Activations, Origin, Stages
from runtime_check.run.speech.tasks import Asked, Prompt, Sampling, SpeechTask
from runtime_check.text.tokenizer import TextTokenizer

from ..layout import FAMILY, dimensions
from ..speech.generation import clean_text
from ..speech.reference import force
from ..speech.stages import FORCED_BLOCKS
from .settings import settings_of
from .table import MimoAudioTask


def run(
    checkpoint: Checkpoint, task: SpeechTask, asked: Asked, history: Prompt | None, sampling: Sampling, stages: Stages,
    dtype: str,
) -> Activations:  # fmt: skip
    """Every stage of the groups in `stages`, RESPONSE and FORCED_BLOCKS, behind the task's prompt, in one pass over the
    speech LM's shards in `dtype` (of DTYPES), and what the task's samplers choose at each place."""
    assert isinstance(task, MimoAudioTask)
    assert FAMILY.text is not None
    checkpoint.fetch()
    d = dimensions(checkpoint.config)
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, FAMILY.text)
    prompt, settings = task.make_prompt(asked, text, d, history), settings_of(task, sampling, text)
    ids, blocks = (torch.from_numpy(stages[name]).long() for name in (RESPONSE, FORCED_BLOCKS))
    with torch.no_grad():
        found = force(CheckpointWeights(checkpoint, DTYPES[dtype]), prompt, ids, blocks, d, text, settings)
    origin = Origin([checkpoint.name], "", "", "", text.sha256, VERSION, dtype)
    return Activations(arrays_of(found, [checkpoint.name]), clean_text(ids[:-1].tolist(), text), origin)
