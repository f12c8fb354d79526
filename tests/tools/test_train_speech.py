"""The trainer of speech begins with what recognises as it was."""

from hashlib import sha256

import numpy as np
import torch

from mimo_families.mimo_audio.system import TINY
from tools.train_speech.files import is_of_decoder, recognition
from tools.train_speech.switch import EMBEDDING
from tools.train_tiny.files import read_weights

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


def test_what_recognises_is_what_0_5_0_had() -> None:
    lm = recognition(read_weights(TINY / "asr"))
    read = torch.ones(len(lm[EMBEDDING]), dtype=torch.bool)
    read[NOT_READ] = False
    encoder = {name: x for name, x in read_weights(TINY / "tokenizer").items() if not is_of_decoder(name)}
    assert digest(lm | {EMBEDDING: lm[EMBEDDING][read]}) == SPEECH_LM_OF_0_5_0
    assert digest(encoder) == AUDIO_TOKENIZER_OF_0_5_0
