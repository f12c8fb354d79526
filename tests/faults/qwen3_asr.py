"""Defects of Qwen3-ASR: of its files, and of its harness."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ggml
import numpy as np
from safetensors.numpy import load_file, save_file

from mimo_families.qwen3_asr import front_end, harness, prompt
from mimo_families.qwen3_asr.harness import Recognizer
from mimo_families.qwen3_asr.stages import CONV_OUT, INPUT
from mimo_families.qwen3_asr.system import Qwen3ASRSystem
from runtime_check.ggml.graph import Graph
from tests.mimo_families.qwen3_asr.test_tiny_adapter import SPELLING, one_spelling, unscaled
from tests.mimo_families.qwen3_asr.tiny_clips import ADAPTER, converted

from .defect import Defect, around
from .defect import harness as of_harness
from .edits import TOKENIZER, Damage, File, Floats, edit, put, weights

ASR, EXACT, LONG = "tiny-qwen3 asr f16", "tiny-qwen3 asr f32", "tiny-qwen3 asr f16 on a long clip"
MERGED, NO_ROW = "tiny-qwen3 asr f16 merged", "has no row that is right"


def merged_with(change: Callable[[Path], None]) -> Damage:
    """The weights of a file that was merged with a changed adapter, under the name of the right one."""

    def damage(path: Path) -> None:
        with TemporaryDirectory() as folder:
            adapter = Path(shutil.copytree(ADAPTER, Path(folder) / "adapter"))
            change(adapter)
            [other] = converted(Path(folder) / "out", "--outtype", "f16", "--adapter", str(adapter)).iterdir()
            tensors = File.read(other).tensors
        edit(lambda file: file.tensors.update(tensors))(path)

    return damage


def swap_tokens(file: File, a: str, b: str) -> None:
    tokens = file.value(TOKENIZER + "tokens")
    i, j = tokens.index(a), tokens.index(b)
    tokens[i], tokens[j] = b, a


def no_pairs(adapter: Path) -> None:
    """Pairs whose product is zero."""
    path = adapter / "adapter_model.safetensors"
    save_file({name: x * (0 if "lora_B" in name else 1) for name, x in load_file(path).items()}, path)


def mel_bins_first(x: Floats) -> Floats:
    """Columns in the order mel bin × channel, instead of channel × mel bin."""
    return x.reshape(len(x), -1, 16).transpose(0, 2, 1).reshape(len(x), -1)


def key(name: str, value: Any, right: Any, run: str) -> Defect:
    """A size that another model has."""
    said = f"key qwen3asr.{name[0]} is {value}, the source's is {right}"
    return Defect(name[1], ASR, put(f"qwen3asr.{name[0]}", value), checkpoint=said, run=run, against=said)


FILES = [
    key(("llm.rope_theta", "rope theta of another decoder"), 10000.0, 1000000.0, "layer_00: cos_"),
    key(("audio.attn_window_mode", "a file that says that its encoder has no windows"), 0, 1, "enc_layer_00: cos_"),
    key(("audio.n_window", "chunks of twice as many frames"), 100, 50, "enc_conv1: shape"),
    key(("hop_length", "hop of another front end"), 200, 160, "enc_mel: shape"),
    Defect("`<asr_text>` at a wrong id", ASR, edit(lambda f: swap_tokens(f, "<asr_text>", "<blank27>")),
        checkpoint="key tokenizer.ggml.tokens is '<asr_text>' at", run="vocabulary: tokens or merges differ",
        against="key tokenizer.ggml.tokens is '<asr_text>' at"),
    Defect("time and frequency of a convolution exchanged", ASR,
        weights("audio.conv.1.weight", lambda x: x.transpose(0, 1, 3, 2)),
        checkpoint=f"tensor audio.conv.1.weight: {NO_ROW}", run="enc_conv1: cos_",
        against=f"tensor audio.conv.1.weight: {NO_ROW}"),
    Defect("mel bins before channels in the projection of convolved chunks", ASR,
        weights("audio.conv_out.weight", mel_bins_first),
        checkpoint=f"tensor audio.conv_out.weight: {NO_ROW}", run="enc_conv_out: cos_",
        against=f"tensor audio.conv_out.weight: {NO_ROW}"),
    Defect("a head that is not the embedding", ASR, weights("output.weight", lambda x: np.roll(x, 1, axis=0)),
        checkpoint=f"tensor output.weight: {NO_ROW}", run="logits_step0: cos_",
        against=f"tensor output.weight: {NO_ROW}"),
    Defect("mel filters not normalised by area", ASR, weights("audio.mel_filters", lambda x: x / x.max(axis=0)),
        checkpoint="tensor audio.mel_filters:", run="enc_mel: cos_", against="tensor audio.mel_filters:"),
    Defect("a symmetric Hann window", EXACT, weights("audio.mel_window", lambda x: np.hanning(x.size).reshape(x.shape)),
        checkpoint="tensor audio.mel_window:", run="enc_mel: rel_rmse", against="tensor audio.mel_window:"),
    Defect("an adapter without its scale", MERGED, merged_with(unscaled),
        checkpoint="tensor audio.conv_out.weight: row 0", run="enc_layer_00: cos_",
        against="tensor audio.conv_out.weight: row 0"),
    Defect("an adapter added once, where it has two spellings", MERGED,
        merged_with(lambda adapter: one_spelling(adapter, SPELLING)),
        checkpoint="tensor blk.0.attn_q.weight: row 0", run="layer_00: cos_",
        against="tensor blk.0.attn_q.weight: row 0"),
    Defect("an adapter left out", MERGED, merged_with(no_pairs),
        checkpoint="tensor audio.conv_out.weight: row 0", run="enc_conv_out: cos_",
        against="tensor audio.conv_out.weight: row 0"),
]  # fmt: skip


def going_on(convolve: Any, model: Recognizer, *args: Any) -> Any:
    """Positions that go on from chunk to chunk."""
    stages = convolve(model, *args)
    return stages | {INPUT: stages[CONV_OUT] + front_end.sinusoids(len(stages[CONV_OUT]), model.d.audio_dim)}


def padded_with_silence(chunks: Any, mel: Floats, *args: Any) -> Any:
    return chunks(np.pad(mel, ((0, -len(mel) % 100), (0, 0)), constant_values=mel.min()), *args)


def without_head_norms(norm: Any, g: Graph, x: Any, name: str, eps: float) -> Any:
    return x if name.endswith(("attn_q_norm", "attn_k_norm")) else norm(g, x, name, eps)


def to_thirty_seconds(mel: Any, wave: Floats, *args: Any) -> Any:
    return mel(np.pad(wave, (0, 480_000 - len(wave))), *args)


HARNESS = [
    of_harness("windows of the encoder switched off", ASR,
        lambda patch: patch.setattr(Qwen3ASRSystem, "_window", lambda system, task: None), run="enc_layer_00: cos_"),
    of_harness("positions that go on from chunk to chunk", ASR, around(Recognizer, "_convolve", going_on),
        run="enc_input: cos_"),
    of_harness("a last chunk padded with silence", LONG, around(harness, "chunks", padded_with_silence),
        run="enc_conv1: cos_"),
    of_harness("rows of the padding kept", LONG,
        around(harness, "n_tokens", lambda n_tokens, frames, *args: -(-frames // 100) * 13), run="enc_input: shape"),
    of_harness("a clip padded to 30 s", ASR, around(harness, "log_mel", to_thirty_seconds), run="enc_mel: shape"),
    of_harness("mel without a floor below the clip's maximum", ASR,
        lambda patch: patch.setattr(front_end, "DYNAMIC_RANGE", 20.0), run="enc_mel: cos_"),
    of_harness("GELU by tanh", EXACT, around(Graph, "gelu", lambda gelu, g, x: ggml.ggml_gelu(g.ctx, x)),
        run="enc_conv1: rel_rmse"),
    of_harness("norms of queries and keys lost", ASR, around(Graph, "rms_norm", without_head_norms),
        run="layer_00: cos_"),
    of_harness("language not named in the prompt", ASR, around(prompt, "forced", lambda forced, task: ""),
        run="prompt_ids: shape"),
]  # fmt: skip
QWEN3_ASR = [*FILES, *HARNESS]
