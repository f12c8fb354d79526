"""Defects of Qwen3-ASR's pair for llama.cpp: of its two files, and of the front end that llama.cpp has."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mimo_families.qwen3_asr import front_end
from mimo_families.qwen3_asr.front_end import LLAMA_CPP
from mimo_families.qwen3_asr.system import Qwen3ASRSystem
from tests.mimo_families.qwen3_asr.tiny_clips import ADAPTER, converted

from .defect import Defect, Patch
from .defect import harness as of_harness
from .edits import TOKENIZER, File, edit, put, weights

TEXT, MMPROJ, AS_LLAMA_CPP = "tiny-qwen3 text f16", "tiny-qwen3 mmproj f16", "tiny-qwen3 text f16 as llama.cpp"
TEMPLATE = "tokenizer.chat_template"
# That of other models: with a system's text that this one was not trained with.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def misnamed(file: File) -> None:
    """By the name that CLIP's encoders have."""
    file.tensors = {name.replace("a.blk.0.ln1.", "a.blk.0.layer_norm1."): x for name, x in file.tensors.items()}


def of_adapted_model(path: Path) -> None:
    """The encoder's file of the same model with an adapter."""
    with TemporaryDirectory() as folder:
        out = converted(Path(folder), "--runtime", "llama.cpp", "--outtype", "f16", "--adapter", str(ADAPTER))
        [other] = out.glob("mmproj-*.gguf")
        path.write_bytes(other.read_bytes())


def weights_of_adapted_model(path: Path) -> None:
    """Its weights alone, under the provenance of the right file."""
    file = File.read(path)
    of_adapted_model(path)
    file.tensors = File.read(path).tensors
    file.write(path)


def said_to_be_special(file: File) -> None:
    """Which llama.cpp leaves out of what it prints."""
    file.value(TOKENIZER + "token_type")[file.value(TOKENIZER + "tokens").index("<asr_text>")] = 3


def front_end_with(**changed: Any) -> Callable[[Patch], None]:
    """llama.cpp's front end, wrong in one thing."""

    def replace(patch: Patch) -> None:
        wrong = front_end.FRONT_ENDS[LLAMA_CPP]._replace(**changed)
        patch.setitem(front_end.FRONT_ENDS, LLAMA_CPP, wrong)

    return replace


FILES = [
    Defect("a chat template of other models", TEXT, put(TEMPLATE, CHATML), static=f"key {TEMPLATE} is",
        against=f"key {TEMPLATE} is"),
    Defect("a text model without a chat template", TEXT, put(TEMPLATE, None), static=f"key {TEMPLATE} is missing"),
    Defect("`<asr_text>` as a token that is not printed", TEXT, edit(said_to_be_special),
        checkpoint="key tokenizer.ggml.token_type is 3 at", against="key tokenizer.ggml.token_type is 3 at"),
    Defect("a norm of the encoder by a name that llama.cpp skips", MMPROJ, edit(misnamed),
        static="extra tensor a.blk.0.layer_norm1.weight", opening="missing tensor a.blk.0.ln1.weight"),
    Defect("an encoder of another projector", MMPROJ, put("clip.audio.projector_type", "qwen2a"),
        static="key clip.audio.projector_type is 'qwen2a'"),
    Defect("the mmproj file of another model", MMPROJ, of_adapted_model,
        checkpoint="has no adapter; expected the adapter noise", opening="has the adapter noise; expected no adapter"),
    Defect("an encoder's weights of another model", MMPROJ, weights_of_adapted_model,
        checkpoint="tensor a.conv_out.weight: row 0", run="enc_conv_out: cos_", against="enc_conv_out: cos_"),
    Defect("positions of another table", MMPROJ, weights("a.position_embd.weight", lambda x: np.roll(x, 1, axis=0)),
        checkpoint="tensor a.position_embd.weight:", run="enc_input: cos_", against="enc_input: cos_"),
]  # fmt: skip
HARNESS = [
    of_harness("the last frame of llama.cpp's front end lost", AS_LLAMA_CPP, front_end_with(last_frames=0),
        run="enc_mel: shape"),
    of_harness("rows of llama.cpp's padding cut off", AS_LLAMA_CPP, front_end_with(whole_chunks=False),
        run="enc_input: shape"),
    of_harness("windows of llama.cpp's encoder switched off", AS_LLAMA_CPP,
        lambda patch: patch.setattr(Qwen3ASRSystem, "_window", lambda system, task: None), run="enc_layer_00: cos_"),
]  # fmt: skip
QWEN3_PAIR = [*FILES, *HARNESS]
