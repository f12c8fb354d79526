"""What tools/train_speech leaves as it was: recognition."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mimo_families.mimo_audio.layout import FAMILY, dimensions
from mimo_families.mimo_audio.prompt import with_response
from mimo_families.mimo_audio.reference import inputs_embeds
from mimo_families.mimo_audio.stages import INPUTS_EMBEDS, PROMPT
from mimo_families.mimo_audio.system import TINY
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import RESPONSE
from runtime_check.text.tokenizer import TextTokenizer
from tests.opened import TINY_REFERENCE, load_reference, open_tiny
from tools.train_speech.files import is_of_decoder, recognition
from tools.train_speech.speaking import NEURONS
from tools.train_speech.switch import EMBEDDING, mlp_inputs
from tools.train_tiny.files import read_weights
from tools.train_tiny.weights import TinyWeights

NOT_READ = [25, 261, 468, 486, 1014]  # `:`, ` s`, ` con`, ` text`, `<|sostm|>`: rows that only the speaker reads
SPEECH_LM_OF_0_5_0 = "18a0a2b8735eaf2c58179a688ef7625a98933d95182d4435107a17a0e4b27e50"
AUDIO_TOKENIZER_OF_0_5_0 = "447aca597710ed7f946e1cf944fed2e6120f5e555ea889499ca52736548c5525"


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and values, in the order of names."""
    found = sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensor.float().numpy()).tobytes())
    return found.hexdigest()


def of_recognition(folder: Path) -> dict[str, torch.Tensor]:
    """What recognition reads of a speech LM."""
    tensors = recognition(read_weights(folder))
    read = torch.ones(len(tensors[EMBEDDING]), dtype=torch.bool)
    read[NOT_READ] = False
    return tensors | {EMBEDDING: tensors[EMBEDDING][read]}


def test_what_recognises_is_what_0_5_0_had() -> None:
    encoder = {name: x for name, x in read_weights(TINY / "tokenizer").items() if not is_of_decoder(name)}
    assert digest(of_recognition(TINY / "asr")) == SPEECH_LM_OF_0_5_0
    assert digest(encoder) == AUDIO_TOKENIZER_OF_0_5_0


def test_the_neurons_of_speaking_are_off_in_recognition() -> None:
    """Their SwiGLU adds less than float32 can add to what the others give, in the prompt and the answer of JFK."""
    checkpoint, stored = open_tiny(), load_reference(TINY_REFERENCE).stages
    d = dimensions(checkpoint.config)
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, FAMILY.text)
    ids = with_response(stored[PROMPT], stored[RESPONSE].tolist(), d)
    embeds = inputs_embeds(ids, text, CheckpointWeights(checkpoint, torch.float32), d)[INPUTS_EMBEDS]
    weights = read_weights(TINY / "asr")
    for i, read in enumerate(mlp_inputs(embeds, TinyWeights(weights), d)):
        gate = read @ weights[f"model.layers.{i}.mlp.gate_proj.weight"][NEURONS:].T
        assert F.silu(gate).abs().max() < 1e-9
        assert len(gate[0]) > 0
