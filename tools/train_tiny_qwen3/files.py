"""The checkpoint as a folder."""

from pathlib import Path
from typing import Any

from torch import Tensor

from tools.train_tiny.files import save_shards, write_json

from .configs import AUDIO, TEXT
from .model import EMBEDDING
from .text import AUDIO_END, AUDIO_PAD, AUDIO_START, Prompts

HEAD = "thinker.lm_head.weight"  # which the published checkpoint stores beside the embedding that it is tied to


def save_checkpoint(tensors: dict[str, Tensor], prompts: Prompts, folder: Path) -> None:
    """config.json with the vocabulary's ids, and two shards."""
    ids = {"audio_token_id": AUDIO_PAD, "audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
    ids |= {"eos_token_id": "<|im_end|>", "pad_token_id": "<|endoftext|>"}
    thinker: dict[str, Any] = {
        "model_type": "qwen3_asr_thinker",
        "audio_config": AUDIO,
        "text_config": TEXT,
        **{key: prompts.tokenizer.token_to_id(token) for key, token in ids.items()},
        "initializer_range": 0.02,
        "dtype": "bfloat16",
    }
    config = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "thinker_config": thinker,
    }
    write_json(folder / "config.json", config)
    save_shards(tensors | {HEAD: tensors[EMBEDDING].clone()}, folder)
